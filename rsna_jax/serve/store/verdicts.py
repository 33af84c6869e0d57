"""What reviewers say of submissions: accepted, corrected or rejected."""

from typing import Any

from sqlalchemy import orm

from rsna_jax.serve import problems
from rsna_jax.serve.store import (
  accounts,
  audit_log,
  near,
  submission_rows,
  tables,
)


def accept(
  session: orm.Session,
  id: str,
  reviewer: accounts.User,
  *,
  distinct: bool = False,
) -> dict[str, Any]:
  """Lets a submission be learned from, with the labels that it came with.

  Args:
    session: one that writes.
    id: of the submission.
    reviewer: who judges.
    distinct: the reviewer has seen both, and says that it is no copy of the
      accepted one that it resembles.

  Returns:
    The submission, as `submissions.get`.

  Raises:
    problems.Problem: E_FORBIDDEN: no reviewer; E_NOT_FOUND; E_DUPLICATE: it is
      a copy of a picture that models are judged on, or resembles an accepted
      one.
  """
  row = _judged(session, id, reviewer)
  return _accepted(
    session, row, reviewer, row.density, row.cancer, 'accept', distinct
  )


def correct(
  session: orm.Session,
  id: str,
  reviewer: accounts.User,
  density: int | None,
  cancer: int | None,
  *,
  distinct: bool = False,
) -> dict[str, Any]:
  """Lets a submission be learned from, with the reviewer's labels.

  Args:
    density, cancer: what holds; None: not known.
    session, id, reviewer, distinct: as in `accept`.

  Raises:
    problems.Problem: as `accept`; E_FIELD: a label cannot be.
  """
  for name, value, choices in (
    ('density', density, (1, 2, 3, 4)),
    ('cancer', cancer, (0, 1)),
  ):
    right = value is None or (type(value) is int and value in choices)
    if not right:
      raise problems.Problem(
        'E_FIELD', f'{name}: choose {", ".join(map(str, choices))}, or nothing.'
      )
  if density is None and cancer is None:
    raise problems.Problem('E_FIELD', 'density: give it, or cancer, or both.')
  row = _judged(session, id, reviewer)
  return _accepted(session, row, reviewer, density, cancer, 'correct', distinct)


def reject(
  session: orm.Session, id: str, reviewer: accounts.User, reason: str
) -> dict[str, Any]:
  """Keeps a submission from being learned from, an accepted one as well.

  Args:
    session, id, reviewer: as in `accept`.
    reason: for its contributor, not empty.

  Raises:
    problems.Problem: E_FORBIDDEN, E_NOT_FOUND, E_FIELD.
  """
  reason = ' '.join(reason.split()) if isinstance(reason, str) else ''
  reason = reason.replace('\0', '')
  if not 0 < len(reason) <= tables.REASON_LENGTH:
    raise problems.Problem(
      'E_FIELD',
      f'reason: write why, in up to {tables.REASON_LENGTH} characters.',
    )
  row = _judged(session, id, reviewer)
  before, row.status = row.status, 'rejected'
  _sign(row, reviewer)
  row.reason = reason
  session.flush()
  audit_log.append(
    session, reviewer.name, 'submission.reject', id, {'from': before}
  )
  return _told(session, row)


def _judged(
  session: orm.Session, id: str, reviewer: accounts.User
) -> tables.Submission:
  if not reviewer.reviews:
    raise problems.Problem(
      'E_FORBIDDEN', 'Only reviewers and administrators judge submissions.'
    )
  row = session.get(tables.Submission, id)
  if row is None:
    raise problems.Problem('E_NOT_FOUND', 'There is no such submission.')
  return row


def _accepted(
  session: orm.Session,
  row: tables.Submission,
  reviewer: accounts.User,
  density: int | None,
  cancer: int | None,
  action: str,
  distinct: bool,
) -> dict[str, Any]:
  if row.status == 'quarantined':
    raise problems.Problem(
      'E_DUPLICATE',
      'This is a copy of an image that models are judged on; it cannot be '
      'learned from.',
    )
  if not row.text_checked:
    raise problems.Problem(
      'E_FIELD', 'text_checked: nobody has confirmed that it holds no text.'
    )
  image = session.get(tables.Image, row.image_sha256)
  alike = [
    hit
    for hit in near.find(
      session,
      near.Fingerprints(image.pixel_sha256, image.phash),
      statuses=('accepted',),
    )
    if hit[0] != row.id
  ]
  exact = any(hit[2] for hit in alike)
  if exact or (alike and not distinct):
    raise problems.Problem(
      'E_DUPLICATE',
      f'It resembles submission {alike[0][0]}, which is accepted already; '
      'reject it, or say that they are different images.',
    )
  if row.side is None:
    key = submission_rows.patient_key(submission_rows.as_dict(row, ''))
    row.side = submission_rows.side_of(key)
    if alike:
      # Whatever they are, what resembles is not on both sides.
      row.side = session.get(tables.Submission, alike[0][0]).side
  row.status = 'accepted'
  row.final_density, row.final_cancer = density, cancer
  _sign(row, reviewer)
  row.reason = ''
  session.flush()
  details = {'density': density, 'cancer': cancer, 'side': row.side}
  if alike:
    details['distinct_from'] = alike[0][0]
  audit_log.append(
    session, reviewer.name, f'submission.{action}', row.id, details
  )
  return _told(session, row)


def _sign(row: tables.Submission, reviewer: accounts.User) -> None:
  row.reviewer_id, row.reviewed_at = reviewer.id, tables.now()


def _told(session: orm.Session, row: tables.Submission) -> dict[str, Any]:
  name = session.get(tables.User, row.user_id).name
  return submission_rows.as_dict(row, name)
