"""A real server whose clients leave, whose decoders die, and that works long.

RSNA_JAX_TEST_UPLOADS=1000 asks as often in the last test; by default 200.
"""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable

import httpx
import pytest
import serve_mammograms as mammograms
import serve_running

import rsna_jax
from rsna_jax.serve.store import database, versions

_UPLOADS = int(os.environ.get('RSNA_JAX_TEST_UPLOADS', '200'))
_WARM = 40  # uploads after which memory has to be flat
_GROWTH = 32 << 20
_WAIT_S = 90
_SEEDS = 8


@pytest.fixture(scope='module')
def server(tiny_run, tmp_path_factory):
  """With room for 4 bodies of 2 MiB and for few uploads that are kept."""
  with serve_running.running(
    tiny_run,
    tmp_path_factory.mktemp('robust'),
    'requests_per_minute=100000',
    'uploads_per_minute=100000',
    'body_bytes=2097152',
    'uploads=20',
    'answer_s=90',
    'reload_s=0.2',
  ) as made:
    yield made


def _png(seed: int = 0) -> bytes:
  return mammograms.picture(mammograms.grey(seed), 'PNG')


def _predict(client, data: bytes, name: str = 'a.png') -> httpx.Response:
  return client.post('/api/v1/predict', files={'files': (name, data)})


def _cancer(answer: httpx.Response) -> float:
  assert answer.status_code == 200, answer.text
  return answer.json()['images'][0]['cancer']['raw']


def _until(condition: Callable[[], bool]) -> None:
  end = time.monotonic() + _WAIT_S
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.02)


def _request(data: bytes) -> bytes:
  """A whole upload, as it goes over the wire."""
  body = (
    b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.png"'
    b'\r\n\r\n' + data + b'\r\n--B--\r\n'
  )
  return (
    b'POST /api/v1/predict HTTP/1.1\r\nHost: localhost\r\n'
    b'Content-Type: multipart/form-data; boundary=B\r\n'
    b'Content-Length: %d\r\n\r\n' % len(body)
  ) + body


def _leave(server, data: bytes, how: str) -> None:
  """Sends something, and goes: politely, or as a cable that is pulled."""
  with socket.create_connection(('127.0.0.1', server.port), 30) as one:
    if how == 'reset':
      one.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
      )
    one.sendall(data)


def _descriptors(server) -> int:
  return len(list(pathlib.Path(f'/proc/{server.process.pid}/fd').iterdir()))


def _gone(server) -> float:
  """Requests whose sender left before they were whole."""
  figures = server.figures().items()
  return sum(n for name, n in figures if 'status="499"' in name)


def _quiet(server) -> bool:
  return server.figures()['rsna_queue'] == 0


@pytest.mark.parametrize('how', ['closed', 'reset'])
@pytest.mark.parametrize('part', ['half', 'whole'])
def test_clients_that_leave_take_nothing_with_them(server, part, how):
  """In the middle of an upload, or before the answer; 12 times as much as fits.

  A body that counts on after its sender has gone would soon shut all others
  out.
  """
  _until(lambda: _quiet(server))
  before, gone = _descriptors(server), _gone(server)
  # Bytes after a picture's end are nothing to it.
  data = _request(_png() + bytes(1 << 20))
  if part == 'half':
    data = data[: len(data) * 3 // 4]
  for _ in range(48):
    _leave(server, data, how)
  with server.client() as client:
    assert _predict(client, _png()).status_code in (200, 503)
    _until(lambda: _quiet(server))
    assert _predict(client, _png() + bytes(1 << 20)).status_code == 200
  _until(lambda: _descriptors(server) <= before + 2)
  if part == 'half' and how == 'closed':
    assert _gone(server) > gone
  assert 'Traceback' not in server.log.read_text()


def test_who_leaves_while_a_picture_comes_harms_nobody(server):
  with server.client() as client:
    id = _predict(client, _png()).json()['images'][0]['id']
    cookie = f'guest={client.cookies["guest"]}'
    for name in ('picture.png', 'heat.png'):
      head = f'GET /api/v1/uploads/{id}/{name} HTTP/1.1\r\nHost: localhost\r\n'
      request = f'{head}Cookie: {cookie}\r\n\r\n'.encode()
      for _ in range(10):
        _leave(server, request, 'reset')
      assert client.get(f'/api/v1/uploads/{id}/{name}').status_code == 200
  assert 'Traceback' not in server.log.read_text()


def test_decoders_that_were_killed_idle_cost_no_request(server):
  with server.client() as client:
    assert _predict(client, _png()).status_code == 200
    gone = server.decoders()
    assert gone
    for decoder in gone:
      os.kill(decoder, signal.SIGKILL)
    _until(lambda: not set(gone) & set(server.decoders()))
    assert _predict(client, _png()).status_code == 200
    assert set(server.decoders()).isdisjoint(gone)


def _ticks(decoder: int) -> int:
  """Hundredths of a second that a process has computed."""
  text = pathlib.Path(f'/proc/{decoder}/stat').read_text()
  return sum(map(int, text.rpartition(')')[2].split()[11:13]))


def test_a_decoder_that_is_killed_at_work_is_told_and_replaced(server):
  """It is no fault of the file, and is not said to be."""
  large = mammograms.picture(mammograms.grey(0, (3200, 2560)), 'PNG')
  threads = concurrent.futures.ThreadPoolExecutor(1)
  with server.client() as client, threads as pool:
    assert _predict(client, _png()).status_code == 200
    before = {one: _ticks(one) for one in server.decoders()}
    asked = pool.submit(_predict, client, large)
    at_work: list[int] = []
    while not at_work and not asked.done():
      at_work = [one for one, n in before.items() if _ticks(one) > n + 2]
    assert at_work, 'it was decoded too fast to be killed'
    os.kill(at_work[0], signal.SIGKILL)
    answer = asked.result()
    assert (answer.status_code, answer.json()['code']) == (503, 'E_BUSY')
    assert int(answer.headers['retry-after']) >= 1
    assert _predict(client, large).status_code == 200
    assert at_work[0] not in server.decoders()


def test_fifty_uploads_at_once_are_each_answered_as_alone(server):
  with server.client() as client:
    alone = [_cancer(_predict(client, _png(seed))) for seed in range(_SEEDS)]
  assert len(set(alone)) == _SEEDS
  go = threading.Barrier(50)

  def ask(i):
    with server.client(timeout=120) as client:
      go.wait()
      start = time.monotonic()
      found = _cancer(_predict(client, _png(i % _SEEDS)))
      return found, time.monotonic() - start

  with concurrent.futures.ThreadPoolExecutor(50) as pool:
    answers = list(pool.map(ask, range(50)))
  for i, (found, _) in enumerate(answers):
    assert found == pytest.approx(alone[i % _SEEDS], abs=1e-5)
  seconds = sorted(one for _, one in answers)
  print(f'50 at once: p50 {seconds[25]:.2f} s, p95 {seconds[47]:.2f} s')


def _answers_by(number: int, answers: list) -> Callable[[], bool]:
  """Whether a model has given some answers from now on."""
  n = len(answers)
  return lambda: [one for one, _ in answers[n:]].count(number) >= 6


def test_models_are_exchanged_under_load_and_no_answer_fails(
  server, tiny_run, tmp_path
):
  """Each answer names its model, and is what that model says."""
  other = tmp_path / 'run'
  shutil.copytree(tiny_run, other)
  # What is left is another checkpoint of the same run.
  shutil.rmtree(other / 'checkpoints' / str(rsna_jax.load_model(other).step))
  db = database.Database(None, server.store)
  second = versions.Models(db, server.store).add(other, parent=1)
  db.close()
  expected = {
    number: rsna_jax.load_model(folder).predict([_png()])[0].cancer
    for number, folder in ((1, tiny_run), (second.number, second.folder))
  }
  assert abs(expected[1] - expected[second.number]) > 1e-4
  answers, done = [], threading.Event()

  def ask():
    with server.client() as client:
      while not done.is_set():
        answer = _predict(client, _png())
        answers.append((answer.json().get('model', {}).get('number'), answer))

  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    asking = [pool.submit(ask) for _ in range(3)]
    try:
      with server.logged_in('administrator') as someone:
        for number, how, fields in (
          (second.number, f'{second.number}/promote', {}),
          (1, 'rollback', {}),
          (second.number, f'{second.number}/promote', {}),
          (1, 'rollback', {'number': 1}),
        ):
          answer = someone.post(f'/api/v1/models/{how}', json=fields)
          assert answer.status_code == 200, answer.text
          _until(_answers_by(number, answers))
    finally:
      done.set()
    for one in asking:
      one.result()
  numbers = [number for number, _ in answers]
  assert set(numbers) == {1, second.number}
  for number, answer in answers:
    assert _cancer(answer) == pytest.approx(expected[number], abs=1e-5)


def _visit(server, i: int) -> None:
  """An upload of somebody new, of one kind or another."""
  files = {
    0: ('a.dcm', mammograms.dicom(mammograms.grey(i % _SEEDS)), 200),
    1: ('a.png', _png(i % _SEEDS)[:-500], 400),
    2: ('a.gif', b'GIF89a' + bytes(5000), 415),
  }
  name, data, status = files.get(i % 8, ('a.png', _png(i % _SEEDS), 200))
  with server.client(timeout=120) as client:
    answer = _predict(client, data, name)
    assert answer.status_code == status, answer.text
    if i % 8 == 3:
      id = answer.json()['images'][0]['id']
      for name in ('picture', 'window', 'heat'):
        found = client.get(f'/api/v1/uploads/{id}/{name}.png')
        assert found.status_code == 200


def test_many_uploads_leave_no_file_and_no_memory_behind(server):
  def beside_uploads():
    figures = server.figures()
    return figures['rsna_resident_bytes'] - figures['rsna_uploads_bytes']

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda i: _visit(server, i), range(_WARM)))
    before, descriptors = beside_uploads(), _descriptors(server)
    files = _files(server.store)
    list(pool.map(lambda i: _visit(server, i), range(_UPLOADS)))
  growth = beside_uploads() - before
  print(f'{_UPLOADS} uploads: {growth / 2**20:+.1f} MiB beside those kept')
  assert growth < _GROWTH
  assert server.figures()['rsna_uploads'] <= 20
  assert _descriptors(server) <= descriptors + 4
  assert list(server.temporary.rglob('*')) == []
  assert not _files(server.store / 'tmp')
  assert _files(server.store) - files <= {'store.db-wal', 'store.db-shm'}
  assert len(server.decoders()) <= 2


def _files(folder: pathlib.Path) -> set[str]:
  return {
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.is_file()
  }
