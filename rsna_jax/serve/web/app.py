"""The application: layers, routes, and how a problem is told."""

import asyncio
import contextlib
import math
import pathlib

import fastapi
from fastapi import exceptions as fastapi_exceptions
from fastapi import responses
from starlette import exceptions, requests, staticfiles

import rsna_jax
from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.pages import pages, rendering
from rsna_jax.serve.web import api, api_store, bodies, limits, observe, security
from rsna_jax.serve.web import parts as parts_lib

_PROGRAMS = ('/api/', '/metrics', '/health', '/ready', '/static/')
_ABOUT = f"""{settings_lib.NOTICE}

Mammograms in, density and probability of cancer out. An upload is kept for a
while under an id that only the one who sent it can use, by a cookie. Changes of
somebody who has logged in need the header X-CSRF-Token, which the login gives,
and an Origin. A problem is JSON with code, message and request_id.
"""


def create_app(
  settings: settings_lib.Settings, workdir: pathlib.Path | str | None = None
) -> fastapi.FastAPI:
  """Makes the server; its lifespan starts the model.

  Args:
    settings: its options.
    workdir: the run that a new store starts with.

  Raises:
    errors.InputError: the store or the run is not usable.
  """
  server = parts_lib.make(
    settings, None if workdir is None else pathlib.Path(workdir)
  )
  app = fastapi.FastAPI(
    title='rsna_jax',
    version=rsna_jax.__version__,
    description=_ABOUT,
    openapi_url='/api/v1/openapi.json',
    docs_url=None,
    redoc_url=None,
    redirect_slashes=False,
    lifespan=_lifespan,
    dependencies=[fastapi.Depends(_note_route)],
  )
  app.state.parts = server
  app.include_router(api.router)
  app.include_router(api_store.router)
  app.add_api_route('/health', api.health, include_in_schema=False)
  app.add_api_route('/ready', api.ready, include_in_schema=False)
  app.add_api_route('/metrics', _metrics, include_in_schema=False)
  app.mount('/static', staticfiles.StaticFiles(directory=rendering.STATIC))
  app.include_router(pages.router)
  app.add_exception_handler(problems.Problem, _on_problem)
  app.add_exception_handler(exceptions.HTTPException, _on_http)
  app.add_exception_handler(
    fastapi_exceptions.RequestValidationError, _on_field
  )
  # The last one that is added is the outermost.
  app.add_middleware(
    limits.Guard,
    settings=settings,
    requests=limits.Buckets(settings.requests_per_minute),
    check=lambda scope: security.check_origin(scope, settings),
  )
  app.add_middleware(
    observe.Observed,
    settings=settings,
    figures=server.figures,
    render=lambda scope, problem: _rendered(app, scope, problem),
  )
  app.add_middleware(bodies.Bodies, settings=settings)
  return app


@contextlib.asynccontextmanager
async def _lifespan(app: fastapi.FastAPI):
  server: parts_lib.Parts = app.state.parts
  server.start()
  following = asyncio.create_task(server.follow())
  try:
    yield
  finally:
    following.cancel()
    await asyncio.to_thread(server.stop)


async def _note_route(request: requests.Request) -> None:
  route = request.scope.get('route')
  request.scope['state']['route'] = getattr(route, 'path', 'other')


async def _metrics(request: requests.Request) -> responses.Response:
  return responses.Response(
    parts_lib.of(request).figures.text(),
    media_type='text/plain; version=0.0.4; charset=utf-8',
  )


async def _rendered(
  app: fastapi.FastAPI, scope: bodies.Scope, problem: problems.Problem
) -> responses.Response:
  """A problem as JSON, or for a person as a page."""
  state = scope['state']
  state['code'] = problem.code
  if scope['path'].startswith(_PROGRAMS):
    made = responses.JSONResponse(
      {
        'code': problem.code,
        'message': problem.message,
        'request_id': state['request_id'],
        'notice': settings_lib.NOTICE,
      },
      problem.status,
    )
  else:
    scope = {**scope, 'app': app}
    made = await pages.problem_page(requests.Request(scope), problem)
  if problem.retry_after_s is not None:
    made.headers['Retry-After'] = str(math.ceil(problem.retry_after_s))
  if problem.code == 'E_METHOD':
    made.headers.setdefault('Allow', ', '.join(limits.METHODS))
  return made


async def _on_problem(request: requests.Request, problem: problems.Problem):
  return await _rendered(request.app, request.scope, problem)


async def _on_http(request: requests.Request, error: exceptions.HTTPException):
  if error.status_code == 405:
    problem = problems.Problem(
      'E_METHOD', 'This address does not take that method.'
    )
  elif error.status_code == 404:
    problem = problems.Problem('E_NOT_FOUND', 'There is nothing here.')
  else:
    problem = problems.Problem('E_REQUEST', 'The request is malformed.')
  made = await _rendered(request.app, request.scope, problem)
  if error.headers and 'Allow' in error.headers:
    made.headers['Allow'] = error.headers['Allow']
  return made


async def _on_field(
  request: requests.Request, error: fastapi_exceptions.RequestValidationError
):
  place = error.errors()[0].get('loc', ('', 'value'))
  problem = problems.Problem(
    'E_FIELD', f'{place[-1]}: not a value that it can have.'
  )
  return await _rendered(request.app, request.scope, problem)
