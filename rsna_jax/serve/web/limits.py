"""How much one client may ask for, and which requests are none at all."""

import collections
import ipaddress
import threading
import time
from collections.abc import Callable

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.web import bodies

METHODS = ('GET', 'HEAD', 'POST', 'PATCH', 'DELETE')
_KEYS = 20_000  # clients that a table remembers
_PATH_CHARACTERS = 512
_UNLIMITED = ('/health', '/ready', '/api/v1/health', '/api/v1/ready')
_SMALL = ('/static/', '/api/v1/uploads/')
# Of no use here, and a known way to make a server work.
_DROPPED = (b'range', b'if-range')


class Buckets:
  """Token buckets: each key may do so much a minute, and save up a minute's.

  The table is bounded: the key that has been quiet longest is forgotten.
  """

  def __init__(
    self,
    per_minute: float,
    clock: Callable[[], float] = time.monotonic,
    keys: int = _KEYS,
  ):
    self._most = float(per_minute)
    self._rate = per_minute / 60
    self._clock = clock
    self._keys = keys
    self._lock = threading.Lock()
    # Key -> tokens left, and when that was.
    self._table: collections.OrderedDict[str, tuple[float, float]] = (
      collections.OrderedDict()
    )

  def __len__(self) -> int:
    return len(self._table)

  def take(self, key: str, n: float = 1) -> None:
    """Spends tokens.

    Raises:
      problems.Problem: E_RATE, with when enough of them are there again.
    """
    with self._lock:
      left = self._left(key)
      missing = n - left
      if missing <= 0:
        left -= n
      self._table[key] = left, self._clock()
      self._table.move_to_end(key)
      while len(self._table) > self._keys:
        self._table.popitem(last=False)
    if missing > 0:
      raise _too_many(missing / self._rate if self._rate else 60.0)

  def give_back(self, key: str, n: float = 1) -> None:
    """Undoes a `take`."""
    with self._lock:
      left = min(self._most, self._left(key) + n)
      self._table[key] = left, self._clock()

  def _left(self, key: str) -> float:
    left, at = self._table.get(key, (self._most, self._clock()))
    return min(self._most, left + (self._clock() - at) * self._rate)


class Guard:
  """An ASGI layer that refuses what no route should see."""

  def __init__(
    self,
    app: bodies.App,
    settings: settings_lib.Settings,
    requests: Buckets,
    check: Callable[[bodies.Scope], None],
  ):
    """Makes the layer.

    Args:
      app: the next one.
      settings: of the server.
      requests: of all clients; a picture or a file of the page is a fifth.
      check: a further look at every request, which raises a Problem.
    """
    self._app = app
    self._settings = settings
    self._requests = requests
    self._check = check
    hosts = {name.lower() for name in settings.allowed_hosts}
    self._hosts = None if '*' in hosts else hosts | {settings.host.lower()}

  async def __call__(self, scope, receive, send) -> None:
    if scope['type'] == 'http':
      scope = self._checked(scope)
    await self._app(scope, receive, send)

  def _checked(self, scope: bodies.Scope) -> bodies.Scope:
    """The request as the routes are to see it.

    Raises:
      problems.Problem: it is refused.
    """
    if scope['path'] not in _UNLIMITED:
      small = scope['path'].startswith(_SMALL) and scope['method'] == 'GET'
      self._requests.take(client_of(scope), 0.2 if small else 1)
    if scope['method'] not in METHODS:
      raise problems.Problem(
        'E_METHOD', f'Methods are {", ".join(METHODS)}, and no others.'
      )
    if scope.get('http_version', '1.1') not in ('1.0', '1.1'):
      raise _bad('it is of a version of HTTP that does not exist')
    self._check_headers(scope)
    check_path(scope)
    self._check(scope)
    headers = [pair for pair in scope['headers'] if pair[0] not in _DROPPED]
    method = 'GET' if scope['method'] == 'HEAD' else scope['method']
    return {**scope, 'headers': headers, 'method': method}

  def _check_headers(self, scope: bodies.Scope) -> None:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope['headers']:
      found.setdefault(name, []).append(value.strip())
    hosts = found.get(b'host', [])
    if len(hosts) != 1:
      raise _bad('it needs one Host header')
    name = host_name(hosts[0].decode('latin-1'))
    if self._hosts is not None and name not in self._hosts:
      raise _bad(
        'this server does not go by that name; whoever runs it can add it '
        'with --set allowed_hosts=NAME'
      )
    if any(
      one.lower() != b'identity' for one in found.get(b'content-encoding', [])
    ):
      raise problems.Problem(
        'E_TYPE', 'Send the body as it is, without Content-Encoding.'
      )
    lengths = found.get(b'content-length', [])
    if lengths and b'transfer-encoding' in found:
      raise _bad('it has Content-Length and Transfer-Encoding')
    for length in lengths:
      if not length.isdigit():
        raise _bad('its Content-Length is no number')
      if int(length[:20]) > self._settings.body_bytes:
        raise bodies.too_large(self._settings)


def check_path(scope: bodies.Scope) -> None:
  """Refuses paths that play tricks, however they are written.

  Raises:
    problems.Problem: E_NOT_FOUND.
  """
  path = scope['path']
  raw = scope.get('raw_path', b'').lower()
  if (
    len(path) > _PATH_CHARACTERS
    or not path.isprintable()
    or '\\' in path
    or '//' in path
    or any(part in ('.', '..') for part in path.split('/'))
    or b'%2f' in raw
    or b'%5c' in raw
    or b'%25' in raw
  ):
    raise problems.Problem('E_NOT_FOUND', 'There is nothing at this address.')


def client_of(scope: bodies.Scope) -> str:
  """Whom a rate is held against: the peer's address, whatever headers say.

  Of IPv6 the first 64 bits, of which one subscriber has all the rest.
  """
  host = (scope.get('client') or ('',))[0]
  try:
    address = ipaddress.ip_address(host)
  except ValueError:
    return host
  if address.version == 6:
    if address.ipv4_mapped:
      return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
  return host


def host_name(host: str) -> str:
  """The name in a Host header, without its port."""
  host = host.lower()
  if host.startswith('['):
    return host.partition(']')[0] + ']'
  return host.partition(':')[0]


def _too_many(seconds: float) -> problems.Problem:
  return problems.Problem(
    'E_RATE',
    'Too many requests from you; wait a moment.',
    max(1.0, seconds),
  )


def _bad(reason: str) -> problems.Problem:
  return problems.Problem('E_REQUEST', f'The request is refused: {reason}.')
