"""Which retraining is unfinished, and whether another one has a purpose."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from rsna_jax import errors
from rsna_jax.serve.learning import freeze, promotion
from rsna_jax.serve.learning.retrain_options import Options
from rsna_jax.serve.store import database, tables, versions

JOB = 'job.json'
DECISION = 'decision.json'
_DENSE = 3  # from C on
_GIVEN_UP = 'Not promoted: its retraining was given up, or another model serves'


def unfinished(
  db: database.Database,
  models: versions.Models,
  parent: versions.Version,
  by: str,
  fresh: bool,
) -> int | None:
  """The last frozen set, if its retraining has not ended.

  Args:
    db: the rows.
    models: of the store.
    parent: the model that serves.
    by: who gives up what can no longer be finished.
    fresh: whether to give it up, whatever it is.
  """
  with db.reading() as session:
    number = session.scalar(sa.select(sa.func.max(tables.Dataset.number)))
    left = session.scalar(
      sa.select(sa.func.count())
      .select_from(tables.DatasetMember)
      .join(
        tables.Submission,
        tables.Submission.id == tables.DatasetMember.submission_id,
      )
      .where(tables.DatasetMember.dataset_number == number)
    )
  if number is None or _finished(models, number):
    return None
  work = db.store / 'retrain' / str(number)
  model = candidate(models, number)
  if model is not None:
    job = read(work / JOB)
    decided = (work / DECISION).is_file() and job is not None
    if fresh or not decided or job['weights'] != parent.weights_sha256:
      models.refuse(model.number, by, reason=f'{_GIVEN_UP}.')
      return None
  return None if fresh or not left else number


def candidate(models: versions.Models, number: int) -> versions.Version | None:
  """The model of a set that is neither promoted nor refused yet."""
  found = [
    model
    for model in models.list()
    if model.dataset_number == number and model.status == 'candidate'
  ]
  return found[-1] if found else None


def check_enough(
  rows: Sequence[tables.Submission], target: str, options: Options
) -> None:
  """Checks that accepted submissions suffice, before anything is begun.

  Raises:
    errors.DataError: nothing to learn from, or too little to judge by.
  """
  of = [row for row in rows if _usable(row, target)]
  if not any(row.side == 'train' for row in of):
    raise errors.DataError(
      f'no accepted submission with {target.replace("_", " and ")} is on the '
      'training side: let a reviewer accept more'
    )
  held = [row for row in of if row.side == 'validation']
  dense = target == 'density'
  labels = [
    row.final_density >= _DENSE if dense else row.final_cancer for row in held
  ]
  few = promotion.too_few(
    np.array(labels, np.int64),
    np.array([freeze.patient_key(row) for row in held]),
    options.rule(),
    'dense' if dense else 'cancer',
  )
  if few:
    raise errors.DataError(f'{few}: accept more, or lower --set least_patients')


def check_new(
  session,
  rows: Sequence[tables.Submission],
  models: versions.Models,
  parent: versions.Version,
  options: Options,
) -> None:
  """Checks that this was not done already.

  Raises:
    errors.DataError: it was, with the same outcome to be expected.
  """
  last = session.scalar(
    sa.select(tables.Dataset).order_by(tables.Dataset.number.desc()).limit(1)
  )
  if last is None or last.sha256 != freeze.digest(rows) or options.fresh:
    return
  asked = options.of_training() | options.of_judging()
  for model in models.list():
    if (
      model.dataset_number == last.number
      and parent.number in (model.parent, model.number)
      and model.scores.get('options') == asked
    ):
      raise errors.DataError(
        f'nothing new since model {model.number}, which has learned from the '
        f'same {len(rows)} submissions and was {model.status}: accept more'
      )


def read(path: pathlib.Path) -> dict[str, Any] | None:
  """A JSON file of the work; None: it is not there."""
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    return None


def _finished(models: versions.Models, number: int) -> bool:
  return any(
    model.dataset_number == number and model.status != 'candidate'
    for model in models.list()
  )


def _usable(row: tables.Submission, target: str) -> bool:
  """Whether it has the labels that the model learns."""
  return ('cancer' not in target or row.final_cancer is not None) and (
    'density' not in target or row.final_density is not None
  )
