"""Versions of the model: kept whole in the store, and one of them serving."""

import dataclasses
import os
import pathlib
import shutil
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax import errors
from rsna_jax.serve import problems
from rsna_jax.serve.store import audit_log, blobs, database, model_files, tables

Version = model_files.Version
weights_sha256 = model_files.weights_sha256


class Models:
  """The models of a store: `models/<number>/`, and their rows."""

  def __init__(self, db: database.Database, store: str | os.PathLike):
    self._db = db
    self.store = pathlib.Path(store).absolute()

  def register_first(self, workdir: str | os.PathLike) -> Version:
    """Copies the run that the store starts with, unless it has a model.

    Returns:
      The model that serves.

    Raises:
      errors.RunError: it is no run, or has no undamaged checkpoint.
    """
    found = self.serving()
    if found is not None:
      return found
    first = self.add(workdir, status='promoted', reason='The first model.')
    return self.serving() or first

  def add(
    self,
    workdir: str | os.PathLike,
    *,
    parent: int | None = None,
    dataset_number: int | None = None,
    status: str = 'candidate',
    scores: dict[str, Any] | None = None,
    reason: str = '',
    by: str = 'command line',
  ) -> Version:
    """Copies what serving needs of a run into the store.

    Args:
      workdir: a run, or an ensemble; it stays as it is.
      parent, dataset_number, scores, reason: as in `Version`.
      status: candidate | refused, or promoted for the very first.
      by: for the audit log.

    Raises:
      errors.RunError: it is no run, or has no undamaged checkpoint.
      OSError: the disk is full; nothing is left of it.
    """
    part = self.store / 'tmp' / f'model-{uuid.uuid4().hex}'
    try:
      model_files.copy_run(pathlib.Path(workdir), part)
      digest = weights_sha256(part)
      with self._db.session() as session:
        row = tables.Model(
          folder='models/0',
          weights_sha256=digest,
          parent=parent,
          dataset_number=dataset_number,
          status=status,
          scores=scores or {},
          reason=reason,
          created_at=tables.now(),
        )
        session.add(row)
        session.flush()
        row.folder = f'models/{row.number}'
        folder = self.store / row.folder
        if folder.exists():  # of a process that died before its commit
          shutil.rmtree(folder)
        folder.parent.mkdir(exist_ok=True)
        os.rename(part, folder)
        blobs.sync_folder(folder.parent)
        audit_log.append(
          session,
          by,
          'model.add',
          f'model {row.number}',
          {'weights': digest, 'parent': parent, 'status': status},
        )
        if status == 'promoted':
          self._serve(session, row, by)
        return self._version(row)
    finally:
      shutil.rmtree(part, ignore_errors=True)

  def serving(self) -> Version | None:
    """The model that answers; None in a new store."""
    with self._db.reading() as session:
      row = session.get(tables.Serving, 1)
      if row is None:
        return None
      return self._version(session.get(tables.Model, row.model_number))

  def get(self, number: int) -> Version:
    """A version.

    Raises:
      problems.Problem: E_NOT_FOUND.
    """
    with self._db.reading() as session:
      return self._version(_row(session, number))

  def list(self) -> 'list[Version]':
    """All versions, in their order."""
    with self._db.reading() as session:
      rows = session.scalars(
        sa.select(tables.Model).order_by(tables.Model.number)
      )
      return [self._version(row) for row in rows]

  def promote(
    self,
    number: int,
    by: str,
    *,
    scores: dict[str, Any] | None = None,
    reason: str | None = None,
  ) -> Version:
    """Lets a version serve.

    Raises:
      problems.Problem: E_NOT_FOUND; E_FIELD: it was refused.
      errors.DataError: its files are not what they were.
    """
    self._check_files(self.get(number))
    with self._db.session() as session:
      row = _row(session, number)
      if row.status == 'refused':
        raise problems.Problem(
          'E_FIELD', f'model: {number} was refused: {row.reason}'
        )
      row.status = 'promoted'
      row.scores = row.scores if scores is None else scores
      row.reason = row.reason if reason is None else reason
      self._serve(session, row, by)
      return self._version(row)

  def refuse(
    self,
    number: int,
    by: str,
    *,
    scores: dict[str, Any] | None = None,
    reason: str = '',
  ) -> Version:
    """Says that a candidate shall not serve, and why.

    Raises:
      problems.Problem: E_NOT_FOUND; E_FIELD: it is no candidate.
    """
    with self._db.session() as session:
      row = _row(session, number)
      if row.status != 'candidate':
        raise problems.Problem(
          'E_FIELD', f'model: {number} is {row.status}, not a candidate.'
        )
      row.status, row.reason = 'refused', reason
      row.scores = row.scores if scores is None else scores
      audit_log.append(
        session, by, 'model.refuse', f'model {number}', {'reason': reason}
      )
      return self._version(row)

  def rollback(self, number: int | None, by: str) -> Version:
    """Lets an earlier version serve again.

    Args:
      number: of the version; None: the one that was promoted before.
      by: who does it.

    Raises:
      problems.Problem: E_NOT_FOUND: no such version; E_FIELD: it never served.
      errors.DataError: its files are not what they were.
    """
    with self._db.reading() as session:
      serving = session.get(tables.Serving, 1)
      number = _before(session, serving) if number is None else number
    self._check_files(self.get(number))
    with self._db.session() as session:
      row = _row(session, number)
      if row.status != 'promoted':
        raise problems.Problem(
          'E_FIELD', f'model: {number} is {row.status}, and never served.'
        )
      serving = session.get(tables.Serving, 1)
      before = serving.model_number
      serving.model_number, serving.since = number, tables.now()
      audit_log.append(
        session,
        by,
        'model.rollback',
        f'model {number}',
        {'from': before, 'weights': row.weights_sha256},
      )
      return self._version(row)

  def check(self) -> 'list[str]':
    """What is wrong with the models, a sentence each."""
    found = []
    for version in self.list():
      try:
        self._check_files(version)
      except errors.DataError as error:
        found.append(str(error))
    if self.serving() is None:
      found.append('models: none serves; start the server with --workdir')
    return found

  def _serve(self, session: orm.Session, row: tables.Model, by: str) -> None:
    serving = session.get(tables.Serving, 1)
    before = None if serving is None else serving.model_number
    row.promoted_by, row.promoted_at = by, tables.now()
    if serving is None:
      serving = tables.Serving(id=1)
      session.add(serving)
    serving.model_number, serving.since = row.number, row.promoted_at
    audit_log.append(
      session,
      by,
      'model.promote',
      f'model {row.number}',
      {'from': before, 'weights': row.weights_sha256},
    )

  def _check_files(self, version: Version) -> None:
    name = f'models/{version.number}'
    if not version.folder.is_dir():
      raise errors.DataError(f'{name}: missing; restore it from a backup')
    if weights_sha256(version.folder) != version.weights_sha256:
      raise errors.DataError(
        f'{name}: its files are not what they were (SHA-256 '
        f'{version.weights_sha256[:12]} expected); restore it from a backup'
      )

  def _version(self, row: tables.Model) -> Version:
    fields = {
      field.name: getattr(row, field.name)
      for field in dataclasses.fields(Version)
    }
    return Version(
      **fields | {'folder': self.store / 'models' / str(row.number)}
    )


def _row(session: orm.Session, number: int) -> tables.Model:
  row = session.get(tables.Model, number)
  if row is None:
    raise problems.Problem('E_NOT_FOUND', f'There is no model {number}.')
  return row


def _before(session: orm.Session, serving: tables.Serving | None) -> int:
  if serving is not None:
    current = session.get(tables.Model, serving.model_number)
    before = session.scalar(
      sa.select(tables.Model.number)
      .where(
        tables.Model.status == 'promoted',
        tables.Model.promoted_at < current.promoted_at,
      )
      .order_by(tables.Model.promoted_at.desc())
      .limit(1)
    )
    if before is not None:
      return before
  raise problems.Problem(
    'E_NOT_FOUND', 'There is no model before the one that serves.'
  )
