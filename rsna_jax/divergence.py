"""Losses that are no numbers, or explode: found, named, and left out.

Which batches a run has left out is a file of its directory, `skipped.json`:
batch t is a function of the config, t and that list, so that a run that was
started again, or sees the list from its first step on, is the same run.
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rsna_jax import errors, files

NAME = 'skipped.json'
_FIRST = 5  # losses of a network that knows nothing
_WINDOW = 50  # latest losses
_LEAST = 20  # losses before anything can explode


class DivergedError(errors.RunError):
  """The loss is no longer a number, or exploded."""


@dataclasses.dataclass
class Bad(Exception):
  """A step whose result must not be kept.

  Attributes:
    step: its number, from 1.
    reason: in words.
    ids: of the images of its batch, of this process's part.
  """

  step: int
  reason: str
  ids: Sequence[int]


class Guard:
  """Tells a loss that exploded from one that is a little high.

  The measure is the larger of two medians: of the very first losses, those of
  a network that knows nothing, and of the latest. Against the latest alone, a
  network that has learned its set by heart would explode at every hard example,
  and some have within 20 steps.

  Args:
    factor: a loss above this many times the measure has exploded; 0: none has.
  """

  def __init__(self, factor: float):
    self._factor = factor
    self._first: list[float] = []
    self._last: collections.deque[float] = collections.deque(maxlen=_WINDOW)

  def check(self, values: Mapping[str, float]) -> str | None:
    """What is wrong with a step, or None.

    Args:
      values: its metrics by name, `loss` among them; each step once, in order.
    """
    shown = ', '.join(f'{name} {value}' for name, value in values.items())
    if not all(math.isfinite(value) for value in values.values()):
      return shown
    loss = values['loss']
    if self._factor and len(self._last) >= _LEAST:
      measure = max(map(statistics.median, (self._first, self._last)))
      # A surrogate is 0 in batches that say nothing: no measure of anything.
      if loss > self._factor * measure > 0:
        return (
          f'{shown}: above train.explode_factor={self._factor:g} times '
          f'{measure:.4g}'
        )
    if len(self._first) < _FIRST:
      self._first.append(loss)
    self._last.append(loss)
    return None

  def notes(self) -> dict[str, list[float]]:
    """What it remembers, for `restore`."""
    return {'first_losses': self._first[:], 'last_losses': list(self._last)}

  def restore(
    self, notes: Mapping[str, Sequence[float]], history: Sequence[Mapping]
  ) -> None:
    """Goes on after a checkpoint, or starts anew.

    Args:
      notes: what `notes` gave when the checkpoint was saved; without them, the
        losses that are in the history take their place.
      history: records of metrics.jsonl up to the checkpoint.
    """
    losses = [x['train/loss'] for x in history if x.get('train/loss')]
    self._first = list(notes.get('first_losses', losses[:_FIRST]))
    self._last.clear()
    self._last.extend(notes.get('last_losses', losses[-_WINDOW:]))


class Skipped:
  """The batches that a run has left out.

  Args:
    workdir: the run directory.

  Raises:
    errors.RunError: its list is damaged.
  """

  def __init__(self, workdir: str | os.PathLike):
    self._path = pathlib.Path(workdir) / NAME
    self.records: list[dict] = []
    if self._path.is_file():
      try:
        found = json.loads(self._path.read_text(encoding='utf-8'))
        self.records = [{**one, 'batch': int(one['batch'])} for one in found]
      except (ValueError, KeyError, TypeError) as error:
        raise errors.RunError(
          f'{self._path}: damaged ({type(error).__name__}): restore it from a '
          'copy, or start a new --workdir'
        ) from error

  def number(self, step: int) -> int:
    """The number of the batch that step `step`, from 0, is trained on."""
    for left_out in sorted(one['batch'] for one in self.records):
      step += left_out <= step
    return step

  def add(self, bad: Bad, ids: Sequence[int], write: bool) -> None:
    """Leaves out the batch of a step from now on.

    Args:
      bad: the step.
      ids: all images of the batch.
      write: whether this process writes the list.
    """
    self.records.append(
      {
        'batch': self.number(bad.step - 1),
        'step': bad.step,
        'reason': bad.reason,
        'image_ids': [int(x) for x in ids],
      }
    )
    if write:
      files.write_json(self._path, self.records)

  def forget(self, write: bool) -> None:
    """Empties the list, as a run that starts from nothing does."""
    self.records = []
    if write:
      self._path.unlink(missing_ok=True)


class Order:
  """An order of examples without the batches that are left out.

  It has what the order has; whatever takes a step is asked for another one.
  """

  def __init__(self, order: Any, skipped: Skipped):
    self._order = order
    self._skipped = skipped

  def __getattr__(self, name: str) -> Any:
    value = getattr(self._order, name)
    if not callable(value):
      return value
    return lambda step, *args: value(self._skipped.number(step), *args)
