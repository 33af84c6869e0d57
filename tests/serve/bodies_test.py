"""Bodies and connections on a real socket, before a small application."""

import asyncio
import json
import socket
import threading
import time

import pytest
import serve_running
from starlette import requests, responses

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.web import bodies, forms, limits, observe, server

_HIDDEN = 'CANARY of a patient'
_LIMITS = {
  'host': '127.0.0.1',
  'port': 0,
  'file_bytes': 1 << 20,
  'body_bytes': 2 << 20,
  'body_s': 1.5,
  'files': 3,
  'fields': 50,
  'connections': 40,
}


async def _form(scope, receive, send):
  """Says what it found in a form."""
  if scope['path'] == '/fault':
    raise ValueError(_HIDDEN)
  if scope['path'] == '/early':
    raise problems.Problem('E_FORBIDDEN', 'No.')
  settings = scope['state']['settings']
  if scope['method'] == 'GET':
    await responses.PlainTextResponse('hello')(scope, receive, send)
    return
  form = await forms.read(requests.Request(scope, receive), settings)
  said = {
    'fields': form.fields,
    'files': [[one.field, one.filename, len(one.data)] for one in form.files],
  }
  await responses.JSONResponse(said)(scope, receive, send)


async def _render(scope, problem):
  scope['state']['code'] = problem.code
  said = {'code': problem.code, 'message': problem.message}
  return responses.JSONResponse(said, problem.status)


@pytest.fixture(scope='module')
def port(tmp_path_factory):
  """Of a server with narrow limits that runs in a thread."""
  folder = tmp_path_factory.mktemp('store')
  settings = settings_lib.Settings(store=folder, **_LIMITS)
  figures = observe.Figures()

  async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
      while (await receive())['type'] != 'lifespan.shutdown':
        await send({'type': 'lifespan.startup.complete'})
      await send({'type': 'lifespan.shutdown.complete'})
      return
    scope['state']['settings'] = settings
    await _form(scope, receive, send)

  guard = limits.Guard(
    app, settings, limits.Buckets(1e9), check=lambda scope: None
  )
  layers = bodies.Bodies(
    observe.Observed(guard, settings, figures, _render), settings
  )
  listener = server.listen(settings)
  made = server.make(layers, settings)
  thread = threading.Thread(
    target=lambda: asyncio.run(made.serve(sockets=[listener]))
  )
  thread.start()
  while not made.started:
    time.sleep(0.01)
  yield listener.getsockname()[1]
  made.should_exit = True
  thread.join()
  listener.close()


def _connect(port):
  return socket.create_connection(('127.0.0.1', port), 10)


def _ask(port, data: bytes) -> tuple[int, dict | str, str]:
  """Status, body and headers of what comes back on a bare connection."""
  with _connect(port) as one:
    one.sendall(data)
    return _parsed(serve_running.receive(one))


def _parsed(found: bytes):
  head, _, body = found.partition(b'\r\n\r\n')
  status = int(head.split()[1]) if head else 0
  text = body.decode()
  try:
    return status, json.loads(text), head.decode().lower()
  except ValueError:
    return status, text, head.decode().lower()


def _head(*lines: str, path='/', method='POST') -> bytes:
  given = (f'{method} {path} HTTP/1.1', 'Host: localhost', *lines)
  return ('\r\n'.join(given) + '\r\n\r\n').encode()


def _multipart(parts: bytes, *lines: str) -> bytes:
  return (
    _head(
      'Content-Type: multipart/form-data; boundary=B',
      f'Content-Length: {len(parts)}',
      'Connection: close',
      *lines,
    )
    + parts
  )


def _part(name: str, value: bytes, filename: str | None = None) -> bytes:
  said = f'form-data; name="{name}"'
  if filename is not None:
    said += f'; filename="{filename}"'
  head = f'--B\r\nContent-Disposition: {said}\r\n\r\n'
  return head.encode() + value + b'\r\n'


_END = b'--B--\r\n'


def test_a_form_is_read_with_its_files_in_memory(port):
  body = _part('age', b'51') + _part('age', b'') + _part('f', b'xyz', 'a.png')
  status, said, _ = _ask(port, _multipart(body + _END))
  assert status == 200
  assert said == {'fields': {'age': ['51', '']}, 'files': [['f', 'a.png', 3]]}


@pytest.mark.parametrize(
  'filename',
  ['../../etc/passwd', 'CON', 'a' * 4000, 'ä=cmd|x', 'a;b', "a'b", '\u202egnp'],
)
def test_names_of_files_are_texts_and_nothing_more(port, filename):
  body = _part('f', b'xyz', filename) + _END
  status, said, _ = _ask(port, _multipart(body))
  assert status == 200
  assert said['files'][0][2] == 3


def test_a_file_field_that_was_left_empty_is_no_file(port):
  status, said, _ = _ask(port, _multipart(_part('f', b'', '') + _END))
  assert (status, said['files']) == (200, [])


@pytest.mark.parametrize(
  ('name', 'body'),
  [
    ('fields', b''.join(_part(f'f{i}', b'') for i in range(51)) + _END),
    (
      '10^4 parts',
      b''.join(_part(f'f{i}', b'x', 'a') for i in range(10_000)) + _END,
    ),
    ('files', b''.join(_part('f', b'x', 'a') for _ in range(4)) + _END),
    ('a long field', _part('f', b'x' * 70_000) + _END),
    ('a long name', _part('n' * 300, b'x') + _END),
    ('a long file name', _part('f', b'x', 'n' * 100_000) + _END),
    ('no end', _part('f', b'x', 'a')),
    ('no part', b'hello'),
    ('no name', b'--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n' + _END),
    ('no disposition', b'--B\r\nContent-Type: text/plain\r\n\r\nx\r\n' + _END),
    (
      'many headers',
      b'--B\r\n' + b'X-A: b\r\n' * 100 + b'\r\nx\r\n' + _END,
    ),
  ],
)
def test_forms_beyond_their_limits_are_malformed(port, name, body):
  status, said, _ = _ask(port, _multipart(body))
  assert (status, said['code']) == (400, 'E_REQUEST'), name


def test_a_hundred_thousand_fields_of_an_address_are_malformed(port):
  body = b'a=b&' * 100_000
  for text in (body, b'&'.join(b'%d=' % i for i in range(100_000))):
    head = _head(
      'Content-Type: application/x-www-form-urlencoded',
      f'Content-Length: {len(text)}',
      'Connection: close',
    )
    start = time.monotonic()
    status, said, _ = _ask(port, head + text)
    assert (status, said['code']) == (400, 'E_REQUEST')
    assert time.monotonic() - start < 5


def test_no_boundary_is_malformed(port):
  head = _head('Content-Type: multipart/form-data', 'Content-Length: 3')
  assert _ask(port, head + b'abc')[0] == 400


def test_nested_multipart_is_one_field(port):
  inner = b'Content-Type: multipart/mixed; boundary=C\r\n\r\n--C\r\n\r\nx--C--'
  status, said, _ = _ask(port, _multipart(_part('f', inner) + _END))
  assert status == 200
  assert list(said['fields']) == ['f']


def test_a_file_beyond_its_limit_is_too_large(port):
  body = _part('f', bytes((1 << 20) + 1), 'a') + _END
  status, said, _ = _ask(port, _multipart(body))
  assert (status, said['code']) == (413, 'E_SIZE')


def test_an_announced_body_beyond_the_cap_is_not_read(port):
  """Three gigabytes are announced; the answer comes at once."""
  head = _head(
    'Content-Type: multipart/form-data; boundary=B',
    f'Content-Length: {3 << 30}',
  )
  start = time.monotonic()
  status, said, headers = _ask(port, head + b'--B\r\n')
  assert (status, said['code']) == (413, 'E_SIZE')
  assert 'connection: close' in headers
  assert time.monotonic() - start < 4


def _flood(port, head: bytes, chunk: bytes, most: int) -> tuple[int, int]:
  """Status, and how many bytes went out before the other side closed."""
  sent = 0
  with _connect(port) as one:
    one.sendall(head)
    try:
      while sent < most:
        one.sendall(chunk)
        sent += len(chunk)
    except OSError:
      pass
    return _parsed(serve_running.receive(one))[0], sent


def test_a_chunked_body_is_cut_at_the_cap(port):
  head = _head(
    'Content-Type: multipart/form-data; boundary=B',
    'Transfer-Encoding: chunked',
  )
  data = _part('f', b'', 'a')[:-2]
  head += f'{len(data):x}\r\n'.encode() + data + b'\r\n'
  chunk = b'10000\r\n' + bytes(0x10000) + b'\r\n'
  status, sent = _flood(port, head, chunk, 1 << 30)
  # The system's own buffers hold a few megabytes more.
  assert sent < 16 << 20
  assert status in (0, 413)


def test_an_early_no_does_not_read_the_rest(port):
  head = _head('Content-Length: 2000000', path='/early')
  status, sent = _flood(port, head, bytes(65536), 2_000_000)
  assert status == 403
  chunked = _head('Transfer-Encoding: chunked', path='/early')
  chunk = b'10000\r\n' + bytes(0x10000) + b'\r\n'
  status, sent = _flood(port, chunked, chunk, 1 << 30)
  assert sent < 16 << 20


def test_a_body_shorter_than_announced_ends_with_its_sender(port):
  body = _multipart(_part('f', b'x', 'a') + _END, 'X: y')
  body = body.replace(b'Content-Length: ', b'Content-Length: 9')
  start = time.monotonic()
  with _connect(port) as one:
    one.sendall(body)
    one.shutdown(socket.SHUT_WR)
    serve_running.receive(one)
  assert time.monotonic() - start < 5
  assert _ask(port, _head('Connection: close', method='GET'))[0] == 200


def test_two_lengths_are_refused(port):
  head = _head('Content-Length: 3', 'Transfer-Encoding: chunked')
  assert _ask(port, head + b'0\r\n\r\n')[0] == 400
  head = _head('Content-Length: 3', 'Content-Length: 4')
  assert _ask(port, head + b'abc')[0] == 400


def test_a_compressed_body_is_refused_unopened(port):
  head = _head('Content-Encoding: gzip', 'Content-Length: 10')
  status, said, _ = _ask(port, head + bytes(10))
  assert (status, said['code']) == (415, 'E_TYPE')


def test_a_slow_body_is_cut(port):
  head = _head(
    'Content-Type: multipart/form-data; boundary=B', 'Content-Length: 1000'
  )
  start = time.monotonic()
  with _connect(port) as one:
    one.sendall(head)
    try:
      for _ in range(60):
        one.sendall(b'-')
        time.sleep(0.1)
    except OSError:
      pass
    serve_running.receive(one)
  assert 1 < time.monotonic() - start < 6


def test_slow_headers_are_cut_and_others_are_served_meanwhile(port):
  """Thirty senders of a byte now and then; everyone else is answered."""
  slow = [_connect(port) for _ in range(30)]
  start = time.monotonic()
  for one in slow:
    one.sendall(b'GET / HT')
  for _ in range(5):
    began = time.monotonic()
    assert _ask(port, _head('Connection: close', method='GET'))[0] == 200
    assert time.monotonic() - began < 1
  for one in slow:
    one.settimeout(5)
    assert one.recv(10) == b''
    one.close()
  assert time.monotonic() - start < 5


def test_beyond_the_connections_the_one_that_waited_longest_goes(port):
  idle = [_connect(port) for _ in range(45)]
  time.sleep(0.3)
  assert _ask(port, _head('Connection: close', method='GET'))[0] == 200
  idle[0].settimeout(1)
  with pytest.raises(ConnectionResetError):
    if not idle[0].recv(1):
      raise ConnectionResetError
  for one in idle:
    one.close()


@pytest.mark.parametrize(
  'data',
  [
    b'nonsense\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n',
    b'GET / HTTP/1.1\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: localhost\r\nA: ' + b'b' * 200_000 + b'\r\n\r\n',
    b'GET / HTTP/9.9\r\nHost: localhost\r\n\r\n',
    b'\x16\x03\x01\x02\x00\x01\x00',
    b'GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n',
  ],
)
def test_what_is_no_http_gets_an_answer_with_all_headers(port, data):
  with _connect(port) as one:
    try:
      one.sendall(data)
      one.shutdown(socket.SHUT_WR)
    except OSError:
      pass
    status, said, headers = _parsed(serve_running.receive(one))
  assert status == 400
  assert 'traceback' not in str(said).lower()
  assert 'content-security-policy' in headers
  assert 'server:' not in headers


def test_a_fault_says_nothing_of_itself(port, caplog):
  status, said, headers = _ask(
    port, _head('Connection: close', method='GET', path='/fault')
  )
  assert (status, said['code']) == (500, 'E_FAULT')
  assert 'CANARY' not in str(said)
  assert 'CANARY' not in caplog.text
  assert 'ValueError' in caplog.text
  assert 'content-security-policy' in headers


def test_bodies_under_way_are_bounded_together(tmp_path):
  settings = settings_lib.Settings(store=tmp_path, body_bytes=100)
  room = bodies.Bodies(None, settings)
  for _ in range(4):
    room.take(100)
  with pytest.raises(problems.Problem) as caught:
    room.take(1)
  assert caught.value.code == 'E_BUSY'
