"""Members of a zip, read where they are: nothing of it is ever unpacked.

A process reads an archive's directory once, and keeps it: that of RSNA's has
54,706 entries.
"""

import functools
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO

from rsna_jax import errors

MAX_BYTES = 2 << 30  # of a member


def members(
  outer: str, open_file: Callable[[str], BinaryIO]
) -> list[zipfile.ZipInfo]:
  """The files in an archive.

  Args:
    outer: path or URL of the archive.
    open_file: opens it; a function of a module.

  Raises:
    errors.DataError: not a zip, cut short, or made to do harm.
    OSError: it cannot be opened.
  """
  found = _directory(outer, open_file).infolist()
  return [info for info in found if not info.is_dir()]


def read(outer: str, name: str, open_file: Callable[[str], BinaryIO]) -> bytes:
  """Content of a member, which its checksum vouches for.

  Raises:
    errors.DataError: damaged, encrypted, or packed in an unknown way.
    OSError: no such archive or member, or it cannot be read.
  """
  directory = _directory(outer, open_file)
  path = f'zip://{name}::{outer}'
  try:
    info = directory.getinfo(name)
  except KeyError:
    raise FileNotFoundError(path) from None
  if info.file_size > MAX_BYTES:
    raise errors.DataError(
      f'{path}: {info.file_size} bytes: a file has at most {MAX_BYTES}'
    )
  if info.flag_bits & 1:
    raise errors.DataError(f'{path}: encrypted: unpack it with its password')
  try:
    return directory.read(info)
  except (zipfile.BadZipFile, zlib.error, EOFError) as error:
    raise errors.DataError(
      f'{path}: damaged in the zip ({error}): copy the zip again'
    ) from error
  except NotImplementedError as error:
    raise errors.DataError(
      f'{path}: packed in a way Python cannot read ({error}): unpack it'
    ) from error


def _directory(
  outer: str, open_file: Callable[[str], BinaryIO]
) -> zipfile.ZipFile:
  if '://' in outer:
    return _open(outer, open_file, None)
  found = os.stat(outer)
  return _open(outer, open_file, (found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=2)
def _open(
  outer: str,
  open_file: Callable[[str], BinaryIO],
  unused_state: tuple[int, int] | None,
) -> zipfile.ZipFile:
  file = open_file(outer)
  try:
    directory = zipfile.ZipFile(file)
    seen: set[str] = set()
    for info in directory.infolist():
      name = info.filename
      # Nothing is unpacked; but who wrote such a name meant harm.
      if '..' in re.split(r'[\\/]', name) or re.match(r'[\\/]|\w:', name):
        raise errors.DataError(
          f"{outer}: {name!a} leads out of it: not the competition's zip"
        )
      if name in seen:
        raise errors.DataError(f'{outer}: {name!a} is in it twice: zip it anew')
      seen.add(name)
  except (zipfile.BadZipFile, EOFError, UnicodeError) as error:
    file.close()
    raise errors.DataError(
      f'{outer}: not a whole zip ({error}): copy it again'
    ) from error
  except BaseException:
    file.close()
    raise
  return directory
