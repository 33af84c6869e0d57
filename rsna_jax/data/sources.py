"""Where images come from: a folder, the competition's zip, or fsspec's URLs.

A folder is read with `os` alone, and fsspec is imported for URLs only. The
children of a pool call `read` themselves, so that an image crosses no process.
"""

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from rsna_jax import errors
from rsna_jax.data import archive, tree

MAX_BYTES = archive.MAX_BYTES
TRIES = 3
WAIT_S = 0.5  # before the second try, and twice as long before each next
PATIENCE_S = 60.0
# What a network disk answers now and then; all else is the file's own fault.
_PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)
_PACKAGES = {
  'gs': 'gcsfs',
  'gcs': 'gcsfs',
  's3': 's3fs',
  's3a': 's3fs',
  'abfs': 'adlfs',
  'az': 'adlfs',
  'http': 'aiohttp',
  'https': 'aiohttp',
}

_log = logging.getLogger('rsna_jax')


def open_tree(src: str | os.PathLike) -> tree.Tree | None:
  """The files below a folder, a zip or a URL; None where there is no folder.

  Args:
    src: a folder; a path that ends in .zip; `zip://::PATH` or
      `zip://FOLDER::PATH`, whose PATH may be a URL itself; or a URL of fsspec.

  Raises:
    errors.DataError: not readable, an unknown protocol, or a missing package.
    OSError: no such archive, or no permission.
  """
  src = os.fspath(src)
  if src.startswith('zip://'):
    inside, outer = _zip_parts(src)
    return _zip_tree(inside.strip('/'), outer)
  if '://' in src:
    return _url_tree(src)
  if os.path.isdir(src):
    return tree.Folder(src)
  if src.lower().endswith('.zip') and os.path.isfile(src):
    return _zip_tree('', src)
  return None


def read(path: str) -> bytes:
  """Content of a file that a tree named; tried again where that can help.

  Raises:
    errors.DataError: names the file, and the remedy.
  """
  for attempt in range(TRIES):
    try:
      return _read(path)
    except errors.InputError:
      raise
    except FileNotFoundError:
      raise errors.DataError(
        f'{path}: no such file any more: put it back, or leave it out'
      ) from None
    except PermissionError:
      raise errors.DataError(
        f'{path}: no permission to read it: mend its rights'
      ) from None
    except Exception as error:
      # Each package that fsspec calls has errors of its own.
      passing = '://' in path or getattr(error, 'errno', None) in _PASSING
      if not passing or attempt == TRIES - 1:
        tries = f' in {TRIES} tries' if passing else ''
        raise errors.DataError(
          f'{path}: cannot be read{tries} ({_line(error)}): run the same '
          'command once it can'
        ) from error
    time.sleep(WAIT_S * 2**attempt)
  raise AssertionError


@contextlib.contextmanager
def patience(what: str) -> Iterator[None]:
  """Says now and then that something is still waited for.

  A disk that does not answer holds its caller without an end or an error.
  """
  done = threading.Event()

  def watch() -> None:
    seconds = 0.0
    while not done.wait(PATIENCE_S):
      seconds += PATIENCE_S
      _log.warning(
        '%s: not listed after %.0f s; does it answer?', what, seconds
      )

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()


def is_private(path: str) -> bool:
  """Whether no other process can read it: fsspec's memory://."""
  return 'memory://' in path


def _read(path: str) -> bytes:
  if path.startswith('zip://'):
    name, outer = _zip_parts(path)
    return archive.read(outer, name, _open)
  if '://' in path:
    system, name = _system(path)
    _check_size(path, system.size(name) or 0)
    return system.cat_file(name)
  with open(path, 'rb', buffering=0) as file:
    _check_size(path, os.fstat(file.fileno()).st_size)
    return file.readall()


def _check_size(path: str, size: int) -> None:
  if size > MAX_BYTES:
    raise errors.DataError(
      f'{path}: {size} bytes: a file has at most {MAX_BYTES}'
    )


def _zip_parts(url: str) -> tuple[str, str]:
  """Name of a member or folder, and path or URL of the archive."""
  inside, mark, outer = url.removeprefix('zip://').partition('::')
  return (inside, outer) if mark else ('', inside)


def _zip_tree(inside: str, outer: str) -> tree.Listed:
  if '://' not in outer:
    # Whoever reads may stand in another folder.
    outer = os.path.abspath(outer)
  before = f'{inside}/' if inside else ''
  try:
    found = archive.members(outer, _open)
  except errors.InputError:
    raise
  except FileNotFoundError:
    raise errors.DataError(f'{outer}: no such zip: check the path') from None
  except Exception as error:
    raise errors.DataError(
      f'{outer}: cannot be opened ({_line(error)}): check the address, and who '
      'you are logged in as'
    ) from error
  files = (
    (info.filename.removeprefix(before), info.file_size, f'{info.CRC:08x}')
    for info in found
    if info.filename.startswith(before)
  )
  name = f'zip://{inside}::{outer}' if inside else outer
  return tree.Listed(name, f'zip://{before}', f'::{outer}', files)


def _open(outer: str) -> BinaryIO:
  if '://' not in outer:
    return open(outer, 'rb')
  system, path = _system(outer)
  return system.open(path, 'rb')


def _url_tree(src: str) -> tree.Listed:
  if '::' in src:
    raise errors.DataError(
      f'{src}: of chained URLs only zip://FOLDER::URL is known; mount it'
    )
  src = src.rstrip('/')
  system, root = _system(src)
  try:
    listing = system.find(root, detail=True)
  except Exception as error:
    raise errors.DataError(
      f'{src}: cannot be listed ({_line(error)}): check the address, and who '
      'you are logged in as'
    ) from error
  files = (
    (path.removeprefix(root).lstrip('/'), info['size'] or 0, _state(info))
    for path, info in listing.items()
  )
  return tree.Listed(src, f'{src}/', '', files)


def _system(url: str) -> tuple[Any, str]:
  """fsspec's file system of a URL, and the path in it."""
  try:
    import fsspec
  except ImportError:
    raise errors.DataError(f'{url}: pip install fsspec') from None
  try:
    return fsspec.core.url_to_fs(url)
  except ImportError as error:
    package = _PACKAGES.get(url.partition('://')[0])
    remedy = f'pip install {package}' if package else _line(error)
    raise errors.DataError(f'{url}: a package is missing: {remedy}') from error
  except ValueError as error:
    raise errors.DataError(
      f'{url}: {_line(error)}: give a folder, a .zip, or a URL such as gs:// '
      'or s3://'
    ) from error
  except Exception as error:
    raise errors.DataError(
      f'{url}: cannot be opened ({_line(error)})'
    ) from error


def _state(info: dict[str, Any]) -> str:
  """What of a listing's entry changes when the file does."""
  for key in ('ETag', 'etag', 'md5Hash', 'mtime', 'LastModified', 'created'):
    if info.get(key):
      return f'{key}={info[key]}'
  return ''


def _line(error: BaseException) -> str:
  return ' '.join(str(error).split())[:200] or type(error).__name__
