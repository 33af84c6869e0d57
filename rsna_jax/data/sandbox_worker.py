"""The child of `data/sandbox.py`: answers items until its pipe closes.

A module of its own, so that a child imports as little as can be before its
limits are set.
"""

import importlib
import multiprocessing.connection
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from rsna_jax import errors

# A decoder has no business writing files.
_FILE_BYTES = 2**20


def serve() -> None:
  """Runs with the arguments pipe, function, bytes of memory, seconds."""
  handle, function, memory_bytes, time_s = sys.argv[1:]
  pipe = multiprocessing.connection.Connection(int(handle))
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  _limit(resource.RLIMIT_AS, int(memory_bytes))
  try:
    module, _, name = function.partition(':')
    apply = importlib.import_module(module)
    for part in name.split('.'):
      apply = getattr(apply, part)
  except BaseException as error:
    _reply(pipe, 'failed', f'{function}: {type(error).__name__}: {error}')
    return
  _limit(resource.RLIMIT_FSIZE, _FILE_BYTES)
  _reply(pipe, 'ready', '')
  while True:
    try:
      item = pipe.recv()
    except (EOFError, OSError):
      return
    # The parent keeps the wall time; this ends a child whose parent is gone.
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime + float(time_s) + 2
    _limit(resource.RLIMIT_CPU, int(seconds))
    _reply(pipe, *_apply(apply, item))


def _apply(function: Callable[[Any], Any], item: Any) -> tuple[str, Any]:
  try:
    return 'value', function(item)
  except MemoryError:
    return 'memory', ''
  except errors.InputError as error:
    return 'input', str(error)
  except BaseException as error:
    text = str(error).splitlines()
    return 'error', ': '.join([type(error).__name__, *text[:1]])


def _reply(
  pipe: multiprocessing.connection.Connection, kind: str, value: Any
) -> None:
  try:
    data = pickle.dumps((kind, value), protocol=5)
  except MemoryError:
    data = pickle.dumps(('memory', ''), protocol=5)
  pipe.send_bytes(data)


def _limit(what: int, value: int) -> None:
  _, hard = resource.getrlimit(what)
  if hard != resource.RLIM_INFINITY:
    value = min(value, hard)
  resource.setrlimit(what, (value, hard))
