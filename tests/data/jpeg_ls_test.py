"""JPEG-LS against the written arrays, pydicom's file, and damaged streams."""

import os
import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import encaps

from rsna_jax.data import codestream, jpeg_ls

FILES = os.path.join(os.path.dirname(pydicom.__file__), 'data', 'test_files')
ROWS, COLUMNS = 97, 61


def image(bits: int) -> np.ndarray:
  rows, columns = np.mgrid[:ROWS, :COLUMNS]
  wave = np.sin(rows / 9) * np.cos(columns / 7) + 1
  noise = np.random.default_rng(bits).integers(0, 2, (ROWS, COLUMNS))
  values = (wave * ((1 << bits - 1) - 2)).astype(np.int64) + noise
  return values.astype(np.uint8 if bits <= 8 else np.uint16)


def decoded(data, header):
  return jpeg_ls.Image(data, header).level(0)


def frame(bits=12, allocated=16, signed=False, rows=ROWS, columns=COLUMNS):
  return codestream.Frame(
    rows=rows,
    columns=columns,
    bits_allocated=allocated,
    bits_stored=bits,
    signed=signed,
  )


@pytest.mark.parametrize('bits, allocated', [(8, 8), (12, 16), (16, 16)])
def test_lossless_pixels_are_those_written(bits, allocated):
  pixels = image(bits)
  data = imagecodecs.jpegls_encode(pixels)
  for padding in (b'', b'\0'):
    read = decoded(data + padding, frame(bits, allocated))
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)
  part = jpeg_ls.Image(data, frame(bits, allocated))
  np.testing.assert_array_equal(
    part.level(0, (3, 5, 30, 50)), pixels[3:30, 5:50]
  )
  assert part.encoding['largest_error'] == 0


def test_near_lossless_pixels_are_within_the_stated_error():
  pixels = image(12)
  data = imagecodecs.jpegls_encode(pixels, level=3)
  found = jpeg_ls.Image(data, frame())
  assert found.encoding['largest_error'] == 3
  error = found.level(0).astype(int) - pixels
  assert 0 < np.abs(error).max() <= 3


def test_signed_pixels_are_those_of_the_uncompressed_file():
  plain = pydicom.dcmread(os.path.join(FILES, 'MR_small.dcm'))
  packed = pydicom.dcmread(os.path.join(FILES, 'MR_small_jpeg_ls_lossless.dcm'))
  data = next(encaps.generate_frames(packed.PixelData, number_of_frames=1))
  expected = np.frombuffer(plain.PixelData, '<i2').reshape(64, 64)
  read = decoded(data, frame(16, 16, True, 64, 64))
  np.testing.assert_array_equal(read, expected)


def test_the_sign_of_twelve_bits_is_extended():
  signed = image(12).astype(np.int16) - 2048
  data = imagecodecs.jpegls_encode((signed & 0xFFF).astype(np.uint16))
  read = decoded(data, frame(12, signed=True))
  np.testing.assert_array_equal(read, signed)


def resized(rows, columns) -> bytes:
  data = bytearray(imagecodecs.jpegls_encode(image(12)))
  struct.pack_into('>HH', data, data.index(b'\xff\xf7') + 5, rows, columns)
  return bytes(data)


@pytest.mark.parametrize(
  'data, message',
  [
    (b'', 'does not start'),
    (b'\xff\xd8\xff\xd9', 'no frame header'),
    (imagecodecs.jpegls_encode(image(12))[:-50], 'cut short'),
    (imagecodecs.jpegls_encode(image(12))[:-50] + b'\xff\xd9', 'damaged'),
    (resized(65500, 65500), '65500x65500'),
    (imagecodecs.jpegls_encode(image(16)), 'BitsStored=12'),
    (imagecodecs.jpegls_encode(np.stack([image(8)] * 3, -1)), '3 components'),
    (imagecodecs.jpeg8_encode(image(8)), 'FFC0'),
  ],
)
def test_a_wrong_or_cut_stream_is_refused(data, message):
  with pytest.raises(codestream.CodestreamError, match=message):
    decoded(data, frame())


def test_a_tall_image_in_a_short_stream_is_refused():
  with pytest.raises(codestream.CodestreamError, match='cut short'):
    decoded(resized(65500, 2)[:400] + b'\xff\xd9', frame(rows=65500, columns=2))


def test_damaged_streams_are_read_or_refused_and_nothing_else():
  pixels = image(12)
  good = imagecodecs.jpegls_encode(pixels)
  rng = np.random.default_rng(0)
  accepted = 0
  for _ in range(200):
    mutant = bytearray(good)
    for at in rng.integers(2, len(mutant) - 2, 2):
      mutant[at] ^= 1 << int(rng.integers(8))
    try:
      read = decoded(bytes(mutant), frame())
    except codestream.CodestreamError:
      continue
    accepted += 1
    assert read.shape == pixels.shape
  assert accepted < 20
