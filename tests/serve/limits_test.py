"""Rates, and requests that no route sees."""

import asyncio
import pathlib

import pytest

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.web import limits

_SETTINGS = settings_lib.Settings(store=pathlib.Path('s'))


class _Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_a_bucket_lets_through_so_much_a_minute_and_says_when_more():
  clock = _Clock()
  buckets = limits.Buckets(30, clock)
  for _ in range(30):
    buckets.take('a')
  with pytest.raises(problems.Problem) as caught:
    buckets.take('a')
  assert caught.value.code == 'E_RATE'
  assert caught.value.status == 429
  assert caught.value.retry_after_s == pytest.approx(2)
  buckets.take('b')  # another is not held back
  clock.now += 2
  buckets.take('a')
  with pytest.raises(problems.Problem):
    buckets.take('a')


def test_what_is_refused_costs_nothing():
  clock = _Clock()
  buckets = limits.Buckets(60, clock)
  buckets.take('a', 60)
  for _ in range(100):
    with pytest.raises(problems.Problem):
      buckets.take('a')
  clock.now += 1
  buckets.take('a')


def test_what_is_given_back_may_be_spent_again():
  buckets = limits.Buckets(1, _Clock())
  buckets.take('a')
  buckets.give_back('a')
  buckets.take('a')


def test_the_table_is_bounded():
  buckets = limits.Buckets(10, _Clock(), keys=50)
  for i in range(1000):
    buckets.take(str(i))
  assert len(buckets) == 50


@pytest.mark.parametrize(
  ('address', 'expected'),
  [
    ('203.0.113.9', '203.0.113.9'),
    ('2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'),
    ('2001:db8:1:2:ffff::1', '2001:db8:1:2::/64'),
    ('::ffff:203.0.113.9', '203.0.113.9'),
    ('nonsense', 'nonsense'),
  ],
)
def test_a_client_is_its_address_or_its_subscription(address, expected):
  assert limits.client_of({'client': (address, 5)}) == expected


def _seen(settings=_SETTINGS, **changes):
  """What the next layer sees of a request, or the problem."""
  scope = {
    'type': 'http',
    'method': 'GET',
    'path': '/',
    'raw_path': b'/',
    'client': ('192.0.2.1', 1),
    'headers': [(b'host', b'localhost:8000')],
    **changes,
  }
  seen = []

  async def app(scope, receive, send):
    seen.append(scope)

  guard = limits.Guard(
    app, settings, limits.Buckets(1e9), check=lambda scope: None
  )
  asyncio.run(guard(scope, None, None))
  return seen[0]


def _refused(**changes):
  with pytest.raises(problems.Problem) as caught:
    _seen(**changes)
  return caught.value.code


@pytest.mark.parametrize(
  ('path', 'raw'),
  [
    ('/../etc/passwd', b'/../etc/passwd'),
    ('/a/../b', b'/a/%2e%2e/b'),
    ('/./a', b'/./a'),
    ('//evil.example', b'//evil.example'),
    ('/\\evil', b'/\\evil'),
    ('/static/..\\x', b'/static/..%5cx'),
    ('/a/b', b'/a%2fb'),
    ('/a%2e', b'/a%252e'),
    ('/a\0', b'/a%00'),
    ('/a\r\nb', b'/a%0d%0ab'),
    ('/' + 'a' * 600, b'/' + b'a' * 600),
  ],
)
def test_tricks_with_paths_find_nothing(path, raw):
  assert _refused(path=path, raw_path=raw) == 'E_NOT_FOUND'


@pytest.mark.parametrize('path', ['/', '/static/page.css', '/api/v1/models/3'])
def test_plain_paths_pass(path):
  assert _seen(path=path, raw_path=path.encode())['path'] == path


@pytest.mark.parametrize('method', ['TRACE', 'OPTIONS', 'PUT', 'CONNECT', 'X'])
def test_other_methods_are_refused(method):
  assert _refused(method=method) == 'E_METHOD'


@pytest.mark.parametrize(
  'hosts',
  [[], [b'evil.example'], [b'localhost', b'localhost'], [b'localhost.evil']],
)
def test_other_hosts_are_refused(hosts):
  assert _refused(headers=[(b'host', h) for h in hosts]) == 'E_REQUEST'


@pytest.mark.parametrize(
  'host', [b'localhost', b'127.0.0.1:8000', b'[::1]:8000', b'LOCALHOST:1']
)
def test_own_names_pass(host):
  assert _seen(headers=[(b'host', host)])


def test_any_host_may_be_allowed():
  settings = settings_lib.parse('s', ['allowed_hosts=*'])
  assert _seen(settings, headers=[(b'host', b'anything.example')])


_HOST = (b'host', b'localhost')


@pytest.mark.parametrize(
  ('header', 'code'),
  [
    ((b'content-encoding', b'gzip'), 'E_TYPE'),
    ((b'content-encoding', b'br'), 'E_TYPE'),
    ((b'content-length', b'999999999999'), 'E_SIZE'),
    ((b'content-length', b'9' * 5000), 'E_SIZE'),
    ((b'content-length', b'-1'), 'E_REQUEST'),
    ((b'content-length', b'1e3'), 'E_REQUEST'),
  ],
)
def test_bodies_that_cannot_be_taken_are_refused_by_their_headers(header, code):
  assert _refused(method='POST', headers=[_HOST, header]) == code


def test_two_lengths_of_a_body_are_refused():
  two = [(b'content-length', b'3'), (b'transfer-encoding', b'chunked')]
  assert _refused(method='POST', headers=[_HOST, *two]) == 'E_REQUEST'


def test_ranges_are_passed_over_and_head_is_a_get():
  ranges = (b'range', b'bytes=' + b'0-1,' * 10_000)
  found = _seen(method='HEAD', headers=[_HOST, ranges])
  assert found['headers'] == [_HOST]
  assert found['method'] == 'GET'


def test_forwarded_addresses_change_nothing():
  buckets = limits.Buckets(3, _Clock())

  async def app(scope, receive, send):
    pass

  guard = limits.Guard(app, _SETTINGS, buckets, check=lambda scope: None)

  async def ask(i):
    header = (b'x-forwarded-for', f'10.0.0.{i}'.encode())
    scope = {
      'type': 'http',
      'method': 'GET',
      'path': '/',
      'client': ('192.0.2.1', i),
      'headers': [_HOST, header],
    }
    await guard(scope, None, None)

  for i in range(3):
    asyncio.run(ask(i))
  with pytest.raises(problems.Problem) as caught:
    asyncio.run(ask(4))
  assert caught.value.code == 'E_RATE'
