"""The JSON interface to the model: predict, explain, pictures, health."""

from typing import Annotated, Any

import fastapi
from fastapi import responses
from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import answers
from rsna_jax.serve.web import forms, known, parts

router = fastapi.APIRouter(prefix='/api/v1')
_PNG = {200: {'content': {'image/png': {}}, 'description': 'A PNG.'}}


def said(request: requests.Request, **values: Any) -> dict[str, Any]:
  """An answer's values with the notice and the request's id."""
  return {
    'notice': settings_lib.NOTICE,
    'request_id': request.scope['state']['request_id'],
    **values,
  }


def _body(kind: str, required: tuple = (), **fields: dict) -> dict[str, Any]:
  """What OpenAPI says of a body that we read ourselves."""
  schema = {'type': 'object', 'properties': fields, 'required': list(required)}
  return {
    'requestBody': {'required': True, 'content': {kind: {'schema': schema}}}
  }


def json_body(required: tuple = (), **fields: dict) -> dict[str, Any]:
  """What OpenAPI says of a JSON body."""
  return _body('application/json', required, **fields)


def _each(what: str, **schema: Any) -> dict[str, Any]:
  return {
    'type': 'array',
    'items': schema,
    'description': f'{what} One value for all files, or one for each.',
  }


@router.post(
  '/predict',
  summary='Answer the images of one woman.',
  openapi_extra=_body(
    'multipart/form-data',
    ('files',),
    files={
      'type': 'array',
      'items': {'type': 'string', 'format': 'binary'},
      'description': 'DICOM, PNG, JPEG or PGM; the images of one woman.',
    },
    age=_each('Years.', type='number'),
    implant=_each('Of the breast.', type='integer', enum=[0, 1]),
    view=_each('', type='string', enum=['CC', 'MLO', 'AT', 'LM', 'ML', 'LMO']),
    laterality=_each('Side.', type='string', enum=['L', 'R']),
  ),
)
async def predict(request: requests.Request) -> dict[str, Any]:
  """Density and cancer of each image and of each breast.

  What is not given, and not in the files either, stays unknown.
  """
  server = parts.of(request)
  server.engine.check_ready()  # before the files are read
  form = await forms.read(request, server.settings)
  visitor = await server.people.uploader(request, form.fields)
  state = request.scope['state']
  answer = await server.service.predict(
    form.files, known.of_files(form), visitor, state['request_id']
  )
  state['model'] = answer['model']['number']
  state['images'] = len(answer['images'])
  return answer


@router.post(
  '/explain',
  summary='Say where in an image the answer comes from.',
  openapi_extra=json_body(
    ('upload',),
    upload={'type': 'string', 'description': 'The id of an image.'},
    target={
      'type': 'string',
      'description': 'A class, or cancer; without: cancer where the model '
      'speaks of it.',
    },
  ),
)
async def explain(request: requests.Request) -> dict[str, Any]:
  """Method, class, peak in original pixels, and the address of the map."""
  server = parts.of(request)
  fields = await forms.read_fields(request, server.settings)
  visitor = await server.people.visitor(request, fields)
  found = await server.service.explain(
    str(fields.get('upload', '')), visitor, _target(fields.get('target'))
  )
  return said(request, **found)


@router.get(
  '/uploads/{id}/picture.png',
  summary='The whole original.',
  response_class=responses.Response,
  responses=_PNG,
)
async def picture(request: requests.Request, id: str) -> responses.Response:
  """At most `picture_px` pixels on its longer side, bright breast on black."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  return _png(await server.service.picture(id, visitor))


@router.get(
  '/uploads/{id}/standard.png',
  summary='What the model saw.',
  response_class=responses.Response,
  responses=_PNG,
)
async def standard(request: requests.Request, id: str) -> responses.Response:
  """The breast, cropped, turned so that the chest is left, and resized."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  return _png(await server.service.standard(id, visitor))


@router.get(
  '/uploads/{id}/heat.png',
  summary='The heat map, to lay over the picture.',
  response_class=responses.Response,
  responses=_PNG,
)
async def heat(
  request: requests.Request, id: str, target: str | None = None
) -> responses.Response:
  """As large as the picture; clear where nothing speaks for the class."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  return _png(await server.service.heat(id, visitor, _target(target)))


@router.get(
  '/uploads/{id}/window.png',
  summary='The original with a window laid on it.',
  response_class=responses.Response,
  responses=_PNG,
)
async def window(
  request: requests.Request,
  id: str,
  center: Annotated[
    float, fastapi.Query(description='0 to 1, as a share of white')
  ] = 0.5,
  width: Annotated[
    float, fastapi.Query(description='0.001 to 2, as a share of white')
  ] = 1.0,
) -> responses.Response:
  """Black up to `center - width / 2`, white from `center + width / 2` on."""
  server = parts.of(request)
  visitor = await server.people.visitor(request)
  return _png(await server.service.window(id, visitor, center, width))


@router.get('/health', summary='Whether the server runs.')
async def health(request: requests.Request) -> dict[str, Any]:
  """200 as long as it answers at all."""
  return said(request, status='ok')


@router.get('/ready', summary='Whether a model is ready.')
async def ready(request: requests.Request) -> dict[str, Any]:
  """200 with the model that answers; 503 while it is made ready."""
  server = parts.of(request)
  return said(
    request,
    status='ready',
    model=answers.model_answer(server.engine.current),
    waiting=server.service.under_way(),
  )


def _png(data: bytes) -> responses.Response:
  return responses.Response(data, media_type='image/png')


def _target(text: Any) -> str | None:
  if text in (None, ''):
    return None
  if not isinstance(text, str) or len(text) > 64:
    raise problems.Problem('E_FIELD', 'target: name a class of the model.')
  return text
