"""The tables of the store; their CHECKs refuse what the code let through.

Times are ISO texts in UTC, so that a row, and the hash of an audit line, is the
same in SQLite, in PostgreSQL and in a backup. Flags that may be unknown are
integers: 0, 1 or NULL.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax import schema
from rsna_jax.serve.store import table_base

ROLES = ('contributor', 'reviewer', 'administrator')
EVIDENCE = ('biopsy', 'opinion')
STATUSES = ('pending', 'accepted', 'rejected', 'quarantined')
SIDES = ('train', 'validation')
MODEL_STATUSES = ('candidate', 'promoted', 'refused')
Base = table_base.Base
now = table_base.now
_among = table_base.among
_check = table_base.check
MAX_AGE_YEARS = 120
NOTE_LENGTH = 500
REASON_LENGTH = 1000


class User(Base):
  """A person with a login."""

  __tablename__ = 'users'
  __table_args__ = (_check('role', _among('role', ROLES)),)

  id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
  name: orm.Mapped[str] = orm.mapped_column(sa.String(64), unique=True)
  password_hash: orm.Mapped[str] = orm.mapped_column(sa.String(256))
  role: orm.Mapped[str] = orm.mapped_column(sa.String(16))
  disabled: orm.Mapped[bool] = orm.mapped_column(default=False)
  created_at: orm.Mapped[str] = orm.mapped_column(sa.String(32), default=now)


class Session(Base):
  """A login; the cookie holds the token, the row its hash alone."""

  __tablename__ = 'sessions'

  token_sha256: orm.Mapped[str] = orm.mapped_column(
    sa.String(64), primary_key=True
  )
  user_id: orm.Mapped[int] = orm.mapped_column(
    sa.ForeignKey('users.id', ondelete='CASCADE'), index=True
  )
  csrf: orm.Mapped[str] = orm.mapped_column(sa.String(64))
  created_at: orm.Mapped[str] = orm.mapped_column(sa.String(32), default=now)
  expires_at: orm.Mapped[str] = orm.mapped_column(sa.String(32))


class Image(Base):
  """A picture among the blobs."""

  __tablename__ = 'images'
  __table_args__ = (
    _check('sha256', 'length(sha256) = 64'),
    _check('size', 'rows > 0 AND columns > 0 AND bytes > 0'),
  )

  sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
  pixel_sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64), index=True)
  phash: orm.Mapped[str] = orm.mapped_column(sa.String(128))
  rows: orm.Mapped[int]
  columns: orm.Mapped[int]
  bytes: orm.Mapped[int]
  created_at: orm.Mapped[str] = orm.mapped_column(sa.String(32), default=now)


class FrozenImage(Base):
  """Fingerprints of a picture that models are judged on."""

  __tablename__ = 'frozen_images'

  number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
  source: orm.Mapped[str] = orm.mapped_column(sa.String(128), index=True)
  pixel_sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
  phash: orm.Mapped[str] = orm.mapped_column(sa.String(128))


class Submission(Base):
  """A picture with the labels that a person gave it, and what became of it."""

  __tablename__ = 'submissions'
  __table_args__ = (
    _check('patient', 'length(patient) <= 64'),
    _check('laterality', _among('laterality', ('', *schema.LATERALITIES))),
    _check('view', _among('view', ('', *schema.VIEWS))),
    _check('age', f'age IS NULL OR (age >= 0 AND age <= {MAX_AGE_YEARS})'),
    _check('implant', _among('implant', (0, 1), optional=True)),
    _check('density', _among('density', (1, 2, 3, 4), optional=True)),
    _check('cancer', _among('cancer', (0, 1), optional=True)),
    _check('label', 'density IS NOT NULL OR cancer IS NOT NULL'),
    _check('evidence', _among('evidence', EVIDENCE)),
    _check('confidence', _among('confidence', (1, 2, 3, 4, 5))),
    _check('note', f'length(note) <= {NOTE_LENGTH}'),
    _check(
      'model_cancer',
      'model_cancer IS NULL OR (model_cancer >= 0 AND model_cancer <= 1)',
    ),
    _check(
      'model_density', _among('model_density', (1, 2, 3, 4), optional=True)
    ),
    _check('disagreement', 'disagreement >= 0 AND disagreement <= 1'),
    _check('status', _among('status', STATUSES)),
    _check(
      'final_density', _among('final_density', (1, 2, 3, 4), optional=True)
    ),
    _check('final_cancer', _among('final_cancer', (0, 1), optional=True)),
    _check('side', _among('side', SIDES, optional=True)),
    _check(
      'accepted',
      "status <> 'accepted' OR (text_checked AND side IS NOT NULL"
      ' AND reviewer_id IS NOT NULL AND reviewed_at IS NOT NULL'
      ' AND (final_density IS NOT NULL OR final_cancer IS NOT NULL))',
    ),
    # One vote a picture, whoever submits it at the same time.
    sa.Index(
      'uq_submissions_image',
      'image_sha256',
      unique=True,
      sqlite_where=sa.text("status <> 'rejected'"),
      postgresql_where=sa.text("status <> 'rejected'"),
    ),
    sa.Index('ix_submissions_status_disagreement', 'status', 'disagreement'),
  )

  id: orm.Mapped[str] = orm.mapped_column(sa.String(32), primary_key=True)
  image_sha256: orm.Mapped[str] = orm.mapped_column(
    sa.ForeignKey('images.sha256'), index=True
  )
  user_id: orm.Mapped[int] = orm.mapped_column(
    sa.ForeignKey('users.id'), index=True
  )
  patient: orm.Mapped[str] = orm.mapped_column(sa.String(64), default='')
  laterality: orm.Mapped[str] = orm.mapped_column(sa.String(1), default='')
  view: orm.Mapped[str] = orm.mapped_column(sa.String(8), default='')
  age: orm.Mapped[float | None]
  implant: orm.Mapped[int | None]
  density: orm.Mapped[int | None]
  cancer: orm.Mapped[int | None]
  evidence: orm.Mapped[str] = orm.mapped_column(sa.String(8))
  confidence: orm.Mapped[int]
  text_checked: orm.Mapped[bool]
  note: orm.Mapped[str] = orm.mapped_column(sa.Text, default='')
  model_number: orm.Mapped[int | None] = orm.mapped_column(
    sa.ForeignKey('models.number')
  )
  model_cancer: orm.Mapped[float | None]
  model_density: orm.Mapped[int | None]
  disagreement: orm.Mapped[float] = orm.mapped_column(default=0.0)
  status: orm.Mapped[str] = orm.mapped_column(sa.String(16), default='pending')
  near_id: orm.Mapped[str | None] = orm.mapped_column(
    sa.ForeignKey('submissions.id', ondelete='SET NULL'), index=True
  )
  final_density: orm.Mapped[int | None]
  final_cancer: orm.Mapped[int | None]
  reviewer_id: orm.Mapped[int | None] = orm.mapped_column(
    sa.ForeignKey('users.id')
  )
  reviewed_at: orm.Mapped[str | None] = orm.mapped_column(sa.String(32))
  reason: orm.Mapped[str] = orm.mapped_column(sa.Text, default='')
  created_at: orm.Mapped[str] = orm.mapped_column(
    sa.String(32), default=now, index=True
  )
  side: orm.Mapped[str | None] = orm.mapped_column(sa.String(16))


class Dataset(Base):
  """A set of accepted submissions that was frozen to learn from."""

  __tablename__ = 'datasets'

  number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
  created_at: orm.Mapped[str] = orm.mapped_column(sa.String(32), default=now)
  sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
  counts: orm.Mapped[dict[str, Any]]


class DatasetMember(Base):
  """A submission of a frozen set, with its labels as they were then.

  No foreign key leads to the submission: the list, whose hash is the set's,
  outlives a deleted picture. An id is random and says nothing of a patient.
  """

  __tablename__ = 'dataset_members'
  __table_args__ = (
    _check('side', _among('side', SIDES)),
    _check('density', _among('density', (1, 2, 3, 4), optional=True)),
    _check('cancer', _among('cancer', (0, 1), optional=True)),
    _check('label', 'density IS NOT NULL OR cancer IS NOT NULL'),
  )

  dataset_number: orm.Mapped[int] = orm.mapped_column(
    sa.ForeignKey('datasets.number', ondelete='CASCADE'), primary_key=True
  )
  submission_id: orm.Mapped[str] = orm.mapped_column(
    sa.String(32), primary_key=True
  )
  side: orm.Mapped[str] = orm.mapped_column(sa.String(16))
  density: orm.Mapped[int | None]
  cancer: orm.Mapped[int | None]


class Model(Base):
  """A version of the model: what it learned from, and how it was judged."""

  __tablename__ = 'models'
  __table_args__ = (_check('status', _among('status', MODEL_STATUSES)),)

  number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
  folder: orm.Mapped[str] = orm.mapped_column(sa.String(255))
  weights_sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
  parent: orm.Mapped[int | None] = orm.mapped_column(
    sa.ForeignKey('models.number')
  )
  dataset_number: orm.Mapped[int | None] = orm.mapped_column(
    sa.ForeignKey('datasets.number')
  )
  status: orm.Mapped[str] = orm.mapped_column(sa.String(16))
  scores: orm.Mapped[dict[str, Any]]
  reason: orm.Mapped[str] = orm.mapped_column(sa.Text, default='')
  created_at: orm.Mapped[str] = orm.mapped_column(sa.String(32), default=now)
  promoted_by: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
  promoted_at: orm.Mapped[str | None] = orm.mapped_column(sa.String(32))


class Serving(Base):
  """The one row that says which model answers."""

  __tablename__ = 'serving'
  __table_args__ = (_check('one', 'id = 1'),)

  id: orm.Mapped[int] = orm.mapped_column(
    primary_key=True, autoincrement=False, default=1
  )
  model_number: orm.Mapped[int] = orm.mapped_column(
    sa.ForeignKey('models.number')
  )
  since: orm.Mapped[str] = orm.mapped_column(sa.String(32), default=now)


class Audit(Base):
  """A line of the audit log; each holds the hash of the one before."""

  __tablename__ = 'audit'

  number: orm.Mapped[int] = orm.mapped_column(
    primary_key=True, autoincrement=False
  )
  at: orm.Mapped[str] = orm.mapped_column(sa.String(32))
  actor: orm.Mapped[str] = orm.mapped_column(sa.String(80))
  action: orm.Mapped[str] = orm.mapped_column(sa.String(64))
  object: orm.Mapped[str] = orm.mapped_column(sa.String(128))
  details: orm.Mapped[str] = orm.mapped_column(sa.Text)
  previous: orm.Mapped[str] = orm.mapped_column(sa.String(64))
  sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))


class AuditHead(Base):
  """How many lines the log has, and the hash of the last."""

  __tablename__ = 'audit_head'
  __table_args__ = (_check('one', 'id = 1'),)

  id: orm.Mapped[int] = orm.mapped_column(
    primary_key=True, autoincrement=False, default=1
  )
  count: orm.Mapped[int]
  sha256: orm.Mapped[str] = orm.mapped_column(sa.String(64))
