"""The JSON interface of a real server with a tiny model."""

import io
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
import serve_mammograms as mammograms
import serve_running
from PIL import Image

_CANARY = 'CANARY-51B2'
_LABELS = {
  'density': 'B',
  'cancer': 'malignant',
  'evidence': 'biopsy',
  'confidence': 4,
  'text_checked': True,
}


@pytest.fixture(scope='module')
def server(tiny_run, tmp_path_factory):
  """With room for the tests' many requests from one address."""
  with serve_running.running(
    tiny_run,
    tmp_path_factory.mktemp('server'),
    'requests_per_minute=100000',
    'uploads_per_minute=100000',
    'submissions_per_day=6',
  ) as made:
    yield made


@pytest.fixture
def guest(server):
  with server.client() as client:
    yield client


def _png(seed: int = 0) -> bytes:
  return mammograms.picture(mammograms.grey(seed), 'PNG')


def _suffix(data: bytes) -> str:
  return '.dcm' if data[128:132] == b'DICM' else '.png'


def _predict(client, *files: bytes, **fields):
  return client.post(
    '/api/v1/predict',
    files=[('files', (f'{_CANARY}{_suffix(data)}', data)) for data in files],
    data=fields,
  )


def _image(client, seed: int = 0) -> dict:
  answer = _predict(client, _png(seed))
  assert answer.status_code == 200, answer.text
  return answer.json()['images'][0]


def _refused(answer, status: int, code: str) -> dict:
  found = answer.json()
  assert (answer.status_code, found['code']) == (status, code), found
  assert found['notice'] == 'Research use only, not a medical device.'
  assert found['request_id'] == answer.headers['x-request-id']
  assert 'Traceback' not in answer.text
  assert '/' not in found['message'].replace('w/o', '')
  return found


def test_images_are_answered_one_by_one_and_by_breast(guest):
  files = [_png(0), _png(1), mammograms.dicom()]
  answer = _predict(
    guest, *files, age='61', laterality=['R', 'R', 'L'], view=['CC', 'MLO', '']
  )
  assert answer.status_code == 200, answer.text
  found = answer.json()
  assert found['notice'] == 'Research use only, not a medical device.'
  assert [one['laterality'] for one in found['images']] == ['R', 'R', 'L']
  assert [one['view'] for one in found['images']] == ['CC', 'MLO', 'CC']
  assert [one['age'] for one in found['images']] == [61, 61, 61]
  assert [one['n_images'] for one in found['breasts']] == [2, 1]
  right = found['breasts'][0]['cancer']
  raw = [one['cancer']['raw'] for one in found['images'][:2]]
  assert right['raw'] == pytest.approx(np.mean(raw))
  assert 0 <= right['percentile'] <= 100
  assert found['images'][0]['density'] is None  # the model rates none
  assert found['model']['number'] == 1


def test_an_answer_is_what_the_library_says(guest, tiny_run):
  import rsna_jax

  data = mammograms.dicom()
  found = _predict(guest, data).json()['images'][0]
  (expected,) = rsna_jax.load_model(tiny_run).predict([data])
  assert found['cancer']['raw'] == pytest.approx(expected.cancer, abs=1e-5)
  assert found['box'] == pytest.approx(expected.box)


def test_unknown_metadata_stays_unknown(guest):
  image = _predict(guest, _png(), age='', view='', laterality='').json()
  image = image['images'][0]
  assert [image[x] for x in ('laterality', 'view', 'age')] == [None] * 3


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('age', 'old'),
    ('age', '-3'),
    ('age', 'nan'),
    ('age', '1e400'),
    ('implant', '2'),
    ('view', 'XYZ'),
    ('view', '../..'),
    ('laterality', 'left or right'),
    ('age', ['1', '2', '3']),
  ],
)
def test_metadata_that_cannot_be_names_its_field(guest, name, value):
  answer = _predict(guest, _png(), **{name: value})
  assert _refused(answer, 422, 'E_FIELD')['message'].startswith(f'{name}:')


def test_no_file_is_no_question(guest):
  _refused(guest.post('/api/v1/predict', data={'a': 'b'}), 422, 'E_FIELD')


def test_one_bad_file_of_several_is_named(guest):
  answer = _predict(guest, _png(), b'GIF89a' + bytes(100))
  found = _refused(answer, 415, 'E_TYPE')
  assert found['message'].startswith('Image 2:')


def _pixels(answer) -> Image.Image:
  assert answer.status_code == 200, answer.text
  assert answer.headers['content-type'] == 'image/png'
  picture = Image.open(io.BytesIO(answer.content))
  picture.load()
  assert 'Research use only' in picture.text['Disclaimer']
  return picture


def test_pictures_of_an_upload_are_its_own(guest):
  place = f'/api/v1/uploads/{_image(guest)["id"]}'
  original = mammograms.grey()
  picture = np.asarray(_pixels(guest.get(f'{place}/picture.png')))
  assert picture.shape == original.shape
  assert np.corrcoef(picture.ravel(), original.ravel())[0, 1] > 0.99
  standard = _pixels(guest.get(f'{place}/standard.png'))
  assert standard.size == (32, 64)
  window = _pixels(guest.get(f'{place}/window.png?center=0.25&width=0.1'))
  expected = np.clip((picture / 255 - 0.25) / 0.1 + 0.5, 0, 1) * 255
  assert np.abs(np.asarray(window) - expected).max() < 0.51
  heat = _pixels(guest.get(f'{place}/heat.png'))
  assert (heat.mode, heat.size) == ('RGBA', (256, 320))
  for query in ('center=x', 'center=9', 'width=0', 'width=nan'):
    answer = guest.get(f'{place}/window.png?{query}')
    _refused(answer, 422, 'E_FIELD')


def test_an_answer_is_explained(guest):
  id = _image(guest)['id']
  found = guest.post('/api/v1/explain', json={'upload': id}).json()
  assert found['target'] == 'cancer'
  assert found['method'] == 'hirescam'
  assert found['original_shape'] == [320, 256]
  assert found['heat'].endswith(f'{id}/heat.png')
  answer = guest.post('/api/v1/explain', json={'upload': id, 'target': 'x'})
  _refused(answer, 422, 'E_FIELD')
  answer = guest.post('/api/v1/explain', json={'upload': id, 'target': [1]})
  _refused(answer, 422, 'E_FIELD')


def test_nobody_else_sees_an_upload(server, guest):
  id = _image(guest)['id']
  places = [
    f'/api/v1/uploads/{id}/{name}.png'
    for name in ('picture', 'standard', 'heat', 'window')
  ]
  with server.client() as other:
    _image(other)  # so that they have a name of their own
    for place in places:
      _refused(other.get(place), 404, 'E_NOT_FOUND')
    answer = other.post('/api/v1/explain', json={'upload': id})
    _refused(answer, 404, 'E_NOT_FOUND')
  with server.logged_in('administrator') as someone:
    for place in places:
      _refused(someone.get(place), 404, 'E_NOT_FOUND')
  cookie = guest.cookies['guest']
  for forged in (cookie[:-1] + 'A', '', cookie.swapcase(), '../../secret'):
    headers = {'Cookie': f'guest={forged}'}
    with server.client(headers=headers) as forger:
      assert forger.get(places[0]).status_code == 404


def test_roles_may_do_what_they_may(server):
  submission = 'a' * 32
  calls = {
    'contributor': [
      ('POST', '/api/v1/submissions'),
      ('GET', '/api/v1/labels'),
      ('GET', f'/api/v1/submissions/{submission}'),
      ('DELETE', f'/api/v1/submissions/{submission}'),
    ],
    'reviewer': [
      ('GET', '/api/v1/queue'),
      ('POST', f'/api/v1/submissions/{submission}/review'),
      ('PATCH', f'/api/v1/submissions/{submission}'),
      ('GET', '/api/v1/retrain'),
    ],
    'administrator': [
      ('POST', '/api/v1/models/999/promote'),
      ('POST', '/api/v1/models/rollback'),
    ],
  }
  ranks = [None, 'contributor', 'reviewer', 'administrator']
  for role in ranks:
    browser = server.client() if role is None else server.logged_in(role)
    with browser as client:
      for needed, asked in calls.items():
        for method, path in asked:
          more = {} if method in ('GET', 'DELETE') else {'json': {}}
          status = client.request(method, path, **more).status_code
          if role is None:
            assert status == 401, (role, path)
          elif ranks.index(role) < ranks.index(needed):
            assert status == 403, (role, path)
          else:
            assert status not in (401, 403), (role, path)


def test_a_change_needs_the_token_of_this_login(server):
  with server.logged_in('contributor') as client:
    token = client.headers.pop('X-CSRF-Token')
    place = '/api/v1/submissions'
    _refused(client.post(place, json={}), 403, 'E_FORBIDDEN')
    headers = {'X-CSRF-Token': token[:-1] + 'x'}
    _refused(client.post(place, json={}, headers=headers), 403, 'E_FORBIDDEN')
    with server.logged_in('contributor') as again:
      headers = {'X-CSRF-Token': again.headers['X-CSRF-Token']}
      answer = client.post(place, json={}, headers=headers)
      _refused(answer, 403, 'E_FORBIDDEN')
    # In the body it is as good as in the header.
    assert client.post(place, json={'csrf': token}).status_code == 422
    for origin in ('http://evil.example', 'null', None):
      client.headers['X-CSRF-Token'] = token
      client.headers.pop('Origin', None)
      if origin:
        client.headers['Origin'] = origin
      _refused(client.post(place, json={}), 403, 'E_FORBIDDEN')
    client.headers['Origin'] = server.url
    text = {
      'content': json.dumps({}),
      'headers': {'Content-Type': 'text/plain'},
    }
    _refused(client.post(place, **text), 403, 'E_FORBIDDEN')


def test_logins_begin_anew_and_end_on_the_server(server):
  with server.logged_in('contributor') as client:
    first = client.cookies['session']
    assert client.get('/api/v1/me').json()['role'] == 'contributor'
    answer = client.post(
      '/api/v1/login',
      json={'name': 'contributor', 'password': serve_running.PASSWORD},
    )
    second = client.cookies['session']
    assert second != first  # nothing that was there before is a login now
    with server.client(headers={'Cookie': f'session={first}'}) as old:
      assert old.get('/api/v1/me').json()['role'] == 'guest'
    client.headers['X-CSRF-Token'] = answer.json()['csrf']
    assert client.post('/api/v1/logout').status_code == 200
    with server.client(headers={'Cookie': f'session={second}'}) as old:
      assert old.get('/api/v1/me').json()['role'] == 'guest'
    for forged in ('x', second[:-1], second + 'A', 'ä' * 10):
      cookie = f'session={forged}'.encode('latin-1')
      with server.client(headers={'Cookie': cookie}) as other:
        assert other.get('/api/v1/me').json()['role'] == 'guest'


@pytest.mark.parametrize(
  'body',
  [
    {},
    {'name': 'contributor'},
    {'name': ['contributor'], 'password': {'a': 1}},
    {'name': None, 'password': None},
  ],
)
def test_a_login_needs_both_as_texts(guest, body):
  _refused(guest.post('/api/v1/login', json=body), 422, 'E_FIELD')


@pytest.mark.parametrize(
  'text', ['', 'nonsense', '[1]', '"x"', 'NaN', '{"a": NaN}', '[' * 100_000]
)
def test_json_that_is_none_is_malformed(guest, text):
  answer = guest.post(
    '/api/v1/login',
    content=text,
    headers={'Content-Type': 'application/json'},
  )
  _refused(answer, 400, 'E_REQUEST')


def test_a_submission_goes_its_way(server):
  with (
    server.logged_in('contributor') as author,
    server.logged_in('other') as other,
    server.logged_in('reviewer') as reviewer,
  ):
    image = _image(author, seed=4)
    fields = {'upload': image['id'], **_LABELS}
    answer = other.post('/api/v1/submissions', json=fields)
    _refused(answer, 404, 'E_NOT_FOUND')  # it is not theirs
    answer = author.post('/api/v1/submissions', json=fields)
    assert answer.status_code == 201, answer.text
    made = answer.json()['submission']
    assert made['status'] == 'pending'
    assert made['density'] == 2
    assert made['cancer'] == 1
    assert made['model_number'] == 1
    _refused(
      author.post('/api/v1/submissions', json=fields), 409, 'E_DUPLICATE'
    )
    place = f'/api/v1/submissions/{made["id"]}'
    for path in (place, f'{place}/picture.png'):
      assert author.get(path).status_code == 200
      assert reviewer.get(path).status_code == 200
      _refused(other.get(path), 404, 'E_NOT_FOUND')
    _refused(other.delete(place), 404, 'E_NOT_FOUND')
    own = author.get('/api/v1/labels').json()['submissions']
    assert [one['id'] for one in own] == [made['id']]
    assert other.get('/api/v1/labels').json()['submissions'] == []
    queue = reviewer.get('/api/v1/queue').json()['submissions']
    assert made['id'] in [one['id'] for one in queue]
    for bad in ({}, {'verdict': 'x'}, {'verdict': 'correct', 'density': 'E'}):
      answer = reviewer.post(f'{place}/review', json=bad)
      _refused(answer, 422, 'E_FIELD')
    answer = reviewer.patch(place, json={'density': 'C', 'cancer': 'benign'})
    found = answer.json()['submission']
    assert (found['status'], found['final_density']) == ('accepted', 3)
    assert found['final_cancer'] == 0
    answer = reviewer.post(
      f'{place}/review', json={'verdict': 'reject', 'reason': 'blurred'}
    )
    assert answer.json()['submission']['status'] == 'rejected'
    assert author.delete(place).status_code == 200
    _refused(author.get(place), 404, 'E_NOT_FOUND')


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('density', 0),
    ('density', 5),
    ('density', 2.5),
    ('density', '2 OR 1=1'),
    ('density', [2]),
    ('density', True),
    ('cancer', 'maybe'),
    ('cancer', 2),
    ('evidence', 'hearsay'),
    ('confidence', 9),
    ('text_checked', False),
    ('note', 'x' * 600_000),
    ('patient', '../x'),
    ('unknown', 1),
    ('age', 'NaN'),
    ('laterality', '<b>'),
  ],
)
def test_labels_that_cannot_be_are_refused(server, name, value):
  with server.logged_in('contributor') as author:
    id = _image(author, seed=2)['id']
    fields = {'upload': id, **_LABELS, name: value}
    answer = author.post('/api/v1/submissions', json=fields)
    _refused(answer, 422, 'E_FIELD')


def test_the_quota_of_a_day_holds_for_requests_at_once_too(server):
  import concurrent.futures

  with server.logged_in('other') as author:
    ids = [_image(author, seed=10 + i)['id'] for i in range(9)]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
      answers = list(
        pool.map(
          lambda id: author.post(
            '/api/v1/submissions', json={'upload': id, **_LABELS}
          ),
          ids,
        )
      )
    made = [one for one in answers if one.status_code == 201]
    refused = [one for one in answers if one.status_code == 429]
    assert len(made) == 6, [one.text for one in answers]
    assert len(refused) == 3
    assert _refused(refused[0], 429, 'E_QUOTA')
    assert int(refused[0].headers['retry-after']) > 0


def test_models_are_told_and_the_serving_one_cannot_be_lost(server, guest):
  (model,) = guest.get('/api/v1/models').json()['models']
  assert (model['number'], model['serving']) == (1, True)
  with server.logged_in('administrator') as someone:
    answer = someone.post('/api/v1/models/rollback', json={})
    _refused(answer, 404, 'E_NOT_FOUND')
    for number in ('0', '99', '-1', 'x', '1e3', '9' * 30):
      answer = someone.post(f'/api/v1/models/{number}/promote', json={})
      assert answer.status_code in (404, 422), number


_ROUTES = [
  ('GET', '/', 200),
  ('GET', '/health', 200),
  ('GET', '/ready', 200),
  ('GET', '/metrics', 200),
  ('GET', '/api/v1/health', 200),
  ('GET', '/api/v1/openapi.json', 200),
  ('GET', '/api/v1/queue', 401),
  ('POST', '/api/v1/predict', 403),
  ('GET', '/nothing', 404),
  ('GET', '/api/nothing', 404),
  ('GET', '/static/nothing', 404),
  ('GET', '/static/../api.py', 404),
  ('DELETE', '/api/v1/health', 405),
  ('PUT', '/', 405),
  ('TRACE', '/', 405),
  ('OPTIONS', '/api/v1/predict', 405),
]


@pytest.mark.parametrize(('method', 'path', 'status'), _ROUTES)
def test_every_answer_has_the_headers(guest, method, path, status):
  body = {'content': b'x'} if method == 'POST' else {}
  answer = guest.request(method, path, **body)
  assert answer.status_code == status, answer.text
  found = answer.headers
  policy = found['content-security-policy']
  assert "default-src 'none'" in policy
  assert 'unsafe' not in policy
  assert "frame-ancestors 'none'" in policy
  assert found['x-content-type-options'] == 'nosniff'
  assert found['cache-control'] == 'no-store'
  assert 'same-origin' in found['cross-origin-opener-policy']
  assert 'same-origin' in found['cross-origin-resource-policy']
  assert 'camera=()' in found['permissions-policy']
  assert 'server' not in found
  assert 'x-powered-by' not in found
  assert 'access-control-allow-origin' not in found
  if status == 405:
    assert found['allow']


def test_problems_of_pages_are_pages_and_of_programs_json(guest):
  assert guest.get('/nothing').headers['content-type'].startswith('text/html')
  assert guest.get('/api/nothing').json()['code'] == 'E_NOT_FOUND'


def test_open_api_describes_every_route(guest):
  found = guest.get('/api/v1/openapi.json').json()
  for path, method in (
    ('/api/v1/predict', 'post'),
    ('/api/v1/explain', 'post'),
    ('/api/v1/uploads/{id}/heat.png', 'get'),
    ('/api/v1/submissions', 'post'),
    ('/api/v1/submissions/{id}', 'patch'),
    ('/api/v1/submissions/{id}/review', 'post'),
    ('/api/v1/models/{number}/promote', 'post'),
    ('/api/v1/retrain', 'post'),
    ('/api/v1/login', 'post'),
  ):
    assert found['paths'][path][method]['summary']
  body = found['paths']['/api/v1/predict']['post']['requestBody']
  assert 'multipart/form-data' in body['content']


def test_metrics_count_and_name_no_one(server, guest):
  _image(guest)
  text = guest.get('/metrics').text
  assert 'rsna_images_total' in text
  assert 'route="/api/v1/predict",status="200"' in text
  assert 'rsna_resident_bytes' in text
  assert _CANARY not in text


def test_the_log_has_a_line_for_each_request_and_nothing_of_anyone(server):
  with server.client() as guest:
    answer = guest.post(
      f'/api/v1/{_CANARY}?{_CANARY}=1',
      files={_CANARY: (f'{_CANARY}.png', _png())},
      headers={'User-Agent': _CANARY, 'Referer': _CANARY, 'X-Name': _CANARY},
    )
    request = answer.json()['request_id']
    _predict(guest, mammograms.dicom(PatientName=_CANARY, PatientID=_CANARY))
    guest.post('/api/v1/login', json={'name': _CANARY, 'password': _CANARY})
  time.sleep(0.2)
  log = server.log.read_text()
  assert request in log
  assert _CANARY not in log
  assert serve_running.PASSWORD not in log
  assert '127.0.0.1' not in log


def test_nothing_of_an_upload_reaches_the_disk(server, guest):
  before = {p for p in server.store.rglob('*') if p.is_file()}
  for seed in range(3):
    _image(guest, seed)
  _predict(guest, b'GIF89a')
  after = {p for p in server.store.rglob('*') if p.is_file()}
  assert {p.name for p in after - before} <= {'store.db-wal', 'store.db-shm'}


def test_neither_the_server_nor_a_decoder_calls_anybody(server, guest):
  """Of all tests above: no name looked up, no address called outside."""
  _image(guest)
  _predict(guest, mammograms.dicom())
  guest.get('/')
  lines = [x.split(maxsplit=2) for x in server.calls.read_text().splitlines()]
  assert {who for who, *_ in lines} == {'server', 'decoder'}
  heard = [line for line in lines if len(line) > 2]
  # A decoder opens, starts and removes nothing either.
  assert [line for line in heard if line[0] == 'decoder'] == []
  assert [line for line in heard if "'127.0.0.1'" not in line[2]] == []


def test_what_a_decoder_does_would_be_heard(tmp_path):
  """Or the test above would hold of anything."""
  environment = serve_running.heard(tmp_path / 'hook', tmp_path / 'calls')
  deeds = (
    'socket.socket()',
    'socket.getaddrinfo("localhost", 80)',
    'os.system("true")',
    'open("made", "w")',
  )
  code = f'import os, socket  # as sandbox_worker\n{"; ".join(deeds)}'
  subprocess.run(
    [sys.executable, '-c', code], env=environment, cwd=tmp_path, check=True
  )
  lines = (tmp_path / 'calls').read_text().splitlines()
  assert {line.split()[0] for line in lines} == {'decoder'}
  assert [line.split()[2] for line in lines[1:]] == [
    'socket.__new__',
    'socket.getaddrinfo',
    'os.system',
    'open',
  ]


def test_a_decoder_has_nothing_open_but_its_pipe(server, guest):
  _image(guest)
  decoders = server.decoders()
  assert decoders
  for decoder in decoders:
    open_ = sorted(
      os.readlink(path)
      for path in pathlib.Path(f'/proc/{decoder}/fd').iterdir()
    )
    assert open_.pop().startswith('socket:')
    # And what the test listens by.
    assert set(open_) == {'/dev/null', str(server.calls)}
