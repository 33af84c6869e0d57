import os
import signal
import threading
import time

import pytest

from rsna_jax import shell, watch


def test_items_come_in_order_and_the_iterator_is_closed_in_its_thread():
  closed = []

  def items():
    try:
      yield from range(5)
    finally:
      closed.append(threading.current_thread())

  assert list(watch.Ahead(items(), 'here', 60)) == list(range(5))
  assert len(closed) == 1 and closed[0] is not threading.main_thread()


def test_an_error_of_the_iterator_comes_after_what_came_before():
  def items():
    yield 1
    raise OSError('gone')

  with watch.Ahead(items(), 'here', 60) as ahead:
    assert ahead.get() == 1
    with pytest.raises(OSError, match='gone'):
      ahead.get()


def test_a_wait_is_told_and_can_be_given_up(caplog):
  go_on = threading.Event()

  def items():
    yield 1
    go_on.wait(60)
    yield 2

  waits = []

  def stop(waited):
    waits.append(waited)
    return 'waiting for /mnt/away' in caplog.text

  with watch.Ahead(items(), '/mnt/away', 0.3) as ahead:
    assert ahead.get(stop) == 1
    assert ahead.get(stop) is None
    assert waits[-1] >= 0.3
    go_on.set()
    assert ahead.get() == 2


def test_a_reader_that_is_left_early_ends():
  ahead = watch.Ahead(iter(range(10**9)), 'here', 60)
  with pytest.raises(ValueError, match='enough'), ahead:
    assert ahead.get() == 0
    raise ValueError('enough')
  ahead._thread.join(10)
  assert not ahead._thread.is_alive()


def send(number):
  os.kill(os.getpid(), number)
  time.sleep(0.01)


def test_a_signal_ends_at_once_is_noted_or_interrupts():
  with watch.Signals() as signals:
    with signals.noted():
      send(signal.SIGTERM)
      assert signals.received == signal.SIGTERM
      with pytest.raises(watch.Interrupted), signals.raising():
        raise AssertionError('it came before')
    with pytest.raises(shell.Stopped) as stop:
      signals.check()
  assert stop.value.code == 143 and 'SIGTERM' in str(stop.value)
  with watch.Signals() as signals:
    signals.message = 'nothing is lost'
    with pytest.raises(shell.Stopped, match='SIGINT: nothing is lost') as stop:
      send(signal.SIGINT)
  assert stop.value.code == 130
  with watch.Signals() as signals, signals.noted():
    with pytest.raises(watch.Interrupted), signals.raising():
      send(signal.SIGTERM)
      list(watch.Ahead(iter([1]), 'here', 60))
    assert signals.received == signal.SIGTERM


def test_a_second_signal_ends_the_process():
  child = os.fork()
  if not child:
    with watch.Signals() as signals, signals.noted():
      send(signal.SIGTERM)
      send(signal.SIGTERM)
    os._exit(0)
  assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


def test_the_share_of_a_lap_that_was_spent_waiting_is_known(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(watch.time, 'monotonic', lambda: now[0])
  clock = watch.Clock(0, 10, 4)
  now[0], clock.waited_s = 110.0, 1.0
  assert clock.lap(5) == 2.0 and clock.waiting == 0.1
  now[0], clock.waited_s = 120.0, 6.0
  clock.lap(10)
  assert clock.waiting == 0.5


def test_waiting_for_an_item_is_counted():
  def items():
    yield 1
    time.sleep(0.2)
    yield 2

  with watch.Ahead(items(), 'here', 60) as ahead:
    assert (ahead.get(), ahead.get()) == (1, 2)
    assert ahead.waited_s >= 0.15
