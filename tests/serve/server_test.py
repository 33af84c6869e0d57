"""The command: how it starts and ends, and holds a client back."""

import concurrent.futures
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import serve_mammograms as mammograms
import serve_running

from rsna_jax import cli

_PNG = mammograms.picture(mammograms.grey(), 'PNG')


def _predict(client, **more):
  return client.post(
    '/api/v1/predict', files={'files': ('a.png', _PNG)}, **more
  )


@pytest.fixture(scope='module')
def narrow(tiny_run, tmp_path_factory):
  """A server that lets one client do little."""
  with serve_running.running(
    tiny_run,
    tmp_path_factory.mktemp('narrow'),
    'uploads_per_minute=30',
    'logins_per_minute=5',
    'queue=3',
  ) as made:
    yield made


def _command(*arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, '-m', 'rsna_jax.cli', 'serve', *arguments],
    capture_output=True,
    text=True,
    timeout=180,
  )


def _one_line(done: subprocess.CompletedProcess, text: str) -> None:
  _is_one_line(done.returncode, done.stderr, text)


def _is_one_line(code: int, said: str, text: str) -> None:
  assert code == 2, said
  assert said.startswith('error: ')
  assert said.count('\n') == 1
  assert text in said


@pytest.mark.parametrize(
  ('options', 'text'),
  [
    (('--port', '99999'), '--port 99999'),
    (('--set', 'queue=many'), 'queue=many'),
    (('--workdir', 'nowhere', '--port', '0'), 'nowhere'),
  ],
)
def test_bad_options_are_said_in_one_line(
  tiny_run, tmp_path, capsys, monkeypatch, options, text
):
  monkeypatch.chdir(tmp_path)
  run = ('--workdir', str(tiny_run), '--store', str(tmp_path / 'store'))
  with pytest.raises(SystemExit) as caught:
    cli.main(['serve', *run, *options])
  _is_one_line(caught.value.code, capsys.readouterr().err, text)


def test_what_is_taken_is_said_in_one_line(tiny_run, tmp_path, narrow):
  store = str(tmp_path / 'store')
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))
    taken.listen()
    port = str(taken.getsockname()[1])
    run = ('--workdir', str(tiny_run), '--store', store)
    _one_line(_command(*run, '--port', port), 'the port is in use')
  done = _command(
    '--workdir', str(tiny_run), '--store', str(narrow.store), '--port', '0'
  )
  _one_line(done, 'another server')


def test_more_than_the_queue_is_sent_away_and_nobody_hangs(narrow):
  """All at once, to a queue of 3: answered, or told when to come again."""

  def ask(_):
    with narrow.client() as client:
      return _predict(client)

  start = time.monotonic()
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    answers = list(pool.map(ask, range(16)))
  assert time.monotonic() - start < 60
  statuses = {one.status_code for one in answers}
  assert statuses == {200, 503}
  for one in answers:
    if one.status_code == 503:
      assert one.json()['code'] == 'E_BUSY'
      assert int(one.headers['retry-after']) >= 1


def test_wrong_passwords_are_few_and_others_log_in_meanwhile(narrow):
  with narrow.client() as client:
    body = {'name': 'contributor', 'password': 'wrong'}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      answers = list(
        pool.map(lambda _: client.post('/api/v1/login', json=body), range(30))
      )
  statuses = [one.status_code for one in answers]
  assert set(statuses) == {401, 429}
  assert statuses.count(401) <= 6
  refused = next(one for one in answers if one.status_code == 429)
  assert refused.json()['code'] == 'E_RATE'
  assert int(refused.headers['retry-after']) >= 1
  # Another address is another client.
  right = {'name': 'contributor', 'password': serve_running.PASSWORD}
  transport = httpx.HTTPTransport(local_address='127.0.0.2')
  with narrow.client(transport=transport) as other:
    assert other.post('/api/v1/login', json=right).status_code == 200


def test_uploads_of_one_client_are_few_and_others_are_served(narrow):
  with narrow.client() as client:
    for _ in range(40):
      answer = _predict(client)
      if answer.status_code == 429:
        break
    assert answer.json()['code'] == 'E_RATE'
    assert int(answer.headers['retry-after']) >= 1
    headers = {'X-Forwarded-For': '198.51.100.7', 'Forwarded': 'for=1.2.3.4'}
    assert _predict(client, headers=headers).status_code == 429
  transport = httpx.HTTPTransport(local_address='127.0.0.3')
  with narrow.client(transport=transport) as other:
    assert _predict(other).status_code == 200


def test_bodies_without_end_leave_no_memory_behind(narrow):
  """Chunks of a file that would be 3 GB, from three senders."""
  before = narrow.resident_bytes()
  part = (
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
  )
  head = (
    b'POST /api/v1/predict HTTP/1.1\r\nHost: localhost\r\n'
    b'Content-Type: multipart/form-data; boundary=B\r\n'
    b'Transfer-Encoding: chunked\r\n\r\n'
    + b'%x\r\n' % len(part)
    + part
    + b'\r\n'
  )
  chunk = b'100000\r\n' + bytes(1 << 20) + b'\r\n'
  for _ in range(3):
    sent = 0
    with socket.create_connection(('127.0.0.1', narrow.port), 30) as one:
      one.sendall(head)
      try:
        while sent < 3 << 30:
          one.sendall(chunk)
          sent += len(chunk)
      except OSError:
        pass
    # The file's limit is 64 MiB; the system's buffers hold some more.
    assert sent < 80 << 20
  with narrow.client() as client:
    assert client.get('/health').status_code == 200
  assert narrow.resident_bytes() - before < 50 << 20


@pytest.mark.parametrize(
  ('line', 'status'),
  [
    (b'GET //evil.example HTTP/1.1', 404),
    (b'GET /static/%2e%2e/api.py HTTP/1.1', 404),
    (b'GET /static/..%2fapi.py HTTP/1.1', 404),
    (b'GET http://evil.example/ HTTP/1.1', 404),
    (b'TRACE / HTTP/1.1', 405),
    (b'CONNECT evil.example:80 HTTP/1.1', 405),
  ],
)
def test_tricks_with_the_first_line_lead_nowhere(narrow, line, status):
  found = narrow.raw(line + b'\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  assert int(found.split()[1]) == status
  assert b'location:' not in found.lower()


def test_requests_before_it_is_ready_are_told_to_wait(tiny_run, tmp_path):
  with serve_running.running(tiny_run, tmp_path, wait=False) as made:
    with made.client() as client:
      answer = _predict(client)
      if answer.status_code != 200:
        assert answer.status_code == 503
        assert answer.json()['code'] == 'E_STARTING'
        assert int(answer.headers['retry-after']) >= 1
      assert client.get('/health').status_code == 200
    serve_running.wait_until_ready(made)
    with made.client() as client, made.client() as other:
      assert _predict(client).status_code == 200
      answers = []
      place = client.post('/api/v1/explain', json={'upload': 'x'})
      assert place.status_code == 404

      def ask():
        answers.append(_predict(other))

      # Under way when the signal comes, and answered all the same.
      thread = threading.Thread(target=ask)
      thread.start()
      end = time.monotonic() + 10
      while 'rsna_queue 1.0' not in client.get('/metrics').text:
        if answers or time.monotonic() > end:
          break
      assert made.stop(signal.SIGTERM) == 143
      thread.join()
      assert answers[0].status_code == 200
    assert 'Traceback' not in made.log.read_text()
    # The address is free again at once.
    with pytest.raises(ConnectionRefusedError):
      socket.create_connection(('127.0.0.1', made.port), 1)
  # The same store once more; Ctrl-C ends it as it ends every command.
  with serve_running.running(tiny_run, tmp_path) as made:
    assert made.stop(signal.SIGINT) == 130
    assert 'Traceback' not in made.log.read_text()
