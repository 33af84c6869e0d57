"""Progress of long work: a bar on a terminal, elsewhere a line now and then."""

import sys
import time

import tqdm

_EVERY_S = 10.0


class Progress:
  """Counts steps of work on standard error.

  Used as a context manager; `advance` is called from one thread.
  """

  def __init__(self, total: int, label: str, unit: str):
    self._total = total
    self._label = label
    self._unit = unit
    self._done = 0
    self._bar = None

  def __enter__(self) -> 'Progress':
    self._start = self._last = time.monotonic()
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        total=self._total, desc=self._label, unit=f' {self._unit}'
      )
    return self

  def __exit__(self, *exc_info) -> None:
    if self._bar is not None:
      self._bar.close()

  def advance(self, count: int = 1) -> None:
    """Notes that `count` more steps are done."""
    self._done += count
    if self._bar is not None:
      self._bar.update(count)
      return
    now = time.monotonic()
    if now - self._last >= _EVERY_S:
      self._last = now
      rate = self._done / (now - self._start)
      left = (self._total - self._done) / rate
      print(
        f'{self._label}: {self._done} of {self._total} {self._unit}, '
        f'{rate:.1f} per second, {left:.0f} s left',
        file=sys.stderr,
        flush=True,
      )
