"""Pages of people with a login: submitting and reviewing."""

from typing import Any

import fastapi
from fastapi import responses
from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve.pages import page_common, shown_models
from rsna_jax.serve.web import parts, people

router = fastapi.APIRouter(include_in_schema=False)


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
    said=page_common.said(request),
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
    counts=await page_common.counts(server),
    said=page_common.said(request),
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
