"""Submitted pictures: added once, shown to whom they concern, deleted."""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax.serve import problems
from rsna_jax.serve.store import (
  accounts,
  audit_log,
  blobs,
  database,
  labels,
  near,
  submission_rows,
  tables,
  verdicts,
)

Labels = labels.Labels
get = submission_rows.get
queue = submission_rows.queue
of_user = submission_rows.of_user
count_since = submission_rows.count_since
counts = submission_rows.counts
VALIDATION_SHARE = submission_rows.VALIDATION_SHARE
side_of = submission_rows.side_of
patient_key = submission_rows.patient_key
accept = verdicts.accept
correct = verdicts.correct
reject = verdicts.reject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
  """What is kept of an uploaded picture.

  Attributes:
    png: grey, 8 or 16 bits, nothing outside the breast, no metadata.
    fingerprints: of its pixels.
    rows, columns: its size.
  """

  png: bytes
  fingerprints: near.Fingerprints
  rows: int
  columns: int


def add(
  db: database.Database,
  pictures: blobs.Blobs,
  kept: Kept,
  given: labels.Labels,
  attributes: Mapping[str, Any],
  user: accounts.User,
  answer: Mapping[str, Any],
  frozen: near.Frozen | None = None,
) -> dict[str, Any]:
  """Takes a picture into the queue; once this returns, it outlives anything.

  Args:
    db: the rows.
    pictures: the files.
    kept: the picture.
    given: its labels.
    attributes: laterality, view, age and implant, as far as known.
    user: whose submission it is.
    answer: model_number, and what the model says: cancer, its calibrated
      probability, and density, the most probable of 1 to 4; None for neither.
    frozen: pictures that models are judged on; a copy of one is quarantined.

  Returns:
    The submission, as `get`. `near_id` names the one it resembles, if any.

  Raises:
    problems.Problem: E_DUPLICATE: the same pixels are there already, flipped or
      saved otherwise; E_FIELD: an attribute cannot be.
    OSError: the disk is full; nothing is left of it.
  """
  fields = labels.parse_attributes(attributes)
  with db.reading() as session:  # before a file is written
    _refuse_copy(session, kept.fingerprints)
  sha256 = pictures.put(kept.png)
  try:
    with db.session() as session:
      _refuse_copy(session, kept.fingerprints)
      pictures.put(kept.png)  # should it have been deleted since
      image = session.get(tables.Image, sha256)
      if image is None:
        session.add(
          tables.Image(
            sha256=sha256,
            pixel_sha256=kept.fingerprints.pixel_sha256,
            phash=kept.fingerprints.phash,
            rows=kept.rows,
            columns=kept.columns,
            bytes=len(kept.png),
          )
        )
        session.flush()
      alike = near.find(session, kept.fingerprints)
      row = tables.Submission(
        id=uuid.uuid4().hex,
        image_sha256=sha256,
        user_id=user.id,
        patient=given.patient,
        density=given.density,
        cancer=given.cancer,
        evidence=given.evidence,
        confidence=given.confidence,
        text_checked=given.text_checked,
        note=given.note,
        model_number=answer.get('model_number'),
        model_cancer=answer.get('cancer'),
        model_density=answer.get('density'),
        disagreement=submission_rows.disagreement(given, answer),
        near_id=alike[0][0] if alike else None,
        status='pending',
        created_at=tables.now(),
        **fields,
      )
      if frozen is not None and frozen.holds(kept.fingerprints):
        row.status = 'quarantined'
        row.reason = 'A copy of an image that models are judged on.'
      session.add(row)
      session.flush()
      audit_log.append(
        session,
        user.name,
        'submission.add',
        row.id,
        {'image': sha256, 'status': row.status, 'near': row.near_id},
      )
      return submission_rows.as_dict(row, user.name)
  except BaseException:
    _tidy(db, pictures, sha256)
    raise


def delete(
  db: database.Database,
  pictures: blobs.Blobs,
  id: str,
  user: accounts.User | None,
) -> None:
  """Removes a submission and, if no other has it, its picture.

  Args:
    db: the rows.
    pictures: the files.
    id: of the submission.
    user: its contributor, or an administrator; None: the command line.

  Raises:
    problems.Problem: E_NOT_FOUND, none that they might delete.
  """
  with db.session() as session:
    row = session.get(tables.Submission, id)
    if row is None or not (
      user is None or user.administers or row.user_id == user.id
    ):
      raise problems.Problem('E_NOT_FOUND', 'There is no such submission.')
    sha256 = row.image_sha256
    session.delete(row)
    session.flush()
    others = sa.select(sa.func.count()).where(
      tables.Submission.image_sha256 == sha256
    )
    last = not session.scalar(others)
    if last:
      session.delete(session.get(tables.Image, sha256))
    audit_log.append(
      session,
      'command line' if user is None else user.name,
      'submission.delete',
      id,
      {'image': sha256, 'file': 'deleted' if last else 'kept'},
    )
  if last:
    blobs.drop_unused(db, pictures, sha256)


def _refuse_copy(session: orm.Session, fingerprints: near.Fingerprints) -> None:
  for _, _, exact in near.find(session, fingerprints):
    if exact:
      raise problems.Problem(
        'E_DUPLICATE', 'This image has been submitted already.'
      )


def _tidy(db: database.Database, pictures: blobs.Blobs, sha256: str) -> None:
  try:
    blobs.drop_unused(db, pictures, sha256)
  except Exception:
    # What went wrong first is what has to be said; the sweep removes the file.
    return
