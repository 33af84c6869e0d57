"""Accepted submissions, frozen as a numbered data set to learn from.

The list of members and labels is rows of the database, whose hash is the set's;
each patient is on the side that acceptance gave. `frozen_files` has the
pictures.
"""

import hashlib
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from rsna_jax import errors
from rsna_jax.serve.store import (
  audit_log,
  database,
  near,
  submission_rows,
  tables,
)


def create(db: database.Database, frozen: near.Frozen | None, by: str) -> int:
  """Freezes the accepted submissions as the next data set.

  Accepted copies of pictures that models are judged on are quarantined first:
  they may have come before there was an index of those.

  Returns:
    The set's number.

  Raises:
    errors.DataError: nothing is accepted.
  """
  with db.session() as session:
    rows = accepted(session)
    if frozen is not None:
      rows = [row for row in rows if not _quarantined(session, row, frozen, by)]
    if not rows:
      raise errors.DataError(
        'no submission is accepted: let a reviewer accept some, and retrain '
        'then'
      )
    sha256 = digest(rows)
    dataset = tables.Dataset(
      sha256=sha256, counts=_counts(rows), created_at=tables.now()
    )
    session.add(dataset)
    session.flush()
    session.add_all(
      tables.DatasetMember(
        dataset_number=dataset.number,
        submission_id=row.id,
        side=row.side,
        density=row.final_density,
        cancer=row.final_cancer,
      )
      for row in rows
    )
    audit_log.append(
      session,
      by,
      'dataset.freeze',
      f'dataset {dataset.number}',
      {'sha256': sha256, 'counts': dataset.counts},
    )
    return dataset.number


def accepted(session) -> list[tables.Submission]:
  """The accepted submissions, by id."""
  return list(
    session.scalars(
      sa.select(tables.Submission)
      .where(tables.Submission.status == 'accepted')
      .order_by(tables.Submission.id)
    )
  )


def patient_key(row: tables.Submission) -> str:
  """Which pictures are of one patient."""
  return submission_rows.patient_key(
    {'patient': row.patient, 'user_id': row.user_id, 'id': row.id}
  )


def _quarantined(session, row, frozen: near.Frozen, by: str) -> bool:
  image = session.get(tables.Image, row.image_sha256)
  if not frozen.holds(near.Fingerprints(image.pixel_sha256, image.phash)):
    return False
  row.status = 'quarantined'
  row.reason = 'A copy of an image that models are judged on.'
  audit_log.append(
    session, by, 'submission.quarantine', row.id, {'found': 'at freezing'}
  )
  return True


def digest(rows: Iterable[tables.Submission]) -> str:
  """SHA-256 of the list of members, their sides and labels."""
  found = hashlib.sha256()
  for row in rows:
    line = f'{row.id} {row.side} {row.final_density} {row.final_cancer}\n'
    found.update(line.encode('ascii'))
  return found.hexdigest()


def _counts(rows: Sequence[tables.Submission]) -> dict:
  found = {}
  for side in tables.SIDES:
    of = [row for row in rows if row.side == side]
    keys = {patient_key(row) for row in of}
    found[side] = {
      'images': len(of),
      'patients': len(keys),
      'cancer': sum(row.final_cancer == 1 for row in of),
    }
  return found
