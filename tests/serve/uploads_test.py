"""What is kept of uploads, for whom, and for how long."""

import pathlib
import types

import numpy as np

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import uploads


class _Clock:
  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def _room(clock=None, **options):
  settings = settings_lib.Settings(store=pathlib.Path('s'), **options)
  return uploads.Uploads(settings, clock or _Clock())


def _kept(owner='guest:a', pixels=100):
  upload = types.SimpleNamespace(
    picture=np.zeros((pixels, 1), np.uint8), pixels=[], kept=None
  )
  return uploads.Kept(
    id=uploads.new_id(),
    owner=owner,
    upload=upload,
    prepared=None,
    prediction=None,
    model=1,
  )


def _has(room, kept, owner='guest:a'):
  try:
    return room.get(kept.id, owner) is kept
  except problems.Problem as problem:
    assert problem.code == 'E_NOT_FOUND'
    return False


def test_an_upload_is_its_owners_alone():
  room, kept = _room(), _kept()
  room.add(kept)
  assert _has(room, kept)
  for owner in ('guest:b', 'user:a', '', None):
    assert not _has(room, kept, owner)


def test_ids_cannot_be_guessed():
  ids = {uploads.new_id() for _ in range(1000)}
  assert len(ids) == 1000
  assert min(map(len, ids)) >= 32


def test_uploads_are_forgotten_in_time():
  clock = _Clock()
  room, kept = _room(clock, upload_s=10), _kept()
  room.add(kept)
  clock.now = 9.9
  assert _has(room, kept)
  clock.now = 10.1
  room.expire()
  assert len(room) == 0
  assert room.bytes == 0


def test_number_and_bytes_are_bounded_and_the_oldest_go():
  room = _room(uploads=20, uploads_bytes=1000)
  kept = [_kept(f'guest:{i}') for i in range(30)]
  for one in kept:
    room.add(one)
  assert len(room) == 10
  assert room.bytes == 1000
  assert not _has(room, kept[19], 'guest:19')
  assert _has(room, kept[20], 'guest:20')
  few = _room(uploads=5)
  for one in kept:
    few.add(one)
  assert len(few) == 5


def test_one_owner_does_not_push_out_the_others():
  room, first = _room(), _kept('guest:other')
  room.add(first)
  for _ in range(500):
    room.add(_kept())
  assert len(room) < 60
  assert _has(room, first, 'guest:other')


def test_what_is_larger_than_all_room_is_kept_alone():
  room, kept = _room(uploads_bytes=50), _kept()
  room.add(_kept())
  room.add(kept)
  assert len(room) == 1
  assert _has(room, kept)


def test_what_is_made_of_an_upload_counts_with_it():
  room, first, second = _room(uploads_bytes=250), _kept(), _kept()
  room.add(first)
  room.add(second)
  room.grow(second, 100)
  assert room.bytes == 200
  assert not _has(room, first)
  room.grow(first, 100)  # it is gone
  assert room.bytes == 200
  room.drop(second.id)
  assert room.bytes == 0


def test_an_upload_can_be_dropped_at_once():
  room, kept = _room(), _kept()
  room.add(kept)
  room.drop(kept.id)
  room.drop(kept.id)
  assert not _has(room, kept)
  assert room.bytes == 0
