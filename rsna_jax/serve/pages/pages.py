"""The page for people: reading mammograms, the card, and about it all."""

from typing import Any

import fastapi
from fastapi import responses
from starlette import requests

from rsna_jax.serve.answering import answers
from rsna_jax.serve.pages import (
  markdown,
  page_common,
  pages_desk,
  pages_login,
  pages_models,
  shown_answer,
  shown_api,
)
from rsna_jax.serve.web import forms, known, parts

router = fastapi.APIRouter(include_in_schema=False)
for one in (pages_login, pages_desk, pages_models):
  router.include_router(one.router)
problem_page = page_common.problem_page


@router.get('/')
async def start(request: requests.Request) -> responses.Response:
  """Where images are chosen."""
  visitor = await parts.of(request).people.visitor(request)
  return page_common.page(request, 'index.html', visitor, here='/')


@router.post('/predict')
async def predict(request: requests.Request) -> responses.Response:
  """The answer to the images of a form."""
  server = parts.of(request)
  _ = server.engine.current  # where none is ready, no file is read
  form = await forms.read(request, server.settings)
  visitor = await server.people.uploader(request, form.fields)
  state = request.scope['state']
  answer = await server.service.predict(
    form.files, known.of_files(form), visitor, state['request_id']
  )
  state['model'] = answer['model']['number']
  state['images'] = len(answer['images'])
  kept = [
    server.service.uploads.get(image['id'], visitor.owner)
    for image in answer['images']
  ]
  shown = shown_answer.shown(
    page_common.words(request),
    answer,
    server.engine.by_number(answer['model']['number']),
    kept,
  )
  name = 'answer.html'
  if page_common.is_part(request):
    name = 'parts/answer.html'
  return page_common.page(request, name, visitor, here='/', answer=shown)


@router.get('/card')
async def card(request: requests.Request) -> responses.Response:
  """The card of the model that answers."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  current = server.engine.current
  t = page_common.words(request)
  text = current.card or f'# {t("card.title")}\n\n{t("card.none")}'
  return page_common.page(
    request,
    'card.html',
    visitor,
    here='/card',
    model=answers.model_answer(current),
    card=markdown.to_html(text, lambda n: t('card.table', n=n)),
  )


@router.get('/about')
async def about(request: requests.Request) -> responses.Response:
  """What it is for, and what happens to images."""
  visitor = await parts.of(request).people.visitor(request)
  return page_common.page(request, 'about.html', visitor, here='/about')


@router.get('/docs')
async def docs(request: requests.Request) -> responses.Response:
  """The programming interface."""
  visitor = await parts.of(request).people.visitor(request)
  app: Any = request.app
  return page_common.page(
    request,
    'docs.html',
    visitor,
    here='/docs',
    operations=shown_api.operations(app.openapi()),
    openapi=app.openapi_url,
    base=str(request.base_url).rstrip('/'),
  )
