"""Checkpoints: written by Orbax, verified by a SHA-256 manifest of our own.

Orbax restores flipped bits silently, so every restore first compares the files
with the manifest that was written after the save; a damaged or unfinished step
is named and the one before is taken. Which steps there are, their scores and
which are kept is decided here: Orbax's manager opens the files of every step,
and fails where one of them is damaged.
"""

import concurrent.futures
import dataclasses
import errno
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from rsna_jax import arrays, errors, files, integrity, step_folders

MAX_BYTES = 64 << 30  # of a step; that of the largest model has 3
# In the folder of a step; the first is what Orbax's manager calls it.
_STATE = 'default'
_NOTES = 'notes.json'
_OVERHEAD_BYTES = 2**16  # of Orbax's own files
_LOG = logging.getLogger('rsna_jax')


class CheckpointError(errors.RunError):
  """No checkpoint of a run can be used."""


class NotFiniteError(errors.RunError):
  """A state holds NaN or infinity, and was not saved."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """A verified checkpoint.

  Attributes:
    state: the state's arrays, on the host.
    step: how many training steps it has seen.
    scored: whether it was evaluated.
    notes: what `save` was given.
  """

  state: Any
  step: int
  scored: bool = False
  notes: Mapping = dataclasses.field(default_factory=dict)


class Checkpoints:
  """The checkpoints of one run, `workdir/checkpoints/<step>/`.

  Args:
    workdir: the run directory.
    keep: how many of the latest steps stay, beside the best one.
    read_only: nothing is created, deleted or saved.
  """

  def __init__(
    self, workdir: str | os.PathLike, *, keep: int = 2, read_only: bool = False
  ):
    self.folder = pathlib.Path(workdir).absolute() / 'checkpoints'
    self._keep = keep
    self._read_only = read_only
    self._thread = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint')
    self._saving: tuple[int, concurrent.futures.Future] | None = None
    # Step -> whether it has a score. Remembered, because processes that looked
    # at the disk, each at its own time, would not agree on what to save.
    self._there: dict[int, bool] = {}
    if not read_only:
      if jax.process_index() == 0:
        self.folder.mkdir(parents=True, exist_ok=True)
        step_folders.remove_unfinished(self.folder)
      _meet('checkpoints')  # nobody looks at what is being removed
      for step in finished_steps(workdir):
        self._there[step] = step_folders.is_scored(self.folder / str(step))

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, kind, *unused) -> None:
    try:
      self.close()
    except Exception:
      if kind is None:
        raise  # else what ended the run says more

  def close(self) -> None:
    """Waits for what is being saved, and raises what `wait` raises."""
    try:
      self.wait()
    finally:
      self._thread.shutdown()

  def wait(self) -> None:
    """Returns when what was given to `save` is on the disk.

    Raises:
      OSError: it does not fit; the steps before are whole.
    """
    if self._saving is None:
      return
    (step, saving), self._saving = self._saving, None
    try:
      saving.result()
    except BaseException:
      self._there.pop(step, None)
      raise

  def settle(self) -> None:
    """As `wait`, until all processes of the run find the same on the disk.

    Only the first of them writes the manifest, after the others are done.
    """
    self.wait()
    _meet('saved')

  def steps(self) -> list[int]:
    """Finished steps, in order."""
    self.wait()
    return finished_steps(self.folder.parent)

  def latest(self) -> int | None:
    steps = self.steps()
    return steps[-1] if steps else None

  def best(self) -> int | None:
    """The step with the highest score on the validation split."""
    self.wait()
    return step_folders.best(self.folder) or self.latest()

  def save(
    self,
    state: Any,
    step: int,
    score: float | None = None,
    notes: Mapping | None = None,
    *,
    wait: bool = True,
  ) -> None:
    """Writes the state, and then its manifest.

    A save that was begun before is waited for. A finished step stays as it is,
    except that one without a score may get it.

    Args:
      state: a tree of arrays, replicated on every device.
      step: how many training steps it has seen.
      score: of the validation split, higher is better; None: not evaluated.
        NaN counts as the lowest.
      notes: what else is needed to go on, as JSON has it.
      wait: False returns as soon as the state is copied; what goes wrong
        later is raised by the next call.

    Raises:
      NotFiniteError: there is NaN or infinity outside of `opt_state`.
      OSError: the disk is full; the steps before are whole.
    """
    self.wait()
    folder = self.folder / str(step)
    if step in self._there:
      if score is not None and not self._there[step]:
        self._there[step] = True
        if jax.process_index() == 0:
          step_folders.write_score(folder, score)
          integrity.seal(folder)
      return
    # Copies, because the next step may write over the memory of this state.
    state = jax.tree.map(lambda leaf: np.array(leaf), jax.device_get(state))
    bad = arrays.not_finite(state, without='opt_state')
    if bad is not None:
      raise NotFiniteError(f'{bad} is not finite')
    self._check_space(state, step)
    self._there[step] = score is not None
    self._saving = (
      step,
      self._thread.submit(self._write, state, folder, score, dict(notes or {})),
    )
    if wait:
      self.wait()

  def _write(self, state, folder, score, notes) -> None:
    first = jax.process_index() == 0
    if first:
      step_folders.remove(folder)
      folder.mkdir()
    arrays.write(folder / _STATE, state)
    if not first:
      return
    if notes:
      files.write_json(folder / _NOTES, notes)
    if score is not None:
      step_folders.write_score(folder, score)
    integrity.seal(folder)
    step_folders.remove_old(self.folder, self._keep)

  def restore(self, like: Any, step: int | None = None) -> Restored | None:
    """Reads the newest undamaged checkpoint, or exactly `step`.

    Args:
      like: a tree of the same structure; its leaves' shapes are required.
      step: None for the newest; a damaged one falls back to the one before,
        with a warning that names it.

    Returns:
      None where the run has no checkpoint yet.

    Raises:
      CheckpointError: `step` is missing or damaged, every step is damaged, or
        the arrays are another model's.
    """
    if not self._read_only:
      self.settle()
    steps = self.steps()
    if step is not None and step not in steps:
      raise CheckpointError(
        f'{self.folder}: no checkpoint of step {step}; there are: '
        + (', '.join(map(str, steps)) or 'none')
      )
    candidates = [step] if step is not None else steps[::-1]
    damaged = []
    for candidate in candidates:
      damage = self.damage(candidate)
      if damage is None:
        restored = self._restore(like, candidate)
        if not self._read_only:
          # They will be trained, and saved, again; once nobody reads them.
          _meet(f'restored {candidate}')
          for other in damaged:
            self._there.pop(other, None)
            if jax.process_index() == 0:
              step_folders.remove(self.folder / str(other))
        return restored
      damaged.append(candidate)
      _LOG.warning(
        'checkpoint %s is damaged (%s); trying the one before',
        self.folder / str(candidate),
        damage,
      )
    if candidates:
      raise CheckpointError(
        f'{self.folder}: damaged: step(s) '
        + ', '.join(map(str, candidates))
        + '; restore the folder from a copy, or remove it to start again'
      )
    return None

  def damage(self, step: int) -> str | None:
    """What differs from the manifest of a step, or None."""
    self.wait()
    return integrity.damage(self.folder / str(step), MAX_BYTES)

  def _restore(self, like: Any, step: int) -> Restored:
    folder = self.folder / str(step)
    try:
      notes = {}
      if (folder / _NOTES).is_file():
        notes = json.loads((folder / _NOTES).read_text())
      state = arrays.read(folder / _STATE, like)
      return Restored(state, step, step_folders.is_scored(folder), notes)
    except arrays.OtherArrays as error:
      raise CheckpointError(
        f'{folder}: {error}: this run is of another model or metadata; choose '
        'another --workdir'
      ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
      # As the manifest has it, and yet none that Orbax wrote.
      raise CheckpointError(
        f'{folder}: no checkpoint that can be read '
        f'({type(error).__name__}); restore the folder from a copy'
      ) from error

  def _check_space(self, state: Any, step: int) -> None:
    """Refuses a save that cannot fit, before Orbax starts on it."""
    needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state))
    needed += _OVERHEAD_BYTES
    free = shutil.disk_usage(self.folder).free
    if free < needed:
      raise OSError(
        errno.ENOSPC,
        os.strerror(errno.ENOSPC),
        f'{self.folder / str(step)} ({needed:,} bytes wanted, {free:,} free)',
      )


def finished_steps(workdir: str | os.PathLike) -> list[int]:
  """Steps of a run whose checkpoints have a manifest, in order."""
  return step_folders.finished(pathlib.Path(workdir) / 'checkpoints')


def _meet(name: str) -> None:
  """Waits for the other processes of the run to come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)
