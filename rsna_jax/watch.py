"""What a training loop keeps an eye on: its speed, and the signals."""

import os
import signal
import threading
import time

_SAY_EVERY_S = 10.0


class Clock:
  """Speed and the time left, without the evaluations."""

  def __init__(self, start: int, stop: int, batch_size: int):
    self._step = start
    self._stop = stop
    self._batch_size = batch_size
    self._then = time.monotonic()
    self._said = 0.0

  def lap(self, step: int) -> float:
    now = time.monotonic()
    speed = (step - self._step) * self._batch_size / max(now - self._then, 1e-9)
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


class Signals:
  """Remembers SIGINT and SIGTERM; a second one ends the process at once."""

  def __init__(self):
    self.received = 0
    self._before = {}

  def __enter__(self) -> 'Signals':
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
        self._before[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *unused) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _receive(self, number, unused_frame) -> None:
    if self.received:
      os._exit(128 + number)
    self.received = number


def _duration(seconds: float) -> str:
  seconds = round(min(seconds, 1e8))
  return f'{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}'
