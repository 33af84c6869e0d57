"""The history of a run: metrics.jsonl, and TensorBoard events beside it.

metrics.jsonl is the record: after a restart it equals that of a run that was
never stopped. The events are for looking on, and TensorFlow has no part in
them.
"""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping

import jax
import tensorboardX

from rsna_jax import errors, files

NAME = 'metrics.jsonl'


class Writer:
  """Appends scalars to the history of a run directory.

  Call `resume` before the first `scalars` of a process.
  """

  def __init__(
    self, workdir: str | os.PathLike, *, enabled: bool | None = None
  ):
    """Opens nothing yet.

    Args:
      workdir: the run directory.
      enabled: whether to write; None: in the first of several processes alone.
    """
    self._workdir = pathlib.Path(workdir)
    self._path = self._workdir / NAME
    self._enabled = jax.process_index() == 0 if enabled is None else enabled
    self._file = None
    self._events = None

  def resume(self, step: int = 0) -> None:
    """Goes on after `step`: what was written of later steps is removed.

    A last line that a killed process left unfinished is removed too.

    Raises:
      errors.RunError: the file is damaged elsewhere.
      OSError: the folder cannot be written.
    """
    if not self._enabled:
      return
    self.close()
    self._workdir.mkdir(parents=True, exist_ok=True)
    records = read(self._workdir)
    kept = [record for record in records if record['step'] <= step]
    text = ''.join(_line(record) for record in kept)
    if not self._path.is_file() or self._path.read_bytes() != text.encode():
      files.write_text(self._path, text)
    self._file = self._path.open('a', encoding='utf-8', buffering=1)
    # purge_step hides the events of later steps that older files hold. The
    # suffix, since names have whole seconds, and a quick restart would replace
    # the file before it.
    self._events = tensorboardX.SummaryWriter(
      logdir=str(self._workdir),
      purge_step=step + 1 if records else None,
      filename_suffix=f'.{time.time_ns()}',
    )

  def scalars(
    self,
    step: int,
    values: Mapping[str, float],
    *,
    reproducible: bool = True,
  ) -> None:
    """Writes named numbers of a step.

    Args:
      step: the number of finished training steps.
      values: name -> number; what is not finite is null in the JSON.
      reproducible: False for what depends on the machine, such as a speed: it
        goes to the events alone, so that equal runs have equal histories.

    Raises:
      OSError: the disk is full, say; it carries the file's name.
    """
    if not self._enabled:
      return
    if self._file is None:
      self.resume(step)
    values = {name: float(value) for name, value in values.items()}
    if reproducible:
      record = {'step': int(step)} | {
        name: value if math.isfinite(value) else None
        for name, value in values.items()
      }
      with _named(self._path):
        self._file.write(_line(record))
    with _named(self._workdir / 'events'):
      for name, value in values.items():
        if math.isfinite(value):
          self._events.add_scalar(name, value, int(step))

  def close(self) -> None:
    """Flushes and closes both files; a second call does nothing."""
    if self._file is not None:
      self._file.close()
      # The events are for looking on: that they do not fit on a full disk must
      # not hide what else did not.
      with contextlib.suppress(OSError):
        self._events.close()
    self._file = self._events = None

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *unused) -> None:
    self.close()


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
  """Names the file in an error that does not."""
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


def read(workdir: str | os.PathLike) -> list[dict]:
  """The records of a run directory's metrics.jsonl, in order.

  Returns:
    Dicts with an int `step` and named floats, None where not finite; nothing
    where there is no file. An unfinished last line is left out.

  Raises:
    errors.RunError: another line is damaged.
  """
  path = pathlib.Path(workdir) / NAME
  if not path.is_file():
    return []
  # Bytes, because a line may be torn in the middle of a character.
  lines = path.read_bytes().split(b'\n')
  records = []
  # What follows the last newline is empty, or torn.
  for number, line in enumerate(lines[:-1], start=1):
    try:
      record = json.loads(line)
      record['step'] = int(record['step'])
    except (ValueError, KeyError, TypeError) as error:
      if number == len(lines) - 1:
        break
      raise errors.RunError(
        f'{path}: line {number} is damaged; remove the line'
      ) from error
    records.append(record)
  return records


def _line(record: Mapping) -> str:
  return json.dumps(record, allow_nan=False) + '\n'
