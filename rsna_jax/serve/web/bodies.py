"""The body of a request as an ASGI layer: a cap in bytes and a cap in time.

FastAPI has neither. A body that is refused is not read to its end: the answer
closes the connection, after a moment in which the client can read it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LINGER_BYTES = 1 << 20
LINGER_S = 2.0
_ROOM = 4  # bodies of the greatest size that are held at once
_NO_TIME = (
  'The request did not arrive within {:g} s; try again on a better connection.'
)


class Gone(Exception):
  """The client has left before its request was whole."""


class Bodies:
  """Counts the bytes of bodies, one request's and those of all together."""

  def __init__(self, app: App, settings: settings_lib.Settings):
    self._app = app
    self._settings = settings
    self._held = 0

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    body = _Body(self, scope, receive, send)
    try:
      await self._app(scope, body.receive, body.send)
    except Gone:
      pass  # nobody is there to be answered
    finally:
      self._held -= body.counted

  def take(self, n: int) -> None:
    """Counts bytes in, or refuses them."""
    if self._held + n > _ROOM * self._settings.body_bytes:
      raise problems.Problem(
        'E_BUSY', 'Too many uploads at once; try again in a moment.', 5
      )
    self._held += n

  @property
  def settings(self) -> settings_lib.Settings:
    return self._settings


class _Body:
  """One request's."""

  def __init__(self, owner: Bodies, scope: Scope, receive: Receive, send: Send):
    self._owner = owner
    self._receive = receive
    self._send = send
    self._end = time.monotonic() + owner.settings.body_s
    self.counted = 0
    self._whole = not has_body(scope)

  async def receive(self) -> Message:
    """The next piece.

    Raises:
      problems.Problem: E_SIZE, E_BUSY, or E_REQUEST for one that is too slow.
      Gone: the client is.
    """
    if self._whole:
      return await self._receive()  # waits until the client goes
    limit = self._owner.settings
    try:
      async with asyncio.timeout(self._end - time.monotonic()):
        message = await self._receive()
    except TimeoutError:
      raise problems.Problem(
        'E_REQUEST', _NO_TIME.format(limit.body_s)
      ) from None
    if message['type'] == 'http.disconnect':
      raise Gone
    n = len(message.get('body', b''))
    if self.counted + n > limit.body_bytes:
      raise too_large(limit)
    self._owner.take(n)
    self.counted += n
    self._whole = not message.get('more_body', False)
    return message

  async def send(self, message: Message) -> None:
    """Sends the answer; behind it the connection ends if the body has not."""
    last = message['type'] == 'http.response.body' and not message.get(
      'more_body', False
    )
    if not self._whole:
      if message['type'] == 'http.response.start':
        headers = [*message.get('headers', []), (b'connection', b'close')]
        message = {**message, 'headers': headers}
      elif last:
        await self._timed({**message, 'more_body': True})
        await self._linger()
        message = {'type': 'http.response.body', 'body': b''}
    await self._timed(message)

  async def _timed(self, message: Message) -> None:
    async with asyncio.timeout(self._owner.settings.body_s):
      await self._send(message)

  async def _linger(self) -> None:
    """Reads a little more, or the answer would be lost with the connection."""
    n, whole = 0, False
    try:
      async with asyncio.timeout(LINGER_S):
        while n < LINGER_BYTES and not whole:
          message = await self._receive()
          n += len(message.get('body', b''))
          whole = not message.get('more_body', False)
    except TimeoutError:
      pass


def too_large(settings: settings_lib.Settings) -> problems.Problem:
  """What is said of a body beyond the cap."""
  return problems.Problem(
    'E_SIZE',
    f'A request has at most {settings.body_bytes / 2**20:.4g} MiB.',
  )


def has_body(scope: Scope) -> bool:
  """Whether the headers announce a body."""
  for name, value in scope['headers']:
    if name == b'transfer-encoding':
      return True
    if name == b'content-length' and value.strip() != b'0':
      return True
  return False
