"""The outer layer: an id, a log line, figures and headers for every request.

Nothing of a patient, no file name and no address goes into logs or figures:
routes are named by their pattern, errors by their code.
"""

import json
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable

import prometheus_client
from starlette import responses

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.web import bodies, security

LOG = logging.getLogger('rsna_jax.serve')
_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
Render = Callable[
  [bodies.Scope, problems.Problem], Awaitable[responses.Response]
]


class Figures:
  """What /metrics tells, in a registry of its own."""

  def __init__(self):
    self.registry = prometheus_client.CollectorRegistry()
    self.requests = prometheus_client.Counter(
      'rsna_requests',
      'Requests answered.',
      ('method', 'route', 'status'),
      registry=self.registry,
    )
    self.problems = prometheus_client.Counter(
      'rsna_problems',
      'Requests that were not answered as asked.',
      ('code',),
      registry=self.registry,
    )
    self.seconds = prometheus_client.Histogram(
      'rsna_request_seconds',
      'Time of a request.',
      ('route',),
      buckets=_BUCKETS,
      registry=self.registry,
    )
    self.stages = prometheus_client.Histogram(
      'rsna_stage_seconds',
      'Time of a stage of an answer: read (decoding), model, explain.',
      ('stage',),
      buckets=_BUCKETS,
      registry=self.registry,
    )
    self.images = prometheus_client.Counter(
      'rsna_images', 'Images answered.', registry=self.registry
    )
    self.gauge('rsna_resident_bytes', 'Memory of the server.', resident_bytes)

  def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
    """Adds a figure that is looked up when it is asked for."""
    made = prometheus_client.Gauge(name, what, registry=self.registry)
    made.set_function(value)

  def text(self) -> bytes:
    """All figures, as Prometheus reads them."""
    return prometheus_client.generate_latest(self.registry)


class Observed:
  """Layer that renders problems, and lets no answer out without its headers."""

  def __init__(
    self,
    app: bodies.App,
    settings: settings_lib.Settings,
    figures: Figures,
    render: Render,
  ):
    self._app = app
    self._settings = settings
    self._figures = figures
    self._render = render

  async def __call__(self, scope, receive, send) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    start = time.monotonic()
    state = scope.setdefault('state', {})
    state['request_id'] = secrets.token_hex(8)
    state['cookies'] = []
    answer = {'status': 0, 'bytes': 0}

    async def observed(message):
      if message['type'] == 'http.response.start':
        answer['status'] = message['status']
        message = {**message, 'headers': self._headers(scope, message)}
      else:
        answer['bytes'] += len(message.get('body', b''))
      await send(message)

    try:
      await self._app(scope, receive, observed)
    except bodies.Gone:
      answer['status'] = answer['status'] or 499
      raise
    except Exception as error:
      if answer['status']:
        raise  # half an answer is out: the connection has to go
      problem = error
      if not isinstance(error, problems.Problem):
        problem = fault(state['request_id'], error)
      response = await self._render(scope, problem)
      await response(scope, receive, observed)
    finally:
      self._note(scope, answer, time.monotonic() - start)

  def _headers(self, scope, message) -> list[tuple[bytes, bytes]]:
    own = security.headers(self._settings, scope['path'], message['status'])
    names = {name for name, _ in own} | {b'server'}
    given = [
      (name, value)
      for name, value in message.get('headers', [])
      if name.lower() not in names
    ]
    cookies = [
      (b'set-cookie', text.encode('latin-1'))
      for text in scope['state']['cookies']
    ]
    request = (b'x-request-id', scope['state']['request_id'].encode())
    return [*given, *own, *cookies, request]

  def _note(self, scope, answer, seconds: float) -> None:
    state = scope['state']
    route = state.get('route') or 'other'
    if scope['path'].startswith('/static/'):
      route = '/static'
    method = scope['method'] if scope['method'] in _METHODS else 'other'
    self._figures.requests.labels(method, route, answer['status']).inc()
    self._figures.seconds.labels(route).observe(seconds)
    if state.get('code'):
      self._figures.problems.labels(state['code']).inc()
    line = {
      'request': state['request_id'],
      'method': method,
      'route': route,
      'status': answer['status'],
      'ms': round(1000 * seconds),
      'bytes': answer['bytes'],
    }
    line |= {k: state[k] for k in ('code', 'model', 'images') if k in state}
    LOG.info('%s', json.dumps(line))


_METHODS = ('GET', 'HEAD', 'POST', 'PATCH', 'DELETE')


def fault(request_id: str, error: Exception) -> problems.Problem:
  """Logs a fault of ours, and gives what is said of it.

  The error's own text is left out of the log: it may quote what was sent.
  """
  frames = ''.join(traceback.format_tb(error.__traceback__))
  LOG.error('request %s: %s\n%s', request_id, type(error).__name__, frames)
  return problems.Problem(
    'E_FAULT', 'Something went wrong on our side; the log has it.'
  )


def resident_bytes() -> int:
  """Memory of this process, as far as it is in use."""
  with open('/proc/self/status', encoding='ascii') as file:
    for line in file:
      if line.startswith('VmRSS:'):
        return int(line.split()[1]) * 1024
  return 0
