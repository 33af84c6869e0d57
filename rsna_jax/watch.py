"""What a run keeps an eye on: its speed, signals, and data that do not come."""

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rsna_jax import shell

_SAY_EVERY_S = 10.0
_LOOK_EVERY_S = 0.25
_LOG = logging.getLogger('rsna_jax')


class Clock:
  """Speed and the time left, without the evaluations.

  Attributes:
    waited_s: seconds that were spent waiting for data, kept by the caller.
    waiting: the share of them in the last lap; an upper bound of what the
      device stood still.
  """

  def __init__(self, start: int, stop: int, batch_size: int):
    self._step = start
    self._stop = stop
    self._batch_size = batch_size
    self._then = time.monotonic()
    self._said = 0.0
    self.waited_s = self._waited_then_s = 0.0
    self.waiting = 0.0

  def lap(self, step: int) -> float:
    now = time.monotonic()
    took = max(now - self._then, 1e-9)
    speed = (step - self._step) * self._batch_size / took
    self.waiting = (self.waited_s - self._waited_then_s) / took
    self._waited_then_s = self.waited_s
    self._step, self._then = step, now
    return speed

  def pause_ended(self) -> None:
    self._then = time.monotonic()

  def say(self, step: int, loss: float, speed: float) -> None:
    now = time.monotonic()
    if now - self._said < _SAY_EVERY_S and step < self._stop:
      return
    self._said = now
    left = (self._stop - step) * self._batch_size / max(speed, 1e-9)
    print(
      f'step {step}/{self._stop} loss {loss:.4f}, {speed:.1f} images/s, '
      f'{_duration(left)} left',
      flush=True,
    )


class Interrupted(Exception):
  """A signal came during work that may be given up."""


_raising: 'Signals | None' = None


def poll() -> None:
  """Raises `Interrupted` inside of `Signals.raising`, where a signal came."""
  if _raising is not None and _raising.received:
    raise Interrupted


class Signals:
  """What SIGINT and SIGTERM do; a second one ends the process at once.

  At first they raise `shell.Stopped`, since nothing is lost yet. `noted` and
  `raising` are for the parts of a run where there is something to save.

  Args:
    alone: False in one of several processes: SIGTERM is left to JAX, which
      tells the others, and SIGINT becomes one; `received` knows of that alone.
  """

  def __init__(self, alone: bool = True):
    self.received = 0
    self.left = False  # whether `Stopped` was raised
    self._alone = alone
    self.message = 'the same command starts again'
    self._respond = self._leave
    self._before = {}

  def __enter__(self) -> 'Signals':
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM)[: 1 + self._alone]:
        self._before[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *unused) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @contextlib.contextmanager
  def noted(self) -> Iterator[None]:
    """Inside, a signal is remembered in `received`, and nothing more."""
    before, self._respond = self._respond, lambda: None
    try:
      yield
    finally:
      self._respond = before

  @contextlib.contextmanager
  def raising(self) -> Iterator[None]:
    """Inside, `poll` raises `Interrupted` once a signal has come.

    Not the handler: an exception that comes while a thread is started, say,
    ends as another one.
    """
    global _raising
    with self.noted():
      _raising = self
      try:
        poll()
        yield
      finally:
        _raising = None

  def check(self) -> None:
    """Raises `shell.Stopped` where a signal was noted."""
    if self.received:
      self._leave()

  def _leave(self) -> None:
    self.left = True
    raise shell.Stopped(
      128 + self.received,
      f'stopped by {signal.Signals(self.received).name}: {self.message}',
    )

  def _receive(self, number, unused_frame) -> None:
    if self.received:
      os._exit(128 + number)
    self.received = number
    if self._alone:
      self._respond()
    else:
      os.kill(os.getpid(), signal.SIGTERM)


class Ahead:
  """Takes items from an iterator in a thread, so that a wait can be ended.

  A read that hangs, as on a mount that has gone, cannot be interrupted; whoever
  waits for it can. The thread is left behind then.

  Args:
    items: what to iterate over; closed in the end where it is a generator.
    where: they come from, for the message.
    stall_s: seconds without an item after which a warning says so.

  Attributes:
    waited_s: seconds that `get` has waited in all.
  """

  def __init__(self, items: Iterator, where: str, stall_s: float):
    self._items = items
    self._where = where
    self._stall_s = stall_s
    self._queue: queue.Queue = queue.Queue(1)
    self._closed = False
    self.waited_s = 0.0
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def __enter__(self) -> 'Ahead':
    return self

  def __exit__(self, kind, *unused) -> None:
    self._closed = True
    with contextlib.suppress(queue.Empty):
      self._queue.get_nowait()  # makes room, if the thread waits for some
    if kind is None:
      self._thread.join()

  def __iter__(self) -> Iterator:
    with self:
      while (item := self.get()) is not None:
        yield item

  def get(self, stop: Callable[[float], Any] = lambda waited: False) -> Any:
    """The next item; None at the end, or when `stop` says so.

    Args:
      stop: is given the seconds waited so far, a few times a second.

    Raises:
      Interrupted: see `poll`.
      Exception: what the iterator raised.
    """
    began = said = time.monotonic()
    while True:
      poll()
      try:
        item, error = self._queue.get(timeout=_LOOK_EVERY_S)
        break
      except queue.Empty:
        now = time.monotonic()
        if stop(now - began):
          return None
        if now - said > self._stall_s:
          said = now
          _LOG.warning(
            'no data for %.0f s: waiting for %s; Ctrl-C or SIGTERM saves and '
            'stops',
            now - began,
            self._where,
          )
    self.waited_s += time.monotonic() - began
    if error is not None:
      raise error
    return item

  def _run(self) -> None:
    try:
      for item in self._items:
        if not self._put(item, None):
          break
      else:
        self._put(None, None)
    except Exception as error:
      self._put(None, error)
    finally:
      if hasattr(self._items, 'close'):
        self._items.close()

  def _put(self, item: Any, error: Exception | None) -> bool:
    while not self._closed:
      try:
        self._queue.put((item, error), timeout=_LOOK_EVERY_S)
        return True
      except queue.Full:
        continue
    return False


def _duration(seconds: float) -> str:
  seconds = round(min(seconds, 1e8))
  return f'{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}'
