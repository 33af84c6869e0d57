"""The commands users, store and models, as a person types them."""

import io
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import serve_store
import sqlalchemy as sa

from rsna_jax import cli
from rsna_jax.serve import store_commands
from rsna_jax.serve.store import accounts, blobs, database, tables


def _run(capsys, *words) -> tuple[int, str, str]:
  capsys.readouterr()
  with pytest.raises(SystemExit) as end:
    cli.main(list(map(str, words)))
  out, err = capsys.readouterr()
  return end.value.code, out, err


def _refused(capsys, *words) -> str:
  code, _, err = _run(capsys, *words)
  assert code == 2, err
  lines = [line for line in err.splitlines() if line.startswith('error: ')]
  assert len(lines) == 1 and 'Traceback' not in err, err
  return lines[0]


@pytest.fixture
def password_file(tmp_path):
  path = tmp_path / 'password'
  path.write_text('a good password 9\nnot part of it\n')
  return path


def test_people_are_added_changed_and_listed(capsys, tmp_path, password_file):
  store = ('--store', tmp_path / 'new')
  secret = ('--password-file', password_file)
  code, out, _ = _run(
    capsys, 'users', 'add', 'ann', '--role', 'administrator', *store, *secret
  )
  assert (code, out) == (0, 'added ann as administrator\n')
  assert stat.S_IMODE((tmp_path / 'new').stat().st_mode) == 0o700
  assert _run(capsys, 'users', 'add', 'bob', *store, *secret)[0] == 0
  assert (
    _run(capsys, 'users', 'role', 'bob', '--role', 'reviewer', *store)[0] == 0
  )
  assert _run(capsys, 'users', 'disable', 'bob', *store)[0] == 0
  _, out, _ = _run(capsys, 'users', 'list', *store)
  found = [line.split('\t')[:3] for line in out.splitlines()]
  assert found == [
    ['ann', 'administrator', 'enabled'],
    ['bob', 'reviewer', 'disabled'],
  ]
  assert _run(capsys, 'users', 'enable', 'bob', *store)[0] == 0
  password_file.write_text('another secret 7\n')
  assert _run(capsys, 'users', 'password', 'bob', *store, *secret)[0] == 0
  db = database.Database(None, tmp_path / 'new')
  with db.reading() as session:
    assert accounts.authenticate(session, 'bob', 'another secret 7')
    assert accounts.authenticate(session, 'ann', 'a good password 9')
    actors = set(session.scalars(sa.select(tables.Audit.actor)))
  assert actors == {'command line'}
  db.close()


def test_a_password_is_asked_for_twice_without_echo(
  capsys, sqlite_store, monkeypatch
):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  said = iter(['my secret word', 'my secret word', 'one secret', 'two secret'])
  monkeypatch.setattr(sys, 'stdin', Terminal())
  monkeypatch.setattr(
    store_commands.getpass, 'getpass', lambda prompt: next(said)
  )
  words = ('users', 'password', 'other', '--store', sqlite_store.folder)
  assert _run(capsys, *words)[0] == 0
  assert 'differ' in _refused(capsys, *words)
  with sqlite_store.db.reading() as session:
    assert accounts.authenticate(session, 'other', 'my secret word')


def test_a_password_comes_from_standard_input(
  capsys, sqlite_store, monkeypatch
):
  words = ('users', 'password', 'other', '--store', sqlite_store.folder)
  monkeypatch.setattr(sys, 'stdin', io.StringIO('from a pipe 55\n'))
  assert '--password-file' in _refused(capsys, *words)
  assert _run(capsys, *words, '--password-file', '-')[0] == 0
  with sqlite_store.db.reading() as session:
    assert accounts.authenticate(session, 'other', 'from a pipe 55')


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    (('users', 'list'), 'no store'),
    (('users', 'disable', 'x'), 'no store'),
    (('users', 'add'), 'whose'),
    (('users', 'role', 'x'), '--role'),
    (('users', 'add', 'x', '--password-file', '/no/such/file'), '/no/such'),
    (('store', 'check'), 'no store'),
    (('store', 'check', 'x'), 'no more words'),
    (('store', 'backup'), 'a file'),
    (('store', 'delete'), 'id of a submission'),
    (('store', 'restore', '/no/such/file'), '/no/such/file'),
    (('models', 'list'), 'no store'),
    (('models', 'list', '3'), 'no number'),
    (('store', 'check', '--database', 'mysql://x'), 'no store'),
  ],
)
def test_what_cannot_be_is_said_in_one_line(capsys, tmp_path, words, said):
  store = tmp_path / 'nowhere'
  assert said in _refused(capsys, *words, '--store', store)
  assert not store.exists()
  assert list(tmp_path.iterdir()) == []


def test_people_that_cannot_be_are_refused_in_one_line(
  capsys, sqlite_store, password_file
):
  store = ('--store', sqlite_store.folder)
  secret = ('--password-file', password_file)
  assert 'taken' in _refused(capsys, 'users', 'add', 'other', *store, *secret)
  assert 'name' in _refused(capsys, 'users', 'add', '../x', *store, *secret)
  assert 'nobody' in _refused(capsys, 'users', 'disable', 'nobody', *store)
  assert 'only administrator' in _refused(
    capsys, 'users', 'disable', 'administrator', *store
  )
  password_file.write_text('short\n')
  assert '10' in _refused(capsys, 'users', 'add', 'new', *store, *secret)
  password_file.write_bytes(b'\xff\xfe' * 20)
  assert 'UTF-8' in _refused(capsys, 'users', 'add', 'new', *store, *secret)
  password_file.write_text('')
  assert 'empty' in _refused(capsys, 'users', 'add', 'new', *store, *secret)


def test_a_store_is_checked_swept_copied_and_restored(
  capsys, sqlite_store, tmp_path
):
  row = sqlite_store.add(serve_store.picture(0))
  store = ('--store', sqlite_store.folder)
  code, out, _ = _run(capsys, 'store', 'check', *store)
  assert code == 2 and 'none serves' in out  # no model yet, the rest is whole
  assert len(out.splitlines()) == 1
  path = tmp_path / 'b.zip'
  code, out, _ = _run(capsys, 'store', 'backup', path, *store)
  assert code == 0 and '1 submission(s)' in out
  elsewhere = ('--store', tmp_path / 'elsewhere')
  assert _run(capsys, 'store', 'restore', path, *elsewhere)[0] == 0
  assert 'not empty' in _refused(capsys, 'store', 'restore', path, *elsewhere)
  assert _run(capsys, 'store', 'sweep', *elsewhere)[:2] == (
    0,
    'removed 0 file(s)\n',
  )
  assert _run(capsys, 'store', 'delete', row['id'], *elsewhere)[0] == 0
  assert list(blobs.Blobs(tmp_path / 'elsewhere' / 'blobs').all()) == []
  assert 'no such' in _refused(capsys, 'store', 'delete', row['id'], *elsewhere)
  sqlite_store.blobs.path(row['image_sha256']).write_bytes(b'x')
  code, out, _ = _run(capsys, 'store', 'check', *store)
  assert code == 2 and row['image_sha256'][:12] in out


def test_a_full_disk_is_one_line_and_loses_nothing(sqlite_store, tmp_path):
  """F09, on a file system of one megabyte where one can be mounted."""
  small = tmp_path / 'small'
  small.mkdir()
  mounted = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small],
    capture_output=True,
  )
  if mounted.returncode:
    pytest.skip('no file system can be mounted here: ' + os.strerror(1))
  try:
    chance = np.random.default_rng(0)
    for seed in range(3):
      noise = chance.integers(40, 255, (700, 700)).astype('uint8')
      noise[:, 600:] = seed
      sqlite_store.add(noise)
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'rsna_jax.cli', 'store', 'backup'),
        *(small / 'b.zip', '--store', sqlite_store.folder),
      ],
      capture_output=True,
      text=True,
    )
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and 'disk is full' in done.stderr
    assert list(small.iterdir()) == []
    # And a store that lies there: what it had stays.
    made = serve_store.make(small / 'store')
    kept = []
    with pytest.raises(OSError, match='No space left'):
      for seed in range(10):
        noise = chance.integers(40, 255, (400, 400)).astype('uint8')
        noise[:, 390:] = seed
        kept.append(made.add(noise)['id'])
    made.db.close()
    again = serve_store.open_there(small / 'store', None)
    with again.db.reading() as session:
      rows = session.scalars(sa.select(tables.Submission)).all()
    assert kept and {row.id for row in rows} == set(kept)
    assert {row.image_sha256 for row in rows} == set(again.blobs.all())
    assert list(again.blobs.strays()) == []
    again.db.close()
  finally:
    subprocess.run(['umount', small], check=True)
