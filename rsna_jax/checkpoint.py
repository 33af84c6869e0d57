"""Checkpoints: written by Orbax, verified by a SHA-256 manifest of our own.

Orbax restores flipped bits silently, so every restore first compares the files
with the manifest that was written after the save; a damaged or unfinished step
is named and the one before is taken.
"""

import dataclasses
import errno
import hashlib
import json
import logging
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from rsna_jax import errors, files

MAX_BYTES = 64 << 30  # of a step; that of the largest model has 3
_MANIFEST = 'manifest.json'
_OVERHEAD_BYTES = 2**16  # of Orbax's own files
_LOG = logging.getLogger('rsna_jax')


class CheckpointError(errors.RunError):
  """No checkpoint of a run can be used."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """A verified checkpoint: the state's arrays on the host, and its step."""

  state: Any
  step: int


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
    self._read_only = read_only
    if not read_only:
      self._drop_unfinished()
    self._manager = ocp.CheckpointManager(
      self.folder,
      item_handlers=ocp.PyTreeCheckpointHandler(),
      options=ocp.CheckpointManagerOptions(
        # The manifest has to follow the files, so saving does not return
        # before they are there.
        enable_async_checkpointing=False,
        best_fn=_score,
        best_mode='max',
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(
          [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(
              get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
            ),
          ]
        ),
        create=not read_only,
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
      ),
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *unused) -> None:
    self.close()

  def close(self) -> None:
    self._manager.close()

  def steps(self) -> list[int]:
    """Finished steps, in order."""
    return finished_steps(self.folder.parent)

  def latest(self) -> int | None:
    steps = self.steps()
    return steps[-1] if steps else None

  def best(self) -> int | None:
    """The step with the highest score on the validation split."""
    scored = []
    for step in self.steps():
      path = self.folder / str(step) / 'metrics' / 'metrics'
      try:
        scored.append((float(json.loads(path.read_text())['score']), step))
      except (OSError, ValueError, KeyError, TypeError):
        continue
    return max(scored)[1] if scored else self.latest()

  def save(self, state: Any, step: int, score: float | None = None) -> None:
    """Writes the state, and then its manifest.

    Args:
      state: a tree of arrays, replicated on every device.
      step: how many training steps it has seen.
      score: of the validation split, higher is better; None: not evaluated.
        NaN counts as the lowest.

    Raises:
      OSError: the disk is full; the steps before are whole.
    """
    if step in self.steps():
      return
    self._check_space(state, step)
    metrics = None
    if score is not None:
      metrics = {'score': float(score) if np.isfinite(score) else -1.0}
    try:
      self._manager.save(
        step,
        args=ocp.args.PyTreeSave(jax.device_get(state)),
        metrics=metrics,
        force=True,
      )
      self._manager.wait_until_finished()
    except ValueError as error:
      # tensorstore reports a full disk as a ValueError.
      if 'No space left' in str(error) or 'ENOSPC' in str(error):
        raise OSError(
          errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder)
        ) from error
      raise
    if jax.process_index() == 0:
      folder = self.folder / str(step)
      files.write_json(folder / _MANIFEST, _digests(folder))

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
        try:
          restored = Restored(self._read(like, candidate), candidate)
        except CheckpointError:
          raise
        except (ValueError, KeyError, TypeError, OSError) as error:
          # As the manifest has it, and yet none that Orbax wrote.
          raise CheckpointError(
            f'{self.folder / str(candidate)}: no checkpoint that can be read '
            f'({type(error).__name__}); restore the folder from a copy'
          ) from error
        if not self._read_only:
          # They will be trained, and saved, again.
          for other in damaged:
            self._manager.delete(other)
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
    folder = self.folder / str(step)
    try:
      expected = json.loads((folder / _MANIFEST).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
      return f'{_MANIFEST}: {type(error).__name__}'
    if not isinstance(expected, dict):
      return f'{_MANIFEST}: not a list of files'
    # A file of nothing but a hole would be read for hours.
    size = sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())
    if size > MAX_BYTES:
      return f'{size >> 30} GiB, at most {MAX_BYTES >> 30} are read'
    found = _digests(folder)
    for name in sorted(expected.keys() | found.keys()):
      if name not in found:
        return f'{name} is missing'
      if name not in expected:
        return f'{name} does not belong there'
      if found[name] != expected[name]:
        return f'{name} has changed'
    return None

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

  def _read(self, like: Any, step: int) -> Any:
    # Shapes first: Orbax would cut or pad an array silently.
    where = self.folder / str(step)
    found = self._manager.item_metadata(step)
    template = jax.tree.map(
      lambda leaf: (
        np.zeros(np.shape(leaf), np.asarray(leaf).dtype)
        if not hasattr(leaf, 'dtype')
        else np.zeros(leaf.shape, leaf.dtype)
      ),
      like,
    )
    expected = _shapes(template)
    stored = _shapes(found.tree if hasattr(found, 'tree') else found)
    for name in sorted(expected.keys() | stored.keys()):
      if expected.get(name) != stored.get(name):
        raise CheckpointError(
          f'{where}: {name} is {stored.get(name, "missing")}, the model has '
          f'{expected.get(name, "no such array")}: this run is of another '
          'model or metadata; choose another --workdir'
        )
    return self._manager.restore(
      step,
      args=ocp.args.PyTreeRestore(
        item=template,
        restore_args=jax.tree.map(
          lambda leaf: ocp.RestoreArgs(
            restore_type=np.ndarray, dtype=leaf.dtype
          ),
          template,
        ),
      ),
    )

  def _drop_unfinished(self) -> None:
    """Removes steps that were being written when the process died."""
    if jax.process_index() != 0 or not self.folder.is_dir():
      return
    finished = set(self.steps())
    for path in self.folder.iterdir():
      if (
        path.is_dir() and path.name.isdigit() and int(path.name) not in finished
      ):
        _LOG.warning('checkpoint %s was never finished: removed', path)
        shutil.rmtree(path)


def finished_steps(workdir: str | os.PathLike) -> list[int]:
  """Steps of a run whose checkpoints have a manifest, in order."""
  return sorted(
    int(path.parent.name)
    for path in pathlib.Path(workdir).glob(f'checkpoints/*/{_MANIFEST}')
    if path.parent.name.isdigit()
  )


def _score(metrics: dict) -> float:
  return metrics['score']


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path) -> str:
  """The same name for an attribute, a key and an index of a tree."""
  parts = []
  for key in path:
    for attribute in ('name', 'key', 'idx'):
      if hasattr(key, attribute):
        parts.append(str(getattr(key, attribute)))
        break
  return '/'.join(parts)


def _digests(folder: pathlib.Path) -> dict[str, str]:
  digests = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name != _MANIFEST:
      with path.open('rb') as file:
        digests[str(path.relative_to(folder))] = hashlib.file_digest(
          file, 'sha256'
        ).hexdigest()
  return digests
