"""Pages of the models: their versions, going back, and retraining."""

import re
from typing import Any

import fastapi
from fastapi import responses
from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve.answering import answers
from rsna_jax.serve.pages import page_common, shown_models
from rsna_jax.serve.web import parts, people

router = fastapi.APIRouter(include_in_schema=False)
_NUMBER = re.compile(r'[0-9]{1,9}')


@router.get('/models')
async def models(request: requests.Request) -> responses.Response:
  """All versions; for administrators, retraining and going back as well."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  visitor.require('reviewer')
  counts = await page_common.counts(server)
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
    said=page_common.said(request),
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
