"""Looks after a store: says what is wrong with it, and clears what was left."""

import contextlib
import pathlib
import shutil
import time

import sqlalchemy as sa

from rsna_jax import errors
from rsna_jax.serve.store import (
  archives,
  audit_log,
  blobs,
  database,
  tables,
  versions,
)


def check(db: database.Database, pictures: blobs.Blobs) -> list[str]:
  """Everything that is wrong with a store, a sentence each.

  Reads every picture and every model, so it takes as long as that.
  """
  found = db.check()
  if found:
    return found  # the rest stands on it
  with db.reading() as session:
    found += audit_log.verify(session)
    named = session.scalars(sa.select(tables.Image.sha256)).all()
  for sha256 in sorted(named):
    path = pictures.path(sha256)
    if not path.is_file():
      found.append(f'blobs: {sha256[:12]} is missing; restore it from a backup')
    elif archives.sha256(path) != sha256:
      found.append(f'blobs: {sha256[:12]} has changed; restore it')
  return found + versions.Models(db, db.store).check()


def sweep(
  db: database.Database,
  pictures: blobs.Blobs,
  older_than_s: float = blobs.SWEEP_AFTER_S,
) -> list[str]:
  """Removes what killed processes have left in a store.

  Args:
    db: the rows.
    pictures: the files.
    older_than_s: what is younger may be at work.

  Returns:
    Names of what was removed.

  Raises:
    errors.DataError: rows without files; what could be removed is gone.
  """
  swept = blobs.sweep(db, pictures, older_than_s)
  removed = list(swept.removed)
  before = time.time() - older_than_s
  removed += _clear(db.store / 'tmp', before, kept=set())
  with db.session():  # so that no model is being put there
    numbers = {str(one.number) for one in versions.Models(db, db.store).list()}
    removed += _clear(db.store / 'models', before, kept=numbers)
  if swept.missing:
    raise errors.DataError(
      f'blobs: {len(swept.missing)} image(s) of submissions are missing, '
      f'{swept.missing[0][:12]} first; restore them from a backup'
    )
  return removed


def _clear(folder: pathlib.Path, before: float, kept: set[str]) -> list[str]:
  removed = []
  if not folder.is_dir():
    return removed
  for path in sorted(folder.iterdir()):
    with contextlib.suppress(FileNotFoundError):
      if path.name in kept or path.stat().st_mtime >= before:
        continue
      if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
      else:
        path.unlink()
      removed.append(f'{folder.name}/{path.name}')
  return removed
