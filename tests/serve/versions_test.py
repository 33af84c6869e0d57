"""Versions of the model: byte for byte what they were, and reversible."""

import hashlib
import json
import shutil

import pytest
import sqlalchemy as sa

import rsna_jax
from rsna_jax import errors
from rsna_jax.serve import problems
from rsna_jax.serve.store import (
  audit_log,
  blobs,
  model_files,
  tables,
  upkeep,
  versions,
)


def _bytes(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def _run(folder, content: bytes):
  """Files of a run, of which nothing but the hash is asked."""
  (folder / 'checkpoints' / '5').mkdir(parents=True)
  (folder / 'checkpoints' / '5' / 'weights').write_bytes(content)
  for name in ('config.json', 'preprocess.json'):
    (folder / name).write_text('{}')
  return folder


@pytest.fixture
def models(store, tmp_path, monkeypatch):
  """Three promoted versions; their files are no real run's."""

  def copy(workdir, target, which=None):
    shutil.copytree(workdir, target)

  monkeypatch.setattr(model_files, 'copy_run', copy)
  found = versions.Models(store.db, store.folder)
  found.register_first(_run(tmp_path / 'run1', b'one'))
  for n in (2, 3):
    made = found.add(_run(tmp_path / f'run{n}', b'%d' % n), parent=n - 1)
    assert made.number == n and made.status == 'candidate'
    found.promote(n, 'administrator', scores={'auc': 0.9})
  return found


def test_the_first_run_is_copied_so_that_the_store_is_whole(
  store, tiny_run, tmp_path
):
  run = tmp_path / 'run'
  shutil.copytree(tiny_run, run)
  models = versions.Models(store.db, store.folder)
  assert models.serving() is None
  first = models.register_first(run)
  assert first == models.serving() == models.get(1)
  assert first.folder == store.folder / 'models' / '1'
  assert len(list((first.folder / 'checkpoints').iterdir())) == 1
  expected = rsna_jax.load_model(run)
  shutil.rmtree(run)
  found = rsna_jax.load_model(first.folder)
  assert found.step == expected.step
  for name in ('metrics.json', 'breasts.csv', 'predictions.csv'):
    assert (first.folder / 'eval' / 'validation' / name).read_bytes() == (
      tiny_run / 'eval' / 'validation' / name
    ).read_bytes()
  # Once there is a model, a workdir changes nothing.
  assert models.register_first(tmp_path / 'gone') == first
  assert models.check() == [] and not list((store.folder / 'tmp').iterdir())


def test_an_ensemble_is_copied_with_its_members(
  sqlite_store, tiny_run, tmp_path
):
  folder = tmp_path / 'ensemble'
  folder.mkdir()
  (folder / 'ensemble.json').write_text(
    json.dumps(
      {
        'runs': [
          {'path': str(tiny_run), 'weight': 2, 'checkpoint': 'latest'},
          str(tiny_run),
        ]
      }
    )
  )
  models = versions.Models(sqlite_store.db, sqlite_store.folder)
  first = models.register_first(folder)
  found = rsna_jax.load_model(first.folder)
  assert [member.weight for member in found.members] == [2, 1]
  text = (first.folder / 'ensemble.json').read_text()
  assert str(tiny_run) not in text
  weights = next((first.folder / 'run1' / 'checkpoints').rglob('manifest.json'))
  weights.write_text('{}')
  assert len(models.check()) == 1


def test_what_is_no_run_is_refused_and_leaves_nothing(sqlite_store, tmp_path):
  models = versions.Models(sqlite_store.db, sqlite_store.folder)
  with pytest.raises(errors.RunError):
    models.register_first(tmp_path)
  assert models.serving() is None and models.list() == []
  assert not list((sqlite_store.folder / 'tmp').glob('*'))


def test_rolling_back_is_byte_identical_and_in_the_audit_log(store, models):
  before = {n: _bytes(models.get(n).folder) for n in (1, 2, 3)}
  assert models.serving().number == 3
  assert models.rollback(None, 'administrator').number == 2
  assert models.serving().number == 2
  assert models.rollback(None, 'administrator').number == 1
  with pytest.raises(problems.Problem) as caught:
    models.rollback(None, 'administrator')
  assert caught.value.code == 'E_NOT_FOUND'
  assert models.rollback(3, 'administrator').number == 3
  assert {n: _bytes(models.get(n).folder) for n in (1, 2, 3)} == before
  assert before[1]['checkpoints/5/weights'] == b'one'
  with store.db.reading() as session:
    lines = session.scalars(
      sa.select(tables.Audit)
      .where(tables.Audit.action.in_(('model.promote', 'model.rollback')))
      .order_by(tables.Audit.number)
    ).all()
    found = [
      (line.action, line.object, json.loads(line.details)['from'])
      for line in lines
    ]
    assert audit_log.verify(session) == []
  assert found == [
    ('model.promote', 'model 1', None),
    ('model.promote', 'model 2', 1),
    ('model.promote', 'model 3', 2),
    ('model.rollback', 'model 2', 3),
    ('model.rollback', 'model 1', 2),
    ('model.rollback', 'model 3', 1),
  ]


def test_a_changed_model_does_not_serve(models):
  folder = models.get(2).folder
  (folder / 'checkpoints' / '5' / 'weights').write_bytes(b'evil')
  assert len(models.check()) == 1 and 'models/2' in models.check()[0]
  for call in (
    lambda: models.rollback(2, 'me'),
    lambda: models.promote(2, 'me'),
  ):
    with pytest.raises(errors.DataError, match='models/2'):
      call()
  assert models.serving().number == 3
  (folder / 'checkpoints' / '5' / 'weights').unlink()
  assert len(models.check()) == 1
  shutil.rmtree(folder)
  assert 'missing' in models.check()[0]


def test_what_was_refused_never_serves(models, tmp_path):
  number = models.add(_run(tmp_path / 'run4', b'4')).number
  found = models.refuse(number, 'me', reason='worse')
  assert (found.status, found.reason) == ('refused', 'worse')
  for call in (
    lambda: models.promote(number, 'me'),
    lambda: models.rollback(number, 'me'),
    lambda: models.refuse(1, 'me'),
    lambda: models.get(77),
    lambda: models.rollback(77, 'me'),
  ):
    with pytest.raises(problems.Problem):
      call()
  assert models.serving().number == 3


def test_a_folder_of_a_killed_process_is_in_nobodys_way(
  store, models, tmp_path
):
  _run(store.folder / 'models' / '4', b'half')
  made = models.add(_run(tmp_path / 'run4', b'4'))
  assert made.number == 4 and models.check() == []
  assert (made.folder / 'checkpoints' / '5' / 'weights').read_bytes() == b'4'
  _run(store.folder / 'models' / '5', b'half')
  removed = upkeep.sweep(
    store.db, blobs.Blobs(store.folder / 'blobs'), older_than_s=-1
  )
  assert removed == ['models/5']
  assert models.check() == []


def test_the_hash_is_of_names_and_contents(tmp_path):
  """Against the digest of a listing that sha256sum would write."""
  folder = _run(tmp_path / 'run', b'one')
  (folder / 'metrics.jsonl').write_text('not part of it')
  lines = ''
  for name in ('checkpoints/5/weights', 'config.json', 'preprocess.json'):
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    lines += f'{digest}  {name}\n'
  expected = hashlib.sha256(lines.encode()).hexdigest()
  assert versions.weights_sha256(folder) == expected
  (folder / 'checkpoints' / '5' / 'weights').rename(
    folder / 'checkpoints' / '5' / 'other'
  )
  assert versions.weights_sha256(folder) != expected
