"""Pages of people with a login: submitting, reviewing, models, retraining."""

import re
from typing import Any

import fastapi
from fastapi import responses
from starlette import requests

from rsna_jax.serve import (
  answers,
  page_common,
  parts,
  people,
  problems,
  shown_models,
  submissions,
)

router = fastapi.APIRouter(include_in_schema=False)
_DONE = re.compile(r'[a-z_.]{1,30}')
_SHORT = re.compile(r'[0-9a-f]{1,8}')
_NUMBER = re.compile(r'[0-9]{1,9}')


@router.get('/login')
async def login_form(request: requests.Request) -> responses.Response:
  """Asks for name and password."""
  visitor = await parts.of(request).people.visitor(request)
  wanted = page_common.own_address(request.query_params.get('next', '/'))
  return page_common.page(
    request, 'login.html', visitor, here='/login', next=wanted
  )


@router.post('/login')
async def login(request: requests.Request) -> responses.Response:
  """Logs in, and goes on to where one came from."""
  server = parts.of(request)
  form, visitor = await page_common.form(request)
  wanted = page_common.own_address(form.get('next', '/'))
  try:
    await server.people.log_in(request, form.get('name'), form.get('password'))
  except problems.Problem as problem:
    request.scope['state']['code'] = problem.code
    return page_common.page(
      request,
      'login.html',
      visitor,
      problem.status,
      here='/login',
      next=wanted,
      problem=problem,
    )
  return page_common.redirect(wanted)


@router.post('/logout')
async def logout(request: requests.Request) -> responses.Response:
  """Logs out."""
  form, _ = await page_common.form(request)
  await parts.of(request).people.log_out(request, form.fields)
  return page_common.redirect('/')


@router.get('/submit')
async def submit_form(request: requests.Request) -> responses.Response:
  """Asks for the labels of an image that was read."""
  visitor = await parts.of(request).people.visitor(request)
  visitor.require('contributor')
  return _submit_form(request, visitor, request.query_params.get('upload'), {})


@router.post('/submit')
async def submit(request: requests.Request) -> responses.Response:
  """Takes an image with its labels."""
  server = parts.of(request)
  form, visitor = await page_common.form(request)
  given = form.first()
  try:
    made = await server.desk.submit(visitor, given)
  except problems.Problem as problem:
    if problem.code not in ('E_FIELD', 'E_DUPLICATE', 'E_QUOTA', 'E_UNUSABLE'):
      raise
    request.scope['state']['code'] = problem.code
    return _submit_form(request, visitor, given.get('upload'), given, problem)
  done = 'quarantined' if made['status'] == 'quarantined' else 'done'
  return page_common.redirect(
    f'/submissions?done=submit.{done}&id={made["id"][:8]}'
  )


def _submit_form(
  request: requests.Request,
  visitor: people.Visitor,
  id: str | None,
  given: dict[str, str],
  problem: problems.Problem | None = None,
) -> responses.Response:
  upload = None
  if id:
    kept = parts.of(request).service.uploads.get(id, visitor.owner)
    upload = {
      'id': kept.id,
      'name': kept.upload.name,
      'burned_in': kept.upload.burned_in,
      'keepable': kept.upload.kept is not None,
    }
    if not given:
      given = shown_models.facts(kept.answer)
  return page_common.page(
    request,
    'submit.html',
    visitor,
    problem.status if problem else 200,
    here='/submissions',
    upload=upload,
    given=given,
    problem=problem,
  )


@router.get('/submissions')
async def own(request: requests.Request) -> responses.Response:
  """A person's submissions."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  return page_common.page(
    request,
    'submissions.html',
    visitor,
    here='/submissions',
    submissions=await server.desk.own(visitor),
    said=_said(request),
  )


@router.get('/submissions/{id}/picture.png')
async def picture(request: requests.Request, id: str) -> responses.Response:
  """The picture of a submission."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  data = await server.desk.picture(visitor, id)
  return responses.Response(data, media_type='image/png')


@router.post('/submissions/{id}/delete')
async def delete(request: requests.Request, id: str) -> responses.Response:
  """Deletes a submission."""
  _, visitor = await page_common.form(request)
  await parts.of(request).desk.delete(visitor, id)
  return page_common.redirect(f'/submissions?done=mine.deleted&id={id[:8]}')


@router.get('/review')
async def review(request: requests.Request) -> responses.Response:
  """The queue, what surprises the model first."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  status = request.query_params.get('status', 'pending')
  return page_common.page(
    request,
    'review.html',
    visitor,
    here='/review',
    queue=await server.desk.queue(visitor, status),
    chosen=status,
    counts=await _counts(server),
    said=_said(request),
  )


@router.get('/review/{id}')
async def review_form(request: requests.Request, id: str) -> responses.Response:
  """One submission, to be judged."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  visitor.require('reviewer')
  return _review_form(request, visitor, await server.desk.one(visitor, id))


@router.post('/review/{id}')
async def judge(request: requests.Request, id: str) -> responses.Response:
  """Accepts, corrects or rejects."""
  server = parts.of(request)
  form, visitor = await page_common.form(request)
  visitor.require('reviewer')
  given = {k: v for k, v in form.first().items() if k != 'csrf'}
  verdict = given.get('verdict')
  try:
    await server.desk.review(visitor, id, given)
  except problems.Problem as problem:
    if problem.code not in ('E_FIELD', 'E_DUPLICATE'):
      raise
    request.scope['state']['code'] = problem.code
    one = await server.desk.one(visitor, id)
    return _review_form(request, visitor, one, problem)
  return page_common.redirect(f'/review?done=review.done.{verdict}&id={id[:8]}')


def _review_form(
  request: requests.Request,
  visitor: people.Visitor,
  one: dict[str, Any],
  problem: problems.Problem | None = None,
) -> responses.Response:
  return page_common.page(
    request,
    'review_one.html',
    visitor,
    problem.status if problem else 200,
    here='/review',
    one=one,
    problem=problem,
  )


@router.get('/models')
async def models(request: requests.Request) -> responses.Response:
  """All versions; for administrators, retraining and going back as well."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  visitor.require('reviewer')
  counts = await _counts(server)
  return page_common.page(
    request,
    'models.html',
    visitor,
    here='/models',
    administrator=visitor.may('administrator'),
    accepted=counts['accepted'],
    models=shown_models.shown(
      page_common.words(request), await server.desk.models()
    ),
    state=server.retraining.state(),
    auc=_auc(server),
    said=_said(request),
  )


@router.post('/models/rollback')
async def rollback(request: requests.Request) -> responses.Response:
  """Lets an earlier version serve again."""
  form, visitor = await page_common.form(request)
  number = form.get('number')
  if not _NUMBER.fullmatch(number):
    raise problems.Problem('E_FIELD', 'number: give the number of a model.')
  await parts.of(request).desk.rollback(visitor, int(number))
  return page_common.redirect(
    f'/models?done=models.rolled_back&id={int(number)}'
  )


@router.post('/models/retrain')
async def retrain(request: requests.Request) -> responses.Response:
  """Starts a retraining."""
  server = parts.of(request)
  _, visitor = await page_common.form(request)
  user = visitor.require('administrator')
  state = await server.workers.store(server.retraining.start, user.name)
  if page_common.is_part(request):
    return _retrain_part(request, visitor, state)
  return page_common.redirect('/models')


@router.get('/models/retrain')
async def retrain_state(request: requests.Request) -> responses.Response:
  """How a retraining goes."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  visitor.require('administrator')
  if not page_common.is_part(request):
    return page_common.redirect('/models')
  return _retrain_part(request, visitor, server.retraining.state())


def _retrain_part(
  request: requests.Request, visitor: people.Visitor, state: dict[str, Any]
) -> responses.Response:
  return page_common.page(request, 'parts/retrain.html', visitor, state=state)


def _auc(server: parts.Parts) -> str:
  """How the model that answers did on its validation set, by its own run."""
  if not server.engine.ready:
    return ''
  seen = answers.model_answer(server.engine.current)['validation']
  return shown_models.interval(seen['roc_auc']) if seen['roc_auc'] else ''


async def _counts(server: parts.Parts) -> dict[str, int]:
  """How many submissions there are of each status."""

  def read():
    with server.db.reading() as session:
      return submissions.counts(session)

  return await server.workers.store(read)


def _said(request: requests.Request) -> str:
  """What the page before has done, from a fixed list of sentences."""
  t = page_common.words(request)
  key = request.query_params.get('done', '')
  id = request.query_params.get('id', '')
  known = _DONE.fullmatch(key) and key in t and _SHORT.fullmatch(id)
  return t(key, id=id, number=id) if known else ''
