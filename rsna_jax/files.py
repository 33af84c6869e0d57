"""Writing files so that a reader never sees half of one."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from rsna_jax import errors


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
  """Writes `data` to `path` at once: temporary file, fsync, rename.

  Raises:
    OSError: the disk is full or the folder cannot be written; `path` is then
      as it was before, and no temporary file is left.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(
    prefix=f'.{path.name}.', suffix='.tmp', dir=path.parent
  )
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)
    os.replace(temporary, path)
  except BaseException as error:
    pathlib.Path(temporary).unlink(missing_ok=True)
    if isinstance(error, OSError) and error.filename is None:
      error.filename = str(path)
    raise


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes `text` as UTF-8, with the promises of `write_bytes`."""
  write_bytes(path, text.encode('utf-8'))


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` as indented JSON, with the promises of `write_bytes`."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')


@contextlib.contextmanager
def folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Makes a folder before the work that fills it, so that it is refused early.

  Folders that were not there are taken away again where the work ends by an
  exception and has put nothing into them.

  Raises:
    errors.ConfigError: the path is empty.
    OSError: it cannot be made.
  """
  if not os.fspath(path):
    raise errors.ConfigError('--out is empty: name a folder')
  path = pathlib.Path(path)
  added = []
  for one in (path, *path.absolute().parents):
    if os.path.lexists(one):
      break
    added.append(one)
  try:
    path.mkdir(parents=True, exist_ok=True)
    yield path
  except BaseException:
    for one in added:
      with contextlib.suppress(OSError):  # it is not empty
        one.rmdir()
    raise
