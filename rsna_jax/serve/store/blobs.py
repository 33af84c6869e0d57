"""Pictures on disk under the SHA-256 of their bytes: blobs/ab/abcdef....png.

A file is whole and on the disk before its row is written, and goes after its
row has gone. So a row always has its file, whenever the power fails, and what
is left over is a file without a row, which `sweep` removes.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import time
from collections.abc import Iterator

import sqlalchemy as sa

from rsna_jax import files
from rsna_jax.serve import problems
from rsna_jax.serve.store import database, tables

_NAME = re.compile(r'[0-9a-f]{64}')
_SUFFIX = '.png'
SWEEP_AFTER_S = 3600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swept:
  """What `sweep` found.

  Attributes:
    removed: names of files that had no row.
    missing: SHA-256 of rows that have no file.
  """

  removed: list[str]
  missing: list[str]


class Blobs:
  """The folder of the pictures."""

  def __init__(self, folder: str | os.PathLike):
    self.folder = pathlib.Path(folder).absolute()

  def put(self, png: bytes) -> str:
    """Writes a picture, unless it is there, and returns its SHA-256.

    Raises:
      OSError: the disk is full; nothing is left of it.
    """
    sha256 = hashlib.sha256(png).hexdigest()
    path = self.path(sha256)
    if not self._touched(path, png):
      new = not path.parent.is_dir()
      files.write_bytes(path, png)
      if new:
        sync_folder(self.folder)
    # Also where it was there: another may have renamed it a moment ago.
    sync_folder(path.parent)
    return sha256

  def read(self, sha256: str) -> bytes:
    """The bytes of a picture.

    Raises:
      problems.Problem: E_NOT_FOUND; E_FAULT where they have changed.
    """
    try:
      data = self.path(sha256).read_bytes()
    except FileNotFoundError as error:
      raise problems.Problem('E_NOT_FOUND', 'There is no such image.') from (
        error
      )
    if hashlib.sha256(data).hexdigest() != sha256:
      raise problems.Problem(
        'E_FAULT',
        'The stored image is damaged: the administrator has to restore it '
        'from a backup.',
      )
    return data

  def path(self, sha256: str) -> pathlib.Path:
    """Where a picture is, or would be.

    Raises:
      problems.Problem: E_NOT_FOUND, the text is no SHA-256.
    """
    if not _NAME.fullmatch(sha256):
      raise problems.Problem('E_NOT_FOUND', 'There is no such image.')
    return self.folder / sha256[:2] / f'{sha256}{_SUFFIX}'

  def delete(self, sha256: str) -> None:
    """Removes a picture, if it is there."""
    path = self.path(sha256)
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
      sync_folder(path.parent)

  def all(self) -> Iterator[str]:
    """SHA-256 of every picture, by the names of the files."""
    for path in self._files():
      if path.suffix == _SUFFIX and _NAME.fullmatch(path.stem):
        yield path.stem

  def strays(self) -> Iterator[pathlib.Path]:
    """Files that are no pictures, as the temporary ones of a killed writer."""
    for path in self._files():
      if path.suffix != _SUFFIX or not _NAME.fullmatch(path.stem):
        yield path

  def _files(self) -> Iterator[pathlib.Path]:
    if self.folder.is_dir():
      for folder in sorted(self.folder.iterdir()):
        if folder.is_dir():
          yield from sorted(folder.iterdir())

  def _touched(self, path: pathlib.Path, png: bytes) -> bool:
    """Whether the picture is there; it is made young, so that it stays."""
    try:
      if path.stat().st_size != len(png) or path.read_bytes() != png:
        return False
      os.utime(path)
    except FileNotFoundError:
      return False
    return True


def drop_unused(db: database.Database, blobs: Blobs, sha256: str) -> bool:
  """Removes a file that no row names; whoever adds one has to wait meanwhile.

  Returns:
    Whether there is no row, and so no file.
  """
  with db.session() as session:
    if session.get(tables.Image, sha256) is not None:
      return False
    blobs.delete(sha256)
    return True


def sweep(
  db: database.Database, blobs: Blobs, older_than_s: float = SWEEP_AFTER_S
) -> Swept:
  """Removes what a killed process left, and says what is missing.

  Args:
    db: the rows.
    blobs: the files.
    older_than_s: younger files may be about to get their row.
  """
  before = time.time() - older_than_s
  with db.reading() as session:
    named = set(session.scalars(sa.select(tables.Image.sha256)))
  there = set(blobs.all())
  removed = []
  for sha256 in sorted(there - named):
    if _older(blobs.path(sha256), before) and drop_unused(db, blobs, sha256):
      removed.append(f'{sha256}{_SUFFIX}')
  for path in blobs.strays():
    if _older(path, before):
      with contextlib.suppress(FileNotFoundError):
        path.unlink()
        removed.append(path.name)
  # Asked again: a picture may have been deleted since.
  with db.reading() as session:
    named &= set(session.scalars(sa.select(tables.Image.sha256)))
  missing = [s for s in sorted(named - there) if not blobs.path(s).is_file()]
  return Swept(removed=removed, missing=missing)


def sync_folder(folder: str | os.PathLike) -> None:
  """Brings the names in a folder to the disk."""
  handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def _older(path: pathlib.Path, before: float) -> bool:
  try:
    return path.stat().st_mtime < before
  except FileNotFoundError:
    return False
