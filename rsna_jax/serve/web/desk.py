"""Submissions, reviews and models, as requests ask for them."""

import asyncio
import datetime
import functools
from collections.abc import Mapping
from typing import Any

from rsna_jax import errors, schema
from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import uploads
from rsna_jax.serve.answering import workers as workers_lib
from rsna_jax.serve.learning import frozen_files
from rsna_jax.serve.store import (
  accounts,
  blobs,
  database,
  frozen_index,
  labels,
  near,
  submissions,
  versions,
)
from rsna_jax.serve.web import known, people

_REVIEWERS = 10  # times as many as a contributor may submit
_DAY = datetime.timedelta(days=1)
_ATTRIBUTES = ('laterality', 'view', 'age', 'implant')
_MOST_LISTED = 200
_DENSITIES = {
  text: value
  for value, letter in enumerate(schema.DENSITIES, 1)
  for text in (letter, str(value))
}
_CANCERS = {'benign': 0, '0': 0, 'malignant': 1, '1': 1}


class Desk:
  """What people with a login do; every method says who may."""

  def __init__(
    self,
    settings: settings_lib.Settings,
    db: database.Database,
    pictures: blobs.Blobs,
    models: versions.Models,
    kept: uploads.Uploads,
    workers: workers_lib.Workers,
  ):
    self._settings = settings
    self._db = db
    self._pictures = pictures
    self._models = models
    self._uploads = kept
    self._workers = workers
    self._submitting = asyncio.Lock()
    self._frozen: near.Frozen | None = None

  async def submit(
    self, visitor: people.Visitor, fields: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Takes an answered upload of a contributor into the queue.

    Args:
      visitor: who.
      fields: `upload`, its id; what `labels.Labels.parse` takes; and
        laterality, view, age and implant where they are to be others than the
        file says.

    Raises:
      problems.Problem: E_LOGIN, E_NOT_FOUND, E_FIELD, E_QUOTA, E_DUPLICATE.
    """
    user = visitor.require('contributor')
    given = {k: v for k, v in fields.items() if k not in ('csrf', 'upload')}
    stated = {
      k: known.value(k, given.pop(k)) for k in _ATTRIBUTES if k in given
    }
    parsed = labels.Labels.parse(given)
    kept = self._uploads.get(str(fields.get('upload', '')), visitor.owner)
    if kept.upload.kept is None:
      raise problems.Problem(
        'E_NOT_FOUND', 'It was uploaded before you logged in; do it again.'
      )
    if kept.upload.burned_in:
      raise problems.Problem(
        'E_UNUSABLE',
        'The file says that text is burned into the picture; submit one '
        'without.',
      )
    found = {name: kept.prepared.attributes.get(name) for name in _ATTRIBUTES}
    # One at a time, or the quota could be passed by asking at once.
    async with self._submitting:
      return await self._workers.store(
        self._submit, user, kept, parsed, found | stated
      )

  def _submit(self, user, kept, parsed, attributes) -> dict[str, Any]:
    most = self._settings.submissions_per_day
    if user.reviews:
      most *= _REVIEWERS
    since = datetime.datetime.now(datetime.UTC) - _DAY
    text = since.strftime('%Y-%m-%dT%H:%M:%S.%fZ')
    with self._db.reading() as session:
      if submissions.count_since(session, user, text) >= most:
        raise problems.Problem(
          'E_QUOTA',
          f'You have submitted {most} images within a day; go on tomorrow.',
          3600,
        )
    cancer, density = kept.answer['cancer'], kept.answer['density']
    if cancer is not None:
      cancer = cancer['calibrated']
    return submissions.add(
      self._db,
      self._pictures,
      kept.upload.kept,
      parsed,
      attributes,
      user,
      {
        'model_number': kept.model,
        'cancer': cancer,
        'density': None if density is None else density['rating'],
      },
      self._frozen,
    )

  def load_frozen(self) -> None:
    """Reads which pictures models are judged on; copies are quarantined."""
    self._frozen = frozen_index.load(self._db)

  async def own(
    self, visitor: people.Visitor, limit: int = 100, offset: int = 0
  ) -> list[dict[str, Any]]:
    """A contributor's own submissions, the latest first."""
    user = visitor.require('contributor')
    return await self._read(submissions.of_user, user, *_page(limit, offset))

  async def one(self, visitor: people.Visitor, id: str) -> dict[str, Any]:
    """A submission, for its contributor and for reviewers."""
    user = visitor.require('contributor')
    return await self._read(submissions.get, id, user)

  async def picture(self, visitor: people.Visitor, id: str) -> bytes:
    """The picture of a submission, a PNG, for the same."""
    found = await self.one(visitor, id)
    return await self._workers.store(self._pictures.read, found['image_sha256'])

  async def queue(
    self,
    visitor: people.Visitor,
    status: str = 'pending',
    order: str = 'disagreement',
    limit: int = 100,
    offset: int = 0,
  ) -> list[dict[str, Any]]:
    """Submissions of all, for reviewers."""
    visitor.require('reviewer')
    return await self._read(
      submissions.queue, status, order, *_page(limit, offset)
    )

  async def review(
    self, visitor: people.Visitor, id: str, fields: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Judges a submission; reviewers.

    Args:
      visitor: who.
      id: of the submission.
      fields: `verdict`: accept | correct | reject; `density` and `cancer` of a
        correction, `reason` of a rejection; `distinct`, true where the reviewer
        has seen that it is no copy of the one that it resembles.

    Raises:
      problems.Problem: E_LOGIN, E_FORBIDDEN, E_NOT_FOUND, E_FIELD, E_DUPLICATE.
    """
    user = visitor.require('reviewer')
    verdict = fields.get('verdict')
    distinct = fields.get('distinct') in (True, '1', 'on', 'true', 'yes')
    if verdict == 'accept':
      act = functools.partial(submissions.accept, distinct=distinct)
    elif verdict == 'correct':
      act = functools.partial(
        submissions.correct,
        density=_label(fields, 'density', _DENSITIES),
        cancer=_label(fields, 'cancer', _CANCERS),
        distinct=distinct,
      )
    elif verdict == 'reject':
      act = functools.partial(
        submissions.reject, reason=str(fields.get('reason') or '')
      )
    else:
      raise problems.Problem(
        'E_FIELD', 'verdict: choose accept, correct or reject.'
      )

    def run():
      with self._db.session() as session:
        return act(session, id, user)

    return await self._workers.store(run)

  async def delete(self, visitor: people.Visitor, id: str) -> None:
    """Deletes a submission of one's own, or as administrator of anyone."""
    user = visitor.require('contributor')
    await self._workers.store(self._delete, id, user)

  def _delete(self, id: str, user: accounts.User) -> None:
    submissions.delete(self._db, self._pictures, id, user)
    frozen_files.forget_deleted(self._db)

  async def models(self) -> list[dict[str, Any]]:
    """All versions of the model, for everybody."""
    serving = await self._workers.store(self._models.serving)
    found = []
    for one in await self._workers.store(self._models.list):
      found.append(
        {
          'number': one.number,
          'serving': serving is not None and one.number == serving.number,
          'status': one.status,
          'parent': one.parent,
          'dataset': one.dataset_number,
          'weights_sha256': one.weights_sha256,
          'scores': one.scores,
          'reason': one.reason,
          'created_at': one.created_at,
          'promoted_at': one.promoted_at,
          'promoted_by': one.promoted_by,
        }
      )
    return found

  async def promote(
    self, visitor: people.Visitor, number: int
  ) -> dict[str, Any]:
    """Lets a version serve; administrators."""
    user = visitor.require('administrator')
    return await self._served(self._models.promote, number, user)

  async def rollback(
    self, visitor: people.Visitor, number: int | None = None
  ) -> dict[str, Any]:
    """Lets an earlier version serve again; administrators."""
    user = visitor.require('administrator')
    return await self._served(self._models.rollback, number, user)

  async def _served(self, how, number, user) -> dict[str, Any]:
    try:
      found = await self._workers.store(how, number, user.name)
    except errors.DataError as error:
      raise problems.Problem('E_FAULT', f'{error}.') from error
    return {
      'number': found.number,
      'status': found.status,
      'takes_up_within_s': self._settings.reload_s,
    }

  async def _read(self, function, *arguments):
    def run():
      with self._db.reading() as session:
        return function(session, *arguments)

    return await self._workers.store(run)


def _label(
  fields: Mapping[str, Any], name: str, choices: Mapping[str, int]
) -> int | None:
  value = fields.get(name)
  if value is None or value == '':
    return None
  if isinstance(value, bool) or str(value) not in choices:
    raise problems.Problem(
      'E_FIELD', f'{name}: choose one of {", ".join(choices)}, or nothing.'
    )
  return choices[str(value)]


def _page(limit: int, offset: int) -> tuple[int, int]:
  if not 1 <= limit <= _MOST_LISTED or not 0 <= offset <= 10**9:
    raise problems.Problem(
      'E_FIELD', f'limit: 1 to {_MOST_LISTED}; offset: 0 or more.'
    )
  return limit, offset


def user_answer(user: accounts.User) -> dict[str, Any]:
  """What is told of a person."""
  return {'id': user.id, 'name': user.name, 'role': user.role}
