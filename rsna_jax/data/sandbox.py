"""Untrusted bytes are decoded in child processes with limits.

A file can crash a decoder, or make it eat time and memory. A child that dies
or is stopped costs one item, never the run. Children are plain Python
processes rather than multiprocessing's, so that a script that prepares data
without a `__main__` guard, or a server with threads, can use them as well.
"""

import collections
import concurrent.futures
import importlib
import io
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rsna_jax import errors

MEMORY_BYTES = 4 * 2**30
TIME_S = 60.0
START_S = 120.0
RESULT_BYTES = 2**28
# Items under way beyond the one awaited, for each worker.
_WINDOW = 8
# One thread each; and glibc keeps the memory of one image for the next, since
# fresh pages cost a tenth of the time that decoding takes.
ENVIRONMENT = {
  'OMP_NUM_THREADS': '1',
  'OPENBLAS_NUM_THREADS': '1',
  'MKL_NUM_THREADS': '1',
  'NUMBA_NUM_THREADS': '1',
  'MALLOC_MMAP_MAX_': '0',
  'MALLOC_TRIM_THRESHOLD_': str(1 << 40),
}


class SandboxError(errors.InputError):
  """A child could not do its item: bad input, a crash, or a limit.

  Its `about` is 'time', 'memory', 'result' (too big, or not a plain value),
  'crash', 'killed' (from outside, or with the pool: no fault of the item),
  'fault' (the function raised), or '' for bad input.
  """


class Pool:
  """Child processes that apply one function to items.

  Safe to use from several threads. Children start on the first item, are
  replaced when they die, and end with the pool or with the parent, however it
  ends. They do not see Ctrl-C: the parent does.
  """

  def __init__(
    self,
    function: Callable[[Any], Any] | str,
    workers: int = 1,
    *,
    memory_bytes: int = MEMORY_BYTES,
    time_s: float = TIME_S,
    environment: Mapping[str, str] | None = None,
  ):
    """Starts nothing yet.

    Args:
      function: of a module, or 'module:name'. It takes an item and returns
        plain values: None, numbers, text, bytes, numpy arrays, and lists,
        tuples and dicts of them.
      workers: number of children.
      memory_bytes: address space of a child, the Python in it included.
      time_s: wall time of an item.
      environment: variables of the children, beside those of this process.
    """
    if not isinstance(function, str):
      function = f'{function.__module__}:{function.__qualname__}'
    self.workers = max(1, workers)
    self._function = function
    self._memory_bytes = memory_bytes
    self._time_s = time_s
    self._environment = ENVIRONMENT | dict(environment or {})
    self._closed = False
    self._lock = threading.Lock()
    self._alive: set[_Child] = set()
    # Last in, first out: few items keep few children busy.
    self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
    for _ in range(self.workers):
      self._idle.put(None)

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def call(self, item: Any, *, name: str = 'item') -> Any:
    """The function's value of one item.

    Args:
      item: anything that pickles.
      name: of the item, for messages.

    Raises:
      SandboxError: the function raised, the child died, or a limit was hit.
    """
    child = self._idle.get()
    try:
      if child is not None and not child.alive():
        self._end(child)
        child = None
      if child is None:
        child = self._start()
      return child.ask(item, name)
    finally:
      if child is not None and not child.usable:
        self._end(child)
        child = None
      self._idle.put(child)

  def map(
    self, items: Iterable[Any], *, name: Callable[[Any], str] = str
  ) -> Iterator[tuple[int, Any]]:
    """Yields (index, value or SandboxError) of each item, in order.

    Args:
      items: taken from as results are; a bounded number is under way.
      name: of an item, for messages.
    """
    pending: collections.deque = collections.deque()
    executor = concurrent.futures.ThreadPoolExecutor(self.workers)
    try:
      for index, item in enumerate(items):
        future = executor.submit(self._answer, item, name(item))
        pending.append((index, future))
        if len(pending) > _WINDOW * self.workers:
          yield self._first(pending)
      while pending:
        yield self._first(pending)
    finally:
      # Left before the end, what is under way is of no use any more.
      futures = [future for _, future in pending]
      for future in futures:
        future.cancel()
      while not all(future.done() for future in futures):
        self._end_all()
        concurrent.futures.wait(futures, timeout=0.05)
      executor.shutdown()

  @staticmethod
  def _first(pending: collections.deque) -> tuple[int, Any]:
    index, future = pending[0]
    answer = future.result()
    pending.popleft()
    return index, answer

  def close(self) -> None:
    """Ends the children; items under way are answered with an error."""
    self._closed = True
    self._end_all()

  def _answer(self, item: Any, name: str) -> Any:
    try:
      return self.call(item, name=name)
    except SandboxError as error:
      return error

  def _start(self) -> '_Child':
    child = _Child(
      self._function, self._memory_bytes, self._time_s, self._environment
    )
    with self._lock:
      self._alive.add(child)
    if self._closed:
      self._end(child)
      raise SandboxError('stopped', 'killed')
    try:
      child.wait_until_ready()
    except BaseException:
      self._end(child)
      raise
    return child

  def _end(self, child: '_Child') -> None:
    with self._lock:
      self._alive.discard(child)
    child.end()

  def _end_all(self) -> None:
    with self._lock:
      children = list(self._alive)
    for child in children:
      child.kill()
    for child in children:
      child.process.wait()


class _Child:
  """The parent's side of one child process."""

  def __init__(
    self,
    function: str,
    memory_bytes: int,
    time_s: float,
    environment: Mapping[str, str],
  ):
    self.usable = True
    self._time_s = time_s
    self._memory_bytes = memory_bytes
    self._pipe, theirs = multiprocessing.Pipe()
    self._expired = False
    environment = os.environ | environment
    environment['PYTHONPATH'] = os.pathsep.join(
      p or os.getcwd() for p in sys.path
    )
    code = 'from rsna_jax.data import sandbox_worker as w; w.serve()'
    arguments = (theirs.fileno(), function, memory_bytes, time_s)
    with theirs:
      self.process = subprocess.Popen(
        [sys.executable, '-P', '-c', code, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
      )

  def alive(self) -> bool:
    return self.process.poll() is None

  def kill(self) -> None:
    self.usable = False
    self.process.kill()

  def end(self) -> None:
    self.kill()
    self.process.wait()
    self._pipe.close()

  def wait_until_ready(self) -> None:
    try:
      kind, text = self._receive(START_S)
    except EOFError:
      kind, text = 'failed', self._death()
    if kind != 'ready':
      raise RuntimeError(f'a sandbox worker did not start: {text}')

  def ask(self, item: Any, name: str) -> Any:
    try:
      self._pipe.send(item)
      kind, value = self._receive(self._time_s)
    except (EOFError, OSError, pickle.UnpicklingError) as error:
      self.usable = False
      if self._expired:
        about, reason = 'time', f'not done after {self._time_s:g} s'
      elif isinstance(error, EOFError | ConnectionError):
        death = self._death()
        about = 'killed' if death == 'SIGKILL' else 'crash'
        reason = f'decoding it crashed ({death})'
      else:
        about, reason = 'result', f'its result cannot be taken ({error})'
      raise SandboxError(
        f'{name}: {reason}: the file is damaged or not a mammogram; leave it '
        'out or export it again',
        about,
      ) from None
    if kind == 'value':
      return value
    if kind == 'memory':
      # What is left of its memory may be too little for the next item.
      self.usable = False
      raise SandboxError(
        f'{name}: needs more than {self._memory_bytes / 2**30:.1f} GB of '
        'memory: the file is damaged or not a mammogram; leave it out',
        'memory',
      )
    if kind == 'input':
      raise SandboxError(value)
    raise SandboxError(f'{name}: {value}', 'fault')

  def _receive(self, time_s: float) -> tuple[str, Any]:
    timer = threading.Timer(time_s, self._expire)
    timer.daemon = True
    timer.start()
    try:
      data = self._pipe.recv_bytes(RESULT_BYTES)
    finally:
      timer.cancel()
    return _Unpickler(io.BytesIO(data)).load()

  def _expire(self) -> None:
    self._expired = True
    self.kill()

  def _death(self) -> str:
    try:
      code = self.process.wait(5)
    except subprocess.TimeoutExpired:
      return 'it closed its pipe'
    return signal.Signals(-code).name if code < 0 else f'exit code {code}'


class _Unpickler(pickle.Unpickler):
  """Takes plain values and arrays alone: a child may have been taken over."""

  _ALLOWED = frozenset(
    {
      ('numpy', 'dtype'),
      ('numpy', 'ndarray'),
      ('numpy._core.numeric', '_frombuffer'),
      ('numpy._core.multiarray', '_reconstruct'),
      ('numpy._core.multiarray', 'scalar'),
    }
  )

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in self._ALLOWED:
      raise pickle.UnpicklingError(f'{module}.{name} is not a plain value')
    return getattr(importlib.import_module(module), name)
