"""Backup and restore: the same store elsewhere, and archives that lie."""

import io
import json
import os
import stat
import zipfile

import pytest
import serve_postgres
import serve_store
import sqlalchemy as sa

from rsna_jax import errors
from rsna_jax.serve.store import (
  accounts,
  audit_log,
  backup,
  blobs,
  database,
  submissions,
  tables,
  upkeep,
  versions,
)


def _filled(store):
  """Submissions of each status, and a model that is no real run."""
  rows = [store.add(serve_store.picture(seed)) for seed in range(4)]
  near = serve_store.picture(0)
  near[near > 0] += 1
  rows.append(store.add(near, user=store.other, note='Größe é 乳'))
  with store.db.session() as session:
    submissions.accept(session, rows[0]['id'], store.reviewer)
    submissions.reject(session, rows[1]['id'], store.reviewer, 'Blurred.')
    accounts.start(session, store.contributor)
    folder = store.folder / 'models' / '1'
    (folder / 'checkpoints' / '5').mkdir(parents=True)
    (folder / 'checkpoints' / '5' / 'weights').write_bytes(b'weights')
    (folder / 'config.json').write_text('{}')
    session.add(
      tables.Model(
        number=1,
        folder='models/1',
        weights_sha256=versions.weights_sha256(folder),
        status='promoted',
        scores={'auc': 0.75},
      )
    )
    session.flush()
    session.add(tables.Serving(id=1, model_number=1))
  (store.folder / 'secret').write_bytes(os.urandom(32))
  return rows


def _chain(db):
  with db.reading() as session:
    lines = session.scalars(
      sa.select(tables.Audit).order_by(tables.Audit.number)
    )
    return [(line.number, line.at, line.details, line.sha256) for line in lines]


def _rows(db, table):
  with db.reading() as session:
    return sorted(map(repr, session.execute(sa.select(table.__table__)).all()))


def test_a_restored_store_is_the_same_store(store, tmp_path):
  _filled(store)
  path = tmp_path / 'store.zip'
  counts = backup.backup(store.db, store.blobs, path)
  assert counts['submissions'] == 5
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  elsewhere = tmp_path / 'another' / 'place'
  assert backup.restore(path, None, elsewhere) == []
  db = database.Database(None, elsewhere)
  assert _chain(db) == _chain(store.db)
  for table in (
    tables.User,
    tables.Submission,
    tables.Image,
    tables.Model,
    tables.Serving,
  ):
    assert _rows(db, table) == _rows(store.db, table)
  assert _rows(db, tables.Session) == []
  found = blobs.Blobs(elsewhere / 'blobs')
  assert list(found.all()) == list(store.blobs.all())
  for name in ('secret', 'models/1/checkpoints/5/weights'):
    assert (elsewhere / name).read_bytes() == (store.folder / name).read_bytes()
  assert upkeep.check(db, found) == []
  # And it goes on: the chain, and the numbers of people.
  with db.session() as session:
    new = accounts.create(session, 'new', serve_store.PASSWORD, 'reviewer')
    assert audit_log.verify(session) == []
  assert new.id == 5
  assert not list(tmp_path.glob('.*')) and not list(
    (store.folder / 'tmp').glob('*')
  )
  db.close()


def test_a_backup_of_sqlite_restores_into_postgresql(
  sqlite_store, tmp_path, postgres_server
):
  _filled(sqlite_store)
  path = tmp_path / 'store.zip'
  backup.backup(sqlite_store.db, sqlite_store.blobs, path)
  url = serve_postgres.create(postgres_server)
  assert backup.restore(path, url, tmp_path / 'new') == []
  db = database.Database(url, tmp_path / 'new')
  assert _chain(db) == _chain(sqlite_store.db)
  assert upkeep.check(db, blobs.Blobs(tmp_path / 'new' / 'blobs')) == []
  with db.session() as session:
    new = accounts.create(session, 'new', serve_store.PASSWORD, 'reviewer')
  assert new.id == 5
  with pytest.raises(errors.ConfigError, match='--database'):
    backup.restore(path, url, tmp_path / 'again')
  assert not (tmp_path / 'again').exists()
  db.close()


def test_nothing_is_overwritten(sqlite_store, tmp_path):
  path = tmp_path / 'store.zip'
  path.write_bytes(b'mine')
  with pytest.raises(errors.ConfigError, match='there already'):
    backup.backup(sqlite_store.db, sqlite_store.blobs, path)
  assert path.read_bytes() == b'mine'
  path.unlink()
  backup.backup(sqlite_store.db, sqlite_store.blobs, path)
  with pytest.raises(errors.ConfigError, match='not empty'):
    backup.restore(path, None, sqlite_store.folder)


def test_faults_of_the_audit_log_are_said_and_restored(sqlite_store, tmp_path):
  with sqlite_store.db.session() as session:
    session.execute(
      sa.update(tables.Audit)
      .where(tables.Audit.number == 2)
      .values(actor='nobody')
    )
  backup.backup(sqlite_store.db, sqlite_store.blobs, tmp_path / 'b.zip')
  faults = backup.restore(tmp_path / 'b.zip', None, tmp_path / 'new')
  assert any('line 2' in fault for fault in faults)
  assert (tmp_path / 'new' / database.NAME).is_file()


def _changed(path, changes, compression=zipfile.ZIP_STORED, manifest=True):
  """The archive with members replaced, added, or removed (None)."""
  with zipfile.ZipFile(path) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  about = json.loads(members.pop('manifest.json'))
  for name, data in changes.items():
    members.pop(name, None)
    if data is not None:
      members[name] = data
  if manifest:
    import hashlib

    about['files'] = {
      name: [len(data), hashlib.sha256(data).hexdigest()]
      for name, data in members.items()
    }
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', compression) as archive:
    for name, data in members.items():
      archive.writestr(name, data)
    archive.writestr('manifest.json', json.dumps(about))
  path.write_bytes(buffer.getvalue())


@pytest.fixture
def archive(sqlite_store, tmp_path):
  _filled(sqlite_store)
  path = tmp_path / 'store.zip'
  backup.backup(sqlite_store.db, sqlite_store.blobs, path)
  return path


def _refused(path, *words):
  target = path.parent / 'new'
  with pytest.raises(errors.DataError) as caught:
    backup.restore(path, None, target)
  for word in words:
    assert word in str(caught.value), caught.value
  assert '\n' not in str(caught.value)
  assert sorted(p.name for p in path.parent.iterdir()) == ['store', 'store.zip']


@pytest.mark.parametrize(
  'name',
  [
    '../evil',
    'models/1/../../../evil',
    '/etc/evil',
    'models/1/..',
    'models//evil',
    'models/1\\..\\evil',
    'C:/evil',
    'blobs/aa/evil.png',
    'blobs/../evil.png',
    'models/evil/config.json',
    'models/0/config.json',
    'store.db',
    'rows/evil.jsonl',
    'models/1/',
    'models/1/a\nb',
    'models/1/' + 'a/' * 300 + 'b',
  ],
)
def test_a_member_that_no_store_has_is_refused(archive, name):
  _changed(archive, {name: b'evil'})
  _refused(archive)


def test_links_are_not_followed(archive):
  with zipfile.ZipFile(archive, 'a') as found:
    link = zipfile.ZipInfo('models/1/link')
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    found.writestr(link, '/etc/passwd')
  _refused(archive, 'models/1/link')


def test_what_could_grow_is_refused(archive):
  _changed(
    archive, {'models/1/zeros': bytes(2**24)}, compression=zipfile.ZIP_DEFLATED
  )
  assert archive.stat().st_size < 2**20
  _refused(archive, 'compressed')


def test_members_that_lie_over_each_other_are_refused(archive):
  big = bytes(2**16)
  _changed(archive, {'models/1/a': big})
  data = bytearray(archive.read_bytes())
  # A second entry of the directory that points at the same bytes.
  start = data.index(b'PK\x01\x02')
  end = data.index(b'PK\x05\x06')
  entries = bytes(data[start:end])
  at = entries.index(b'models/1/a') - 46
  entry = entries[at : at + 46 + 10]
  extra = b''.join(
    entry.replace(b'models/1/a', b'models/1/%c' % letter)
    for letter in b'bcdefghijk'
  )
  count = int.from_bytes(data[end + 10 : end + 12], 'little') + 10
  size = (len(entries) + len(extra)).to_bytes(4, 'little')
  tail = data[end:]
  tail[8:10] = tail[10:12] = count.to_bytes(2, 'little')
  tail[12:16] = size
  archive.write_bytes(bytes(data[:end]) + extra + bytes(tail))
  _refused(archive)


@pytest.mark.parametrize('seed', range(20))
def test_a_flipped_bit_is_found(archive, seed):
  import random

  data = bytearray(archive.read_bytes())
  chance = random.Random(seed)
  data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
  archive.write_bytes(bytes(data))
  target = archive.parent / 'new'
  try:
    backup.restore(archive, None, target)
  except errors.DataError:
    assert not target.exists()
  else:
    # Of what is no content, as a date in the directory.
    db = database.Database(None, target)
    assert upkeep.check(db, blobs.Blobs(target / 'blobs')) == []
    db.close()


@pytest.mark.parametrize('length', [0, 1, 100, -1, -100])
def test_a_cut_archive_is_refused(archive, length):
  archive.write_bytes(archive.read_bytes()[:length])
  _refused(archive, 'store.zip')


def test_other_files_are_refused(archive):
  for data in (b'', b'hello', b'PK\x03\x04' + bytes(100), b'\x1f\x8b' * 50):
    archive.write_bytes(data)
    _refused(archive)


@pytest.mark.parametrize(
  ('name', 'line'),
  [
    ('users', '{"id": 1}'),
    ('users', '[]'),
    ('users', '{'),
    ('users', '[' * 100_000),
    (
      'users',
      '{"id": 1, "name": "x", "password_hash": "x", "role": "king",'
      ' "disabled": false, "created_at": "x"}',
    ),
    (
      'serving',
      '{"id": 1, "model_number": 77, "since": "x"}',
    ),
  ],
)
def test_rows_that_no_table_takes_are_refused(archive, name, line):
  _changed(archive, {f'rows/{name}.jsonl': line.encode() + b'\n'})
  _refused(archive)


def test_a_model_elsewhere_is_refused(archive):
  with zipfile.ZipFile(archive) as found:
    text = found.read('rows/models.jsonl').decode()
  evil = text.replace('models/1', '../../etc')
  _changed(archive, {'rows/models.jsonl': evil.encode()})
  _refused(archive, 'model 1')


def test_a_picture_that_is_not_what_its_name_says_is_refused(archive):
  with zipfile.ZipFile(archive) as found:
    name = next(n for n in found.namelist() if n.startswith('blobs/'))
  _changed(archive, {name: b'another'})
  _refused(archive, 'has changed')
