"""What helps reviewers: why a submission deserves a look, and whose it is.

Nothing here decides. A model may be wrong and a contributor right; what is
flagged is to be looked at by a person.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax.serve.learning import contradiction, freeze
from rsna_jax.serve.store import tables

_P = 0.05  # of the contributors who contradict the model
_PERMUTATIONS = 499
_LEAST_REVIEWED = 5
_AGREEMENT = 0.8  # less is worth a look
_LEAST_ALIKE = 3
_SURPRISED = 0.5  # of the disagreement


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contributor:
  """How a person's submissions stand to reviewers and to the model.

  Attributes:
    name: of the person.
    statuses: status -> number of submissions.
    reviewed: how many a reviewer has accepted, corrected or rejected.
    agreed: how many of them as they came.
    agreement: their share, or None.
    model_agreement: share of cancer labels that the model leant to when they
      came, or None.
    disagreement: mean of the labels' distance to the model, or None.
    alike: how many resemble another submission.
    flags: a sentence each.
  """

  name: str
  statuses: dict[str, int]
  reviewed: int
  agreed: int
  agreement: float | None
  model_agreement: float | None
  disagreement: float | None
  alike: int
  flags: tuple[str, ...]


def contributors(session: orm.Session) -> list[Contributor]:
  """All who have submitted, the flagged ones first.

  The model's answer is the one that was stored when a submission came, so it
  has not learned the label that it is held against.
  """
  names = dict(
    session.execute(sa.select(tables.User.id, tables.User.name)).all()
  )
  rows = list(
    session.scalars(sa.select(tables.Submission).order_by(tables.Submission.id))
  )
  suspects = _suspects(rows)
  of: dict[int, list[tables.Submission]] = {}
  for row in rows:
    of.setdefault(row.user_id, []).append(row)
  found = [
    _contributor(names[user], mine, suspects.get(user))
    for user, mine in of.items()
  ]
  return sorted(found, key=lambda one: (-len(one.flags), one.name))


def reasons(row: Mapping[str, Any], whose: Contributor | None = None) -> list:
  """Why a submission deserves a second look, a sentence each.

  Args:
    row: of `submissions.get` or `queue`.
    whose: its contributor, as `contributors` tells.
  """
  found = []
  if row['disagreement'] >= _SURPRISED:
    found.append(
      f'The label and the model are far apart ({row["disagreement"]:.0%} of '
      'the way).'
    )
  if row['near_id']:
    found.append('It resembles another submission.')
  if row['status'] == 'quarantined':
    found.append('It copies an image that models are judged on.')
  if row['evidence'] == 'opinion' and row['cancer'] == 1:
    found.append('Cancer is an opinion, not proven by biopsy.')
  if row['confidence'] <= 2:
    found.append('The contributor is not sure.')
  if whose is not None:
    found += whose.flags
  return found


def _suspects(rows: Sequence[tables.Submission]) -> dict[int, float]:
  """Number of each person who contradicts the model -> p of the group."""
  of = [
    row
    for row in rows
    if row.cancer is not None
    and row.model_cancer is not None
    and row.status in ('pending', 'accepted')
  ]
  suspicion = contradiction.scan(
    [row.user_id for row in of],
    np.array([row.cancer for row in of], np.int64),
    np.array([row.model_cancer for row in of], np.float64),
    strata=np.array([row.model_number or 0 for row in of], np.int64),
    patients=[freeze.patient_key(row) for row in of],
    permutations=_PERMUTATIONS,
  )
  if suspicion is None or suspicion.p >= _P:
    return {}
  return dict.fromkeys(suspicion.contributors, suspicion.p)


def _contributor(
  name: str, rows: Sequence[tables.Submission], p: float | None
) -> Contributor:
  statuses = dict.fromkeys(tables.STATUSES, 0)
  for row in rows:
    statuses[row.status] += 1
  judged = [row for row in rows if row.status in ('accepted', 'rejected')]
  agreed = sum(
    row.status == 'accepted'
    and (row.final_density, row.final_cancer) == (row.density, row.cancer)
    for row in judged
  )
  known = [
    row
    for row in rows
    if row.cancer is not None and row.model_cancer is not None
  ]
  leant = sum((row.model_cancer >= 0.5) == (row.cancer == 1) for row in known)
  alike = sum(row.near_id is not None for row in rows)
  agreement = agreed / len(judged) if judged else None
  flags = []
  if p is not None:
    flags.append(
      'The labels of this contributor contradict the model more than chance '
      f'allows (p {p:.2g}).'
    )
  if len(judged) >= _LEAST_REVIEWED and agreement < _AGREEMENT:
    flags.append(
      f'Reviewers changed or rejected {len(judged) - agreed} of '
      f'{len(judged)} submissions of this contributor.'
    )
  if statuses['quarantined']:
    flags.append(
      f'{statuses["quarantined"]} submissions of this contributor copy images '
      'that models are judged on.'
    )
  if alike >= _LEAST_ALIKE:
    flags.append(f'{alike} submissions of this contributor resemble others.')
  return Contributor(
    name=name,
    statuses=statuses,
    reviewed=len(judged),
    agreed=agreed,
    agreement=agreement,
    model_agreement=leant / len(known) if known else None,
    disagreement=float(np.mean([row.disagreement for row in rows])),
    alike=alike,
    flags=tuple(flags),
  )
