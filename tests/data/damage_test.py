"""Damage on purpose: repeatable, and of the kind that it says."""

import io
import pathlib

import numpy as np
import pydicom
import pytest
from pydicom import uid

from rsna_jax.data import damage, dicom

SCRIPTS = pathlib.Path(__file__).parents[2] / 'scripts'


@pytest.fixture
def sound(monkeypatch):
  """A function from a transfer syntax and a machine to a sound file."""
  monkeypatch.syspath_prepend(SCRIPTS)
  import fuzz_files

  return lambda syntax, machine=21, shape=(96, 80): (
    fuzz_files.sound(syntax, shape, machine).data
  )


def read(data: bytes) -> pydicom.FileDataset:
  return pydicom.dcmread(io.BytesIO(data))


def rng(seed: int = 0) -> np.random.Generator:
  return np.random.default_rng(seed)


@pytest.mark.parametrize('kind', damage.KINDS)
def test_a_damaged_file_differs_and_is_the_same_for_the_same_seed(kind, sound):
  donor = sound(uid.JPEGLosslessSV1, 29, (64, 72))
  for syntax in dicom.TRANSFER_SYNTAXES:
    data = sound(syntax)
    for seed in range(6):
      found = damage.damaged(data, kind, rng(seed), donor)
      assert found != data
      assert found == damage.damaged(data, kind, rng(seed), donor)


@pytest.mark.parametrize('syntax', dicom.TRANSFER_SYNTAXES)
def test_the_pixel_data_is_found(syntax, sound):
  data = sound(syntax)
  start = damage.pixel_start(data)
  if syntax == uid.DeflatedExplicitVRLittleEndian:
    # Only the group before the body can be read without inflating.
    assert damage.pixel_start(data) == 132 + 12 + data[140]
    return
  ds = read(data)
  assert data[start : start + 4] in (b'\xe0\x7f\x10\x00', b'\x7f\xe0\x00\x10')
  assert data.index(ds.PixelData) - start in (8, 12)


def test_flipped_bits_are_few_and_where_they_should_be(sound):
  data = sound(uid.JPEG2000Lossless)
  start = damage.pixel_start(data)
  for kind, place in (
    ('bit flips', slice(start, None)),
    ('bit flips in the header', slice(132, start)),
  ):
    for seed in range(20):
      found = damage.damaged(data, kind, rng(seed), b'')
      changed = np.frombuffer(data, np.uint8) ^ np.frombuffer(found, np.uint8)
      assert 1 <= np.unpackbits(changed).sum() <= 64
      assert changed[place].any()
      changed[place] = 0
      assert not changed.any()


def test_a_truncated_file_is_the_beginning_of_the_file(sound):
  data = sound(uid.RLELossless)
  for seed in range(20):
    found = damage.damaged(data, 'truncated', rng(seed), b'')
    assert 0 < len(found) < len(data)
    assert data.startswith(found)


@pytest.mark.parametrize('syntax', [uid.JPEGLosslessSV1, uid.JPEG2000])
def test_a_frame_cut_within_is_a_sound_file_around_less(syntax, sound):
  data = sound(syntax)
  whole = next(pydicom.encaps.generate_frames(read(data).PixelData))
  for seed in range(20):
    found = damage.damaged(data, 'cut within', rng(seed), b'')
    cut = next(pydicom.encaps.generate_frames(read(found).PixelData))
    assert len(cut) < len(whole)
    assert whole.startswith(cut[:-2])


def test_wrong_rows_or_columns_leave_the_pixels_alone(sound):
  data = sound(uid.JPEG2000Lossless)
  sizes = set()
  for seed in range(20):
    found = damage.damaged(data, 'wrong rows or columns', rng(seed), b'')
    ds = read(found)
    sizes.add((ds.Rows, ds.Columns))
    assert ds.PixelData == read(data).PixelData
  assert (96, 80) not in sizes
  assert len(sizes) > 5


def test_a_wrong_codestream_header_leaves_the_files_header_alone(sound):
  for syntax, marker in (
    (uid.JPEG2000Lossless, b'\xff\x4f\xff\x51'),
    (uid.JPEGLosslessSV1, b'\xff\xc3'),
  ):
    data = sound(syntax)
    at = data.index(marker)
    found = damage.damaged(data, 'wrong codestream header', rng(), b'')
    assert found[:at] == data[:at]
    assert found[at : at + 48] != data[at : at + 48]
    assert found[at + 48 :] == data[at + 48 :]


def test_headers_and_pixels_of_two_files_are_exchanged(sound):
  data = sound(uid.JPEG2000Lossless)
  donor = sound(uid.RLELossless, 29, (64, 72))
  mixed = read(damage.damaged(data, 'swapped header', rng(), donor))
  assert (mixed.Rows, mixed.Columns) == (64, 72)
  assert mixed.file_meta.TransferSyntaxUID == uid.RLELossless
  assert mixed.PixelData == read(data).PixelData
  mixed = read(damage.damaged(data, 'other codestream', rng(), donor))
  assert (mixed.Rows, mixed.Columns) == (96, 80)
  assert mixed.PixelData == read(donor).PixelData
