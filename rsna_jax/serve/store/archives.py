"""Zip files of a store: written whole or not at all, and read with distrust.

A member is stored as it is, so nothing grows when it is read; its name is one
that a store has, so nothing lands elsewhere; and there are no links, since only
bytes are taken, whatever a member says that it is.
"""

import hashlib
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from rsna_jax import errors

_PIECE = 2**20
_MAX_MANIFEST = 2**28
_ENCRYPTED = 0x1


def write(
  path: pathlib.Path,
  sources: Mapping[str, pathlib.Path],
  manifest: str,
  about: Mapping[str, Any],
) -> None:
  """Writes files into an archive that only its owner may read.

  Args:
    path: of the archive; it is not there yet.
    sources: name in the archive -> file. One that has gone is left out.
    manifest: name of the member that lists sizes and SHA-256; it is the last.
    about: what else stands in it.

  Raises:
    OSError: the disk is full; the caller removes `path`.
  """
  handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with os.fdopen(handle, 'wb') as file:
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
      listed = {}
      for name, source in sorted(sources.items()):
        try:
          opened = source.open('rb')
        except FileNotFoundError:
          continue
        with opened:
          listed[name] = _copy_in(archive, name, opened)
      text = json.dumps({**about, 'files': listed}, indent=1)
      archive.writestr(_member(manifest), text)
    file.flush()
    os.fsync(file.fileno())


def read(
  path: str | os.PathLike,
  folder: pathlib.Path,
  manifest: str,
  allowed: Callable[[str], bool],
) -> dict[str, Any]:
  """Unpacks an archive and compares it with its manifest.

  Args:
    path: of the archive.
    folder: an empty one; after an error it has to be thrown away.
    manifest: name of the member that lists the others.
    allowed: whether a member may have a name.

  Returns:
    The manifest.

  Raises:
    errors.DataError: it is no such archive, or is damaged.
    OSError: it cannot be read, or the disk is full.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      _check(path, archive, manifest, allowed)
      with archive.open(manifest) as member:
        about = json.loads(member.read().decode('utf-8'))
      listed = about['files']
      found = {}
      for info in archive.infolist():
        if info.filename != manifest:
          found[info.filename] = _copy_out(archive, info, folder)
      names = sorted(listed.keys() | found.keys())
      for name in names:
        if listed.get(name) != found.get(name):
          raise errors.DataError(
            f'{path}: {name} is not as {manifest} says; take another copy of '
            'the backup'
          )
  except (errors.DataError, OSError):
    raise
  except (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,  # an encrypted member, or nested too deep
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
  ) as error:
    raise errors.DataError(
      f'{path}: not a backup of a store, or damaged ({type(error).__name__}); '
      'take another copy of it'
    ) from error
  return about


def _check(
  path: str | os.PathLike,
  archive: zipfile.ZipFile,
  manifest: str,
  allowed: Callable[[str], bool],
) -> None:
  """Refuses an archive by its directory, before anything is unpacked."""
  seen = set()
  for info in archive.infolist():
    name = info.filename
    if name in seen:
      raise errors.DataError(f'{path}: {name!r} is in it twice')
    seen.add(name)
    if name != manifest and not allowed(name):
      raise errors.DataError(
        f'{path}: {name[:80]!r} is no file of a store; this is no backup'
      )
    stored = info.compress_type == zipfile.ZIP_STORED
    if not stored or info.file_size != info.compress_size:
      raise errors.DataError(f'{path}: {name!r} is compressed; no backup is')
    if info.flag_bits & _ENCRYPTED:
      raise errors.DataError(f'{path}: {name!r} is encrypted; no backup is')
    if name == manifest and info.file_size > _MAX_MANIFEST:
      raise errors.DataError(f'{path}: {manifest} is too large')
  # Members that lie over each other would be more than the file itself.
  if sum(info.file_size for info in archive.infolist()) > os.stat(path).st_size:
    raise errors.DataError(f'{path}: its members are larger than itself')


def _member(name: str) -> zipfile.ZipInfo:
  info = zipfile.ZipInfo(name)  # dated 1980, so that equal stores are equal
  info.external_attr = 0o600 << 16
  return info


def _copy_in(archive: zipfile.ZipFile, name: str, source) -> list:
  digest, size = hashlib.sha256(), 0
  with archive.open(_member(name), 'w', force_zip64=True) as target:
    while piece := source.read(_PIECE):
      digest.update(piece)
      size += len(piece)
      target.write(piece)
  return [size, digest.hexdigest()]


def _copy_out(
  archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: pathlib.Path
) -> list:
  path = folder / info.filename
  path.parent.mkdir(parents=True, exist_ok=True)
  with archive.open(info) as source, path.open('xb') as target:
    shutil.copyfileobj(source, target, _PIECE)
    target.flush()
    os.fsync(target.fileno())
  return [path.stat().st_size, sha256(path)]


def sha256(path: pathlib.Path) -> str:
  """SHA-256 of a file, hex."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
