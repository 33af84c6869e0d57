"""Rows of submissions: found, listed for whom they concern, and told apart."""

import hashlib
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax.serve import problems
from rsna_jax.serve.store import accounts, labels, tables

VALIDATION_SHARE = 0.3  # of the patients
_ORDERS = {
  'disagreement': (
    tables.Submission.disagreement.desc(),
    tables.Submission.created_at,
  ),
  'oldest': (tables.Submission.created_at,),
  'newest': (tables.Submission.created_at.desc(),),
}


def disagreement(given: labels.Labels, answer: Mapping[str, Any]) -> float:
  """How far labels and model are apart, from 0 to 1."""
  distances = [0.0]
  if given.cancer is not None and answer.get('cancer') is not None:
    distances.append(abs(given.cancer - answer['cancer']))
  if given.density is not None and answer.get('density') is not None:
    distances.append(abs(given.density - answer['density']) / 3)
  return float(min(1.0, max(distances)))


def get(session: orm.Session, id: str, user: accounts.User) -> dict[str, Any]:
  """A submission: the columns of its row, and `user`, who made it.

  Raises:
    problems.Problem: E_NOT_FOUND; the same for one that is not theirs to see.
  """
  row = session.get(tables.Submission, id)
  if row is None or not (user.reviews or row.user_id == user.id):
    raise problems.Problem('E_NOT_FOUND', 'There is no such submission.')
  return as_dict(row, session.get(tables.User, row.user_id).name)


def queue(
  session: orm.Session,
  status: str = 'pending',
  order: str = 'disagreement',
  limit: int = 100,
  offset: int = 0,
) -> list[dict[str, Any]]:
  """Submissions of a status; by default what surprises the model comes first.

  The caller shows it to reviewers alone.

  Raises:
    problems.Problem: E_FIELD, no such status or order.
  """
  if status not in tables.STATUSES or order not in _ORDERS:
    raise problems.Problem(
      'E_FIELD',
      f'status: one of {", ".join(tables.STATUSES)}; order: one of '
      f'{", ".join(_ORDERS)}.',
    )
  return _listed(
    session,
    (tables.Submission.status == status,),
    (*_ORDERS[order], tables.Submission.id),
    limit,
    offset,
  )


def of_user(
  session: orm.Session, user: accounts.User, limit: int = 100, offset: int = 0
) -> list[dict[str, Any]]:
  """A person's own submissions, the latest first."""
  return _listed(
    session,
    (tables.Submission.user_id == user.id,),
    (tables.Submission.created_at.desc(), tables.Submission.id),
    limit,
    offset,
  )


def count_since(session: orm.Session, user: accounts.User, since: str) -> int:
  """How many a person has submitted since an ISO time, for their quota."""
  return session.scalar(
    sa.select(sa.func.count()).where(
      tables.Submission.user_id == user.id,
      tables.Submission.created_at >= since,
    )
  )


def counts(session: orm.Session) -> dict[str, int]:
  """How many submissions there are of each status."""
  found = dict.fromkeys(tables.STATUSES, 0)
  rows = session.execute(
    sa.select(tables.Submission.status, sa.func.count()).group_by(
      tables.Submission.status
    )
  )
  return found | dict(rows.all())


def patient_key(row: Mapping[str, Any]) -> str:
  """Which pictures are of one patient; nameless ones are each their own."""
  if row['patient']:
    return f'{row["user_id"]}:{row["patient"]}'
  return f'{row["user_id"]}::{row["id"]}'


def side_of(key: str) -> str:
  """The side that all pictures of a patient are on, for good."""
  place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], 'big')
  return 'validation' if place < VALIDATION_SHARE * 2**64 else 'train'


def _listed(
  session: orm.Session, where: tuple, order: tuple, limit: int, offset: int
) -> list[dict[str, Any]]:
  rows = session.execute(
    sa.select(tables.Submission, tables.User.name)
    .join(tables.User, tables.User.id == tables.Submission.user_id)
    .where(*where)
    .order_by(*order)
    .limit(limit)
    .offset(offset)
  )
  return [as_dict(row, name) for row, name in rows]


def as_dict(row: tables.Submission, user: str) -> dict[str, Any]:
  """The columns of a row, and `user`, the name of who submitted it."""
  columns = tables.Submission.__table__.columns.keys()
  return {name: getattr(row, name) for name in columns} | {'user': user}
