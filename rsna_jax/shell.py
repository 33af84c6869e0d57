"""How a command ends: one line for what a user can mend, and its exit code."""

import errno
import logging
import os
import sys
from collections.abc import Callable

from rsna_jax import errors

_MENDABLE = {
  errno.ENOSPC: 'the disk is full: free some space and run the same command',
  errno.EDQUOT: 'the quota is used up: free some space and run it again',
  errno.EROFS: 'the file system is read-only: choose another folder',
  errno.EACCES: 'no permission: choose another folder, or mend its rights',
  errno.EPERM: 'no permission: choose another folder, or mend its rights',
  errno.EEXIST: 'a file stands where a folder is wanted: choose another',
  errno.ENOTDIR: 'a part of the path is a file: choose another folder',
  errno.EISDIR: 'a folder stands where a file is wanted',
  errno.ENAMETOOLONG: 'the name is too long',
  errno.ENOENT: 'no such file or folder, and it cannot be made: choose another',
}


class Stopped(Exception):
  """A run that stopped in good order on a signal.

  Args:
    code: the exit code, 128 + the signal's number.
    message: what was saved, and how to go on.
  """

  def __init__(self, code: int, message: str):
    super().__init__(message)
    self.code = code


def run(command: Callable[[], int | None]) -> int:
  """Runs a command and returns its exit code.

  Returns:
    0; 2 for bad input, with one line on standard error; 130 or 143 for a
    signal. Faults of ours keep their traceback, and Python exits with 1.
  """
  try:
    code = command() or 0
    sys.stdout.flush()
    return code
  except errors.InputError as error:
    return _complain(str(error))
  except Stopped as stop:
    print(stop, file=sys.stderr)
    return stop.code
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return 130
  except BrokenPipeError:
    # The reader of our output has gone, as `head` does.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except OSError as error:
    if error.errno in _MENDABLE:
      path = f'{error.filename}: ' if error.filename else ''
      return _complain(f'{path}{_MENDABLE[error.errno]}')
    raise


def leave(code: int) -> None:
  """Ends the process of a command with `run`'s exit code.

  After an error at once, without the exit handlers of libraries: on a full disk
  they would print tracebacks below our line.
  """
  if code:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(0)


def set_up_logging() -> None:
  """Our own messages plainly on standard error; others' from warnings up."""
  logging.basicConfig(
    level=logging.WARNING, format='%(levelname)s: %(message)s', force=True
  )
  for name in ('absl', 'orbax', 'jax', 'jax._src'):
    # What they say of an error is in the exception as well.
    logging.getLogger(name).setLevel(logging.CRITICAL)


def _complain(message: str) -> int:
  print('error: ' + ' '.join(message.split()), file=sys.stderr)
  return 2
