"""A store in one file, and back, on another path or another kind of database.

The file is a zip whose members are stored, not deflated: pictures and weights
do not get smaller, and nothing in it can grow. Rows travel as JSON lines, so a
backup of SQLite can be restored into PostgreSQL, and the audit chain stays the
same to the last bit. Logins do not travel.
"""

import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax import errors
from rsna_jax.serve import settings
from rsna_jax.serve.store import (
  archives,
  audit_log,
  blobs,
  database,
  row_files,
  tables,
)

MANIFEST = 'manifest.json'
_FORMAT = 1
# A file that is not there is left out.
_SINGLE = ('frozen.json', 'secret')
_PART = re.compile(r'(?!\.{1,2}$)[A-Za-z0-9._+=@-]{1,128}')
_SHA256 = re.compile(r'[0-9a-f]{64}')
_NUMBER = re.compile(r'[1-9][0-9]{0,8}')
_NAME_LENGTH = 400
_TREES = {'models': tables.Model, 'datasets': tables.Dataset}


def backup(
  db: database.Database, pictures: blobs.Blobs, path: str | os.PathLike
) -> dict[str, int]:
  """Writes everything that a store is into one file, while it serves.

  Writers wait while rows are written out and pictures linked, which is soon;
  copying is done beside them.

  Args:
    db: the rows; its `store` holds the models and frozen sets.
    pictures: the files.
    path: a file that is not there yet; only its owner may read it.

  Returns:
    How many rows of each table went into it.

  Raises:
    errors.ConfigError: `path` is there.
    OSError: the disk is full; nothing is left of it.
  """
  path = pathlib.Path(path).absolute()
  if path.exists():
    raise errors.ConfigError(f'{path}: is there already; choose another name')
  stage = db.store / 'tmp' / f'backup-{uuid.uuid4().hex}'
  part = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
  try:
    (stage / 'rows').mkdir(mode=0o700, parents=True)
    revision = db.revision()
    with db.session() as session:
      audit_log.append(session, 'command line', 'store.backup', path.name, {})
      rows = row_files.write(session, stage / 'rows')
      head = session.get(tables.AuditHead, 1)
      audit = {'count': head.count, 'sha256': head.sha256}
      for sha256 in session.scalars(sa.select(tables.Image.sha256)):
        source = pictures.path(sha256)
        target = stage / source.relative_to(pictures.folder.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(source, target)
      numbers = {
        name: session.scalars(sa.select(table.number)).all()
        for name, table in _TREES.items()
      }
    sources = dict(_files(stage))
    for name, found in numbers.items():
      for number in found:
        folder = db.store / name / str(number)
        for inner, file in _files(folder):
          sources[f'{name}/{number}/{inner}'] = file
    sources |= {name: db.store / name for name in _SINGLE}
    about = {
      'format': _FORMAT,
      'notice': settings.NOTICE,
      'made_at': tables.now(),
      'revision': revision,
      'rows': rows,
      'audit': audit,
    }
    archives.write(part, sources, MANIFEST, about)
    os.link(part, path)  # which would not overwrite, as a rename would
    blobs.sync_folder(path.parent)
    return rows
  except FileExistsError as error:
    raise errors.ConfigError(
      f'{path}: is there already; choose another name'
    ) from error
  finally:
    part.unlink(missing_ok=True)
    shutil.rmtree(stage, ignore_errors=True)


def restore(
  path: str | os.PathLike, url: str | None, store: str | os.PathLike
) -> list[str]:
  """Makes a store from a backup.

  Everything is unpacked beside the store, compared with the list of SHA-256
  in the backup, and then put in its place at once.

  Args:
    path: what `backup` wrote.
    url: as in `database.Database`; the database has to be empty.
    store: a folder that is not there yet, or is empty.

  Returns:
    What was wrong with the store when it was backed up, a sentence each.

  Raises:
    errors.DataError: it is no backup, or damaged; nothing was changed.
    errors.ConfigError: the store or the database is not empty.
  """
  store = pathlib.Path(store).absolute()
  if store.exists() and (not store.is_dir() or any(store.iterdir())):
    raise errors.ConfigError(
      f'{store}: is not empty; restore into a folder that is not there yet'
    )
  store.parent.mkdir(parents=True, exist_ok=True)
  stage = store.with_name(f'.{store.name}.{uuid.uuid4().hex}.tmp')
  stage.mkdir(mode=0o700)
  try:
    about = archives.read(path, stage, MANIFEST, _allowed)
    if about.get('format') != _FORMAT:
      raise errors.DataError(
        f'{path}: a backup of format {about.get("format")!r}, not {_FORMAT}; '
        'restore it with the version of rsna_jax that made it'
      )
    _check_pictures(path, stage)
    return _into(path, stage, about, url, store)
  finally:
    shutil.rmtree(stage, ignore_errors=True)


def _into(
  path: str | os.PathLike,
  stage: pathlib.Path,
  about: dict[str, Any],
  url: str | None,
  store: pathlib.Path,
) -> list[str]:
  """Fills the database, and puts the folder in its place."""
  db = database.Database(url, stage)
  try:
    if db.revision() is not None:
      with db.reading() as session:
        if not row_files.is_empty(session):
          raise errors.ConfigError(
            '--database: there are rows in it; name an empty one'
          )
    db.migrate(str(about.get('revision')))
    with db.session() as session:
      row_files.read(session, stage / 'rows')
      _check_models(path, session)
      audit_log.write_head(session)
      faults = audit_log.verify(session)
      shutil.rmtree(stage / 'rows')
      if not db.is_sqlite:
        # Files before rows, here as well.
        _place(stage, store)
    db.migrate()
  finally:
    db.close()
  if db.is_sqlite:
    _place(stage, store)
  return faults


def _place(stage: pathlib.Path, store: pathlib.Path) -> None:
  if store.is_dir():
    store.rmdir()
  os.rename(stage, store)
  blobs.sync_folder(store.parent)


def _allowed(name: str) -> bool:
  """Whether a member has a name that a backup gives."""
  if name in _SINGLE:
    return True
  parts = name.split('/')
  if len(name) > _NAME_LENGTH or not all(map(_PART.fullmatch, parts)):
    return False
  match parts:
    case ['rows', table]:
      return table.removesuffix('.jsonl') in row_files.names()
    case ['blobs', start, picture]:
      stem = picture.removesuffix('.png')
      return bool(_SHA256.fullmatch(stem)) and stem[:2] == start
    case ['models' | 'datasets', number, _, *_]:
      return bool(_NUMBER.fullmatch(number))
  return False


def _check_pictures(path: str | os.PathLike, stage: pathlib.Path) -> None:
  for name, file in _files(stage / 'blobs'):
    if archives.sha256(file) != file.stem:
      raise errors.DataError(f'{path}: blobs/{name} has changed')


def _check_models(path: str | os.PathLike, session: orm.Session) -> None:
  for row in session.scalars(sa.select(tables.Model)):
    if row.folder != f'models/{row.number}':
      raise errors.DataError(f'{path}: model {row.number} is elsewhere')


def _files(folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
  """Path below a folder, with slashes, and file, of all that is in it."""
  for path in sorted(folder.rglob('*')):
    if path.is_file() and not path.is_symlink():
      yield path.relative_to(folder).as_posix(), path


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  """A second name for a picture, so that it can be deleted meanwhile."""
  try:
    os.link(source, target)
  except FileNotFoundError:
    return  # said by `store check`; the rest is worth keeping
  except OSError:
    shutil.copyfile(source, target)
