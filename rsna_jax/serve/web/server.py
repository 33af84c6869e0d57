"""`rsna-jax serve`: the application under uvicorn, with limits of connections.

uvicorn gives up waiting for nobody's headers, so that a few hundred silent
sockets would shut others out; and it answers what is no HTTP on its own.
"""

import asyncio
import errno
import logging
import pathlib
import signal
import socket
import sys

import h11
import uvicorn
from uvicorn.protocols.http import h11_impl

from rsna_jax import errors, shell
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.web import app as app_lib
from rsna_jax.serve.web import security, startup

_HEADER_BYTES = 32 << 10
_BACKLOG = 512
_KEEP_ALIVE_S = 15


class _Protocol(h11_impl.H11Protocol):
  """One connection."""

  limits: settings_lib.Settings

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(transport)
    self._waits_since = self.loop.time()
    self._headers_timer = self.loop.call_later(
      self.limits.body_s, self._give_up
    )
    waiting = [one for one in self.connections if one.cycle is None]
    if len(self.connections) > self.limits.connections and waiting:
      # Who has waited longest without asking anything gives way.
      min(waiting, key=lambda one: one._waits_since).transport.abort()

  def connection_lost(self, exc: Exception | None) -> None:
    self._headers_timer.cancel()
    super().connection_lost(exc)

  def handle_events(self) -> None:
    super().handle_events()
    if self.cycle is not None and not self.cycle.response_complete:
      self._headers_timer.cancel()  # the body has a time of its own

  def on_response_complete(self) -> None:
    # Armed first: a request that was pipelined begins within the call below.
    self._headers_timer.cancel()
    self._headers_timer = self.loop.call_later(
      self.limits.body_s, self._give_up
    )
    super().on_response_complete()

  def _give_up(self) -> None:
    """Ends a connection whose request has not come."""
    self.transport.abort()

  def send_400_response(self, msg: str) -> None:
    """As uvicorn's, with the headers that every answer has."""
    text = b'The request is no HTTP.'
    headers = [
      (b'content-type', b'text/plain; charset=utf-8'),
      (b'content-length', str(len(text)).encode()),
      (b'connection', b'close'),
      *security.headers(self.limits, '', 400),
    ]
    try:
      for event in (
        h11.Response(status_code=400, headers=headers, reason=b'Bad Request'),
        h11.Data(data=text),
        h11.EndOfMessage(),
      ):
        self.transport.write(self.conn.send(event))
    except h11.LocalProtocolError:
      pass  # an answer is under way already
    self.transport.close()


def command(options) -> int | None:
  """Runs the verb `serve` until it is told to stop.

  Raises:
    errors.InputError: an option, the run or the store is not usable; the port
      is taken.
    shell.Stopped: by SIGTERM, after what was under way was answered.
  """
  settings = settings_lib.parse(
    options.store,
    options.set,
    database=options.database,
    host=options.host,
    port=options.port,
  )
  set_up_logging()
  with startup.only_server(settings.store), listen(settings) as listener:
    made = app_lib.create_app(settings, pathlib.Path(options.workdir))
    print(f'{address(listener, settings)}  (Ctrl-C ends it)', flush=True)
    print(settings_lib.NOTICE, flush=True)
    signal.signal(signal.SIGTERM, _stop)
    run(made, settings, listener)
  return 0


def listen(settings: settings_lib.Settings) -> socket.socket:
  """A socket on the host and port.

  Raises:
    errors.ConfigError: the port is taken, or the host is none of ours.
  """
  family = socket.AF_INET6 if ':' in settings.host else socket.AF_INET
  listener = socket.socket(family, socket.SOCK_STREAM)
  try:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.listen(_BACKLOG)
  except (OSError, OverflowError) as error:
    listener.close()
    place = f'--host {settings.host} --port {settings.port}'
    number = getattr(error, 'errno', None)
    if number == errno.EADDRINUSE:
      raise errors.ConfigError(
        f'{place}: the port is in use; end what uses it, or choose another '
        '--port'
      ) from error
    if number == errno.EACCES:
      raise errors.ConfigError(
        f'{place}: no permission; choose a --port from 1024'
      ) from error
    raise errors.ConfigError(
      f'{place}: cannot be listened on ({error})'
    ) from error
  return listener


def address(listener: socket.socket, settings: settings_lib.Settings) -> str:
  """Where a browser finds it."""
  host = settings.host
  if host in ('0.0.0.0', '::'):
    host = 'localhost'
  elif ':' in host:
    host = f'[{host}]'
  return f'http://{host}:{listener.getsockname()[1]}/'


def run(made, settings: settings_lib.Settings, listener: socket.socket) -> None:
  """Serves on a socket until a signal, or until `should_exit` is set."""
  make(made, settings).run(sockets=[listener])


def make(made, settings: settings_lib.Settings) -> uvicorn.Server:
  """A uvicorn server that is not running yet."""
  protocol = type('_Limited', (_Protocol,), {'limits': settings})
  return uvicorn.Server(
    uvicorn.Config(
      made,
      http=protocol,
      ws='none',
      loop='asyncio',
      lifespan='on',
      log_config=None,
      access_log=False,
      server_header=False,
      date_header=True,
      proxy_headers=False,
      timeout_keep_alive=_KEEP_ALIVE_S,
      timeout_graceful_shutdown=int(settings.answer_s) + 5,
      h11_max_incomplete_event_size=_HEADER_BYTES,
      backlog=_BACKLOG,
    )
  )


def set_up_logging() -> None:
  """A line for each request on standard error; uvicorn's own from errors up."""
  log = logging.getLogger('rsna_jax.serve')
  log.setLevel(logging.INFO)
  log.propagate = False
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter('%(asctime)s %(message)s'))
  log.handlers[:] = [handler]
  for name in ('uvicorn', 'uvicorn.error', 'uvicorn.access'):
    logging.getLogger(name).setLevel(logging.CRITICAL)


def _stop(number, frame) -> None:
  raise shell.Stopped(143, 'stopped; what was under way has been answered')
