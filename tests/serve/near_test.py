"""Fingerprints: copies are found, and different breasts are not confused."""

import csv
import io
import itertools
import os
import pathlib

import numpy as np
import pytest
import serve_store
from PIL import Image

from rsna_jax.data import breast, preprocess, resize
from rsna_jax.serve.store import fingerprint, near

_REAL = (
  pathlib.Path(
    os.environ.get(
      'RSNA_JAX_DATA',
      pathlib.Path(__file__).parents[2] / '..' / 'shared' / 'data',
    )
  )
  / 'rsna640'
)


def _jpeg(pixels, quality):
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, 'JPEG', quality=quality)
  return np.asarray(Image.open(buffer))


def _scaled(pixels, rows, columns):
  return np.asarray(Image.fromarray(pixels).resize((columns, rows)))


_COPIES = {
  'mirrored': lambda p: p[:, ::-1],
  'upside down': lambda p: p[::-1],
  'turned': lambda p: p[::-1, ::-1],
  'half': lambda p: _scaled(p, 128, 80),
  'twice': lambda p: _scaled(p, 512, 320),
  'squeezed': lambda p: _scaled(p, 256, 100),
  'jpeg': lambda p: _jpeg(p, 30),
  '16 bits': lambda p: p.astype(np.uint16) * 257,
  'air around': lambda p: np.pad(p, ((20, 30), (0, 40))),
  'lighter': lambda p: (255 * (p / 255) ** 0.9).astype(np.uint8),
}


@pytest.mark.parametrize('how', _COPIES)
def test_a_copy_is_near(how):
  for seed in range(5):
    pixels = serve_store.picture(seed)
    copy = np.ascontiguousarray(_COPIES[how](pixels))
    found = near.distance(
      near.fingerprints(pixels).phash, near.fingerprints(copy).phash
    )
    assert found <= near.DISTANCE


def test_different_pictures_are_far():
  hashes = [
    near.fingerprints(serve_store.picture(seed)).phash for seed in range(30)
  ]
  least = min(near.distance(a, b) for a, b in itertools.combinations(hashes, 2))
  assert least > near.DISTANCE


def test_pixels_are_the_same_whichever_way_they_are_held():
  pixels = serve_store.picture(0)
  expected = near.fingerprints(pixels).pixel_sha256
  for copy in (pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]):
    assert near.fingerprints(copy).pixel_sha256 == expected
  changed = pixels.copy()
  changed[100, 50] ^= 1
  for other in (
    changed,
    pixels.astype(np.uint16),
    pixels.reshape(160, 256),
    pixels.astype('>u2').astype('<u2'),
  ):
    assert near.fingerprints(other).pixel_sha256 != expected
  assert (
    near.fingerprints(pixels.astype('>u2')).pixel_sha256
    == near.fingerprints(pixels.astype('<u2')).pixel_sha256
  )


@pytest.mark.parametrize(
  'pixels',
  [
    np.zeros((64, 64), np.uint8),
    np.full((64, 64), 255, np.uint8),
    np.zeros((1, 1), np.uint8),
    np.ones((1, 5000), np.uint16),
    np.eye(64, dtype=np.uint16),
  ],
  ids=['black', 'white', 'one', 'line', 'diagonal'],
)
def test_any_pixels_have_fingerprints(pixels):
  found = near.fingerprints(pixels)
  assert len(found.phash) == 64 and len(found.pixel_sha256) == 64


def test_distances_are_those_of_counting_bits():
  """Against hashes of pictures that were really flipped."""
  first, other = (serve_store.picture(seed) for seed in (1, 2))
  flipped = (first, first[::-1], first[:, ::-1], first[::-1, ::-1])
  expected = min(
    bin(
      int(near.fingerprints(np.ascontiguousarray(one)).phash, 16)
      ^ int(near.fingerprints(other).phash, 16)
    ).count('1')
    for one in flipped
  )
  found = near.distance(
    near.fingerprints(first).phash, near.fingerprints(other).phash
  )
  assert abs(found - expected) <= 2  # coefficients that are all but zero


def test_what_resembles_is_found_nearest_first(store):
  pixels = serve_store.picture(0)
  first = store.add(pixels)
  second = store.add(_jpeg(pixels, 30), user=store.other)
  store.add(serve_store.picture(1))
  assert second['near_id'] == first['id']
  with store.db.reading() as session:
    found = near.find(session, near.fingerprints(pixels))
    assert [(hit[0], hit[2]) for hit in found] == [
      (first['id'], True),
      (second['id'], False),
    ]
    assert near.find(session, near.fingerprints(serve_store.picture(9))) == []


def test_an_index_of_frozen_pictures_is_stored_and_read(store):
  pictures = [serve_store.picture(seed) for seed in range(4)]
  with store.db.session() as session:
    near.save_frozen(session, 'old', map(near.fingerprints, pictures[:1]))
    near.save_frozen(session, 'set', map(near.fingerprints, pictures[:1]))
    near.save_frozen(session, 'set', map(near.fingerprints, pictures[1:]))
  with store.db.reading() as session:
    assert near.Frozen.load(session, 'nothing') is None
    found = near.Frozen.load(session, 'set')
  held = [found.holds(near.fingerprints(_jpeg(p, 60))) for p in pictures]
  assert held == [False, True, True, True]
  assert not near.Frozen.of([]).holds(near.fingerprints(pictures[0]))


def test_real_breasts_are_told_apart_and_their_copies_found():
  """60 real images: both breasts of a patient, and copies as a model sees."""
  if not _REAL.is_dir():
    pytest.skip(f'{_REAL} is not there')
  with (_REAL / 'train.csv').open() as file:
    rows = list(csv.DictReader(file))[:60]
  with (_REAL / 'facts.csv').open() as file:
    facts = {row['image_id']: row['inverted'] for row in csv.DictReader(file)}
  hashes, lost = [], 0
  for row in rows:
    path = _REAL / 'train_images' / row['patient_id'] / f'{row["image_id"]}.jpg'
    pixels = np.asarray(Image.open(path).convert('L'))
    if facts[row['image_id']] == 'True':
      pixels = 255 - pixels
    mask = breast.find(pixels).mask
    shown = resize.area(mask.astype(np.float32), pixels.shape) > 0.5
    masked = np.where(shown, pixels, 0).astype(np.uint8)
    hashes.append(near.fingerprints(masked).phash)
    standard = resize.area(masked[:, ::-1], (256, 256)).round()
    copy = near.fingerprints(standard.astype(np.uint8)).phash
    lost += near.distance(hashes[-1], copy) > near.DISTANCE
  assert lost == 0
  close = [
    (a['image_id'], b['image_id'])
    for (a, x), (b, y) in itertools.combinations(
      zip(rows, hashes, strict=True), 2
    )
    if near.distance(x, y) <= near.DISTANCE
    and (a['patient_id'], a['laterality'], a['view'])
    != (b['patient_id'], b['laterality'], b['view'])
  ]
  assert close == []


def test_the_png_that_is_kept_gives_the_same_fingerprints():
  pixels = serve_store.picture(3)
  again = preprocess.decode_png(preprocess.encode_png(pixels))
  assert near.fingerprints(again) == near.fingerprints(pixels)
  assert fingerprint.BITS == 255
