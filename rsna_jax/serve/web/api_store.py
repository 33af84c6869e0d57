"""The JSON interface to people, submissions, reviews, models and retraining."""

from typing import Annotated, Any

import fastapi
from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve.web import api, desk, forms, parts

router = fastapi.APIRouter(prefix='/api/v1')
_said = api.said
_body = api.json_body
_TEXT = {'type': 'string'}
_Number = Annotated[int, fastapi.Path(ge=1, le=2**31 - 1)]
_LABELS = {
  'density': {'type': 'string', 'enum': ['A', 'B', 'C', 'D']},
  'cancer': {'type': 'string', 'enum': ['benign', 'malignant']},
}


async def _asked(request: requests.Request):
  """The parts, the fields of the body, and who sends them."""
  server = parts.of(request)
  fields = {}
  if request.headers.get('content-type'):
    fields = await forms.read_fields(request, server.settings)
  return server, fields, await server.people.visitor(request, fields)


@router.post(
  '/login',
  summary='Log in.',
  openapi_extra=_body(('name', 'password'), name=_TEXT, password=_TEXT),
)
async def login(request: requests.Request) -> dict[str, Any]:
  """Sets a cookie, and gives the token for the header X-CSRF-Token."""
  server = parts.of(request)
  fields = await forms.read_fields(request, server.settings)
  name, password = fields.get('name'), fields.get('password')
  if not isinstance(name, str) or not isinstance(password, str):
    raise problems.Problem('E_FIELD', 'name, password: give both, as texts.')
  visitor = await server.people.log_in(request, name, password)
  return _said(request, user=desk.user_answer(visitor.user), csrf=visitor.csrf)


@router.post('/logout', summary='Log out.')
async def logout(request: requests.Request) -> dict[str, Any]:
  """Ends the login on the server, too."""
  server, fields, _ = await _asked(request)
  await server.people.log_out(request, fields)
  return _said(request, user=None)


@router.get('/me', summary='Who is logged in.')
async def me(request: requests.Request) -> dict[str, Any]:
  """The person and the token of their forms, or the role guest."""
  visitor = await parts.of(request).people.visitor(request)
  user = None if visitor.user is None else desk.user_answer(visitor.user)
  return _said(request, user=user, role=visitor.role, csrf=visitor.csrf)


@router.post(
  '/submissions',
  status_code=201,
  summary='Submit an answered upload with labels.',
  openapi_extra=_body(
    ('upload', 'evidence', 'confidence', 'text_checked'),
    upload={'type': 'string', 'description': 'The id of an image.'},
    **_LABELS,
    evidence={'type': 'string', 'enum': ['biopsy', 'opinion']},
    confidence={'type': 'integer', 'enum': [1, 2, 3, 4, 5]},
    patient={
      'type': 'string',
      'description': 'A made-up name that joins the images of one woman.',
    },
    text_checked={
      'type': 'boolean',
      'description': 'You have looked: there is no text in the picture.',
    },
    note=_TEXT,
  ),
)
async def submit(request: requests.Request) -> dict[str, Any]:
  """For contributors. At least one of density and cancer."""
  server, fields, visitor = await _asked(request)
  made = await server.desk.submit(visitor, fields)
  return _said(request, submission=made)


@router.get('/submissions/{id}', summary='A submission.')
async def submission(request: requests.Request, id: str) -> dict[str, Any]:
  """For its contributor, and for reviewers."""
  server, _, visitor = await _asked(request)
  return _said(request, submission=await server.desk.one(visitor, id))


@router.get(
  '/submissions/{id}/picture.png',
  summary='The picture of a submission.',
  response_class=fastapi.Response,
)
async def submitted(request: requests.Request, id: str) -> fastapi.Response:
  """For its contributor, and for reviewers; nothing outside the breast."""
  server, _, visitor = await _asked(request)
  data = await server.desk.picture(visitor, id)
  return fastapi.Response(data, media_type='image/png')


@router.patch(
  '/submissions/{id}',
  summary='Accept a submission with other labels.',
  openapi_extra=_body(**_LABELS),
)
async def correct(request: requests.Request, id: str) -> dict[str, Any]:
  """For reviewers."""
  server, fields, visitor = await _asked(request)
  found = await server.desk.review(
    visitor, id, {**fields, 'verdict': 'correct'}
  )
  return _said(request, submission=found)


@router.delete('/submissions/{id}', summary='Delete a submission for good.')
async def delete(request: requests.Request, id: str) -> dict[str, Any]:
  """For its contributor, and for administrators; file and row are gone."""
  server, _, visitor = await _asked(request)
  await server.desk.delete(visitor, id)
  return _said(request, deleted=id)


@router.get('/queue', summary='Submissions that wait for a review.')
async def queue(
  request: requests.Request,
  status: str = 'pending',
  order: str = 'disagreement',
  limit: int = 100,
  offset: int = 0,
) -> dict[str, Any]:
  """For reviewers; what surprises the model first."""
  server, _, visitor = await _asked(request)
  found = await server.desk.queue(visitor, status, order, limit, offset)
  return _said(request, submissions=found)


@router.post(
  '/submissions/{id}/review',
  summary='Accept, correct or reject a submission.',
  openapi_extra=_body(
    ('verdict',),
    verdict={'type': 'string', 'enum': ['accept', 'correct', 'reject']},
    reason={'type': 'string', 'description': 'Of a rejection.'},
    **_LABELS,
  ),
)
async def review(request: requests.Request, id: str) -> dict[str, Any]:
  """For reviewers; the labels are those of a correction."""
  server, fields, visitor = await _asked(request)
  found = await server.desk.review(visitor, id, fields)
  return _said(request, submission=found)


@router.get('/labels', summary='Your own submissions.')
async def own(
  request: requests.Request, limit: int = 100, offset: int = 0
) -> dict[str, Any]:
  """For contributors; the latest first."""
  server, _, visitor = await _asked(request)
  return _said(
    request, submissions=await server.desk.own(visitor, limit, offset)
  )


@router.get('/models', summary='The versions of the model.')
async def models(request: requests.Request) -> dict[str, Any]:
  """What each learned from, its scores, and which one answers."""
  server = parts.of(request)
  return _said(request, models=await server.desk.models())


@router.post('/models/{number}/promote', summary='Let a version answer.')
async def promote(request: requests.Request, number: _Number) -> dict[str, Any]:
  """For administrators; the server takes it up within `reload_s`."""
  server, _, visitor = await _asked(request)
  return _said(request, model=await server.desk.promote(visitor, number))


@router.post(
  '/models/rollback',
  summary='Go back to an earlier version.',
  openapi_extra=_body(
    number={'type': 'integer', 'description': 'Without: the one before.'}
  ),
)
async def rollback(request: requests.Request) -> dict[str, Any]:
  """For administrators."""
  server, fields, visitor = await _asked(request)
  number = fields.get('number')
  if number not in (None, '') and not str(number).isdecimal():
    raise problems.Problem('E_FIELD', 'number: that of a model.')
  number = None if number in (None, '') else int(str(number)[:9])
  return _said(request, model=await server.desk.rollback(visitor, number))


@router.get('/retrain', summary='How a retraining goes.')
async def retraining(request: requests.Request) -> dict[str, Any]:
  """For reviewers: whether one is under way, and its last line."""
  server, _, visitor = await _asked(request)
  visitor.require('reviewer')
  return _said(request, **server.retraining.state())


@router.post(
  '/retrain', status_code=202, summary='Learn from accepted submissions.'
)
async def retrain(request: requests.Request) -> dict[str, Any]:
  """For administrators; one at a time."""
  server, _, visitor = await _asked(request)
  user = visitor.require('administrator')
  state = await server.workers.store(server.retraining.start, user.name)
  return _said(request, **state)
