"""Pictures on disk: whole or not there, and swept when nobody owns them."""

import errno
import hashlib
import os
import pathlib
import threading
import time

import pytest
import serve_store
import sqlalchemy as sa

from rsna_jax import files
from rsna_jax.serve import problems
from rsna_jax.serve.store import blobs, submissions, tables


def _old(path: pathlib.Path) -> None:
  at = time.time() - 2 * blobs.SWEEP_AFTER_S
  os.utime(path, (at, at))


def test_a_picture_lies_under_the_hash_of_its_bytes(tmp_path):
  found = blobs.Blobs(tmp_path)
  sha256 = found.put(b'picture')
  assert sha256 == hashlib.sha256(b'picture').hexdigest()
  assert found.path(sha256) == tmp_path / sha256[:2] / f'{sha256}.png'
  assert found.read(sha256) == b'picture'
  assert found.put(b'picture') == sha256
  assert list(found.all()) == [sha256] and list(found.strays()) == []
  found.delete(sha256)
  assert list(found.all()) == []


@pytest.mark.parametrize(
  'name',
  ['../../etc/passwd', '', 'A' * 64, 'a' * 63, 'a' * 65, 'a' * 64 + '\n'],
)
def test_a_name_that_is_no_hash_leads_nowhere(tmp_path, name):
  with pytest.raises(problems.Problem) as caught:
    blobs.Blobs(tmp_path).path(name)
  assert caught.value.code == 'E_NOT_FOUND'


def test_a_changed_file_is_not_handed_out_and_is_mended_by_its_owner(tmp_path):
  found = blobs.Blobs(tmp_path)
  sha256 = found.put(b'picture')
  found.path(sha256).write_bytes(b'pixture')
  with pytest.raises(problems.Problem) as caught:
    found.read(sha256)
  assert caught.value.code == 'E_FAULT'
  assert str(tmp_path) not in caught.value.message
  found.put(b'picture')
  assert found.read(sha256) == b'picture'


def test_the_sweep_takes_old_orphans_alone(sqlite_store):
  row = sqlite_store.add(serve_store.picture(0))
  pictures = sqlite_store.blobs
  kept = pictures.path(row['image_sha256'])
  _old(kept)
  old, young = pictures.put(b'old'), pictures.put(b'young')
  stray = pictures.path(old).parent / '.half.png.tmp'
  stray.write_bytes(b'half')
  _old(pictures.path(old))
  _old(stray)
  swept = blobs.sweep(sqlite_store.db, pictures)
  assert swept.removed == [f'{old}.png', stray.name]
  assert swept.missing == []
  assert kept.is_file() and pictures.path(young).is_file()


def test_the_sweep_names_rows_without_a_file(sqlite_store):
  row = sqlite_store.add(serve_store.picture(0))
  sqlite_store.blobs.delete(row['image_sha256'])
  swept = blobs.sweep(sqlite_store.db, sqlite_store.blobs)
  assert swept.missing == [row['image_sha256']]


def test_an_orphan_that_is_submitted_meanwhile_stays(sqlite_store, monkeypatch):
  made = serve_store.kept(serve_store.picture(0))
  orphan = sqlite_store.blobs.put(made.png)
  _old(sqlite_store.blobs.path(orphan))
  drop = blobs.drop_unused

  def submit_first(db, pictures, sha256):
    sqlite_store.add(serve_store.picture(0))
    return drop(db, pictures, sha256)

  monkeypatch.setattr(blobs, 'drop_unused', submit_first)
  assert blobs.sweep(sqlite_store.db, sqlite_store.blobs).removed == []
  assert sqlite_store.blobs.path(orphan).is_file()


def test_a_full_disk_leaves_neither_file_nor_row(sqlite_store, monkeypatch):
  def full(path, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

  sqlite_store.add(serve_store.picture(0))
  monkeypatch.setattr(files, 'write_bytes', full)
  with pytest.raises(OSError, match='No space left'):
    sqlite_store.add(serve_store.picture(1))
  monkeypatch.undo()
  assert len(list(sqlite_store.blobs.all())) == 1
  with sqlite_store.db.reading() as session:
    assert submissions.counts(session)['pending'] == 1
  sqlite_store.add(serve_store.picture(1))


def test_a_row_that_fails_takes_its_file_along(store, monkeypatch):
  def fail(*unused):
    raise ZeroDivisionError

  monkeypatch.setattr(submissions.audit_log, 'append', fail)
  with pytest.raises(ZeroDivisionError):
    store.add(serve_store.picture(0))
  assert list(store.blobs.all()) == []
  with store.db.reading() as session:
    assert session.scalars(sa.select(tables.Image)).all() == []


def test_many_at_once_submit_and_delete_the_same_picture(store):
  """Whatever the order: no row without its file, no file without a row."""
  pixels = serve_store.picture(0)
  made = serve_store.kept(pixels)
  wrong, done = [], []

  def work(n):
    for _ in range(4):
      try:
        row = submissions.add(
          store.db,
          store.blobs,
          made,
          serve_store.labels(),
          {},
          store.contributor,
          {},
        )
        done.append(row['id'])
        assert store.blobs.read(row['image_sha256']) == made.png
        submissions.delete(store.db, store.blobs, row['id'], None)
      except problems.Problem as problem:
        if problem.code not in ('E_DUPLICATE', 'E_NOT_FOUND'):
          wrong.append(problem)
      except Exception as error:
        wrong.append(error)

  threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == [] and done
  with store.db.reading() as session:
    assert session.scalars(sa.select(tables.Image)).all() == []
  assert list(store.blobs.all()) == []
