"""The fused decoder against libjpeg-turbo, bit for bit."""

import imagecodecs
import numpy as np
import pytest

from rsna_jax.data import codestream, fused, jpeg_lossless, wavelet

pytestmark = pytest.mark.skipif(
  not fused.available(), reason="numba, the extra 'fast', is not installed"
)


def _encode(image, bits, predictor=1):
  return imagecodecs.jpeg8_encode(
    image, lossless=True, predictor=predictor, bitspersample=bits
  )


def _images():
  rng = np.random.default_rng(0)
  for i in range(36):
    shape = tuple(int(n) for n in rng.integers(1, 90, 2))
    bits = int(rng.integers(9, 17))
    white = (1 << bits) - 1
    noise = rng.integers(0, white + 1, shape)
    walk = np.cumsum(rng.integers(-3, 4, shape), 1) + white // 2
    sparse = np.where(rng.random(shape) < 0.95, 0, noise)
    image = (noise, np.clip(walk, 0, white), sparse)[i % 3]
    yield image.astype(np.uint16), bits


def test_image_and_first_level_are_those_of_libjpeg_turbo():
  for image, bits in _images():
    data = _encode(image, bits)
    full, used = fused.decode(data, bits, image.shape, halve=False)
    np.testing.assert_array_equal(full, imagecodecs.jpeg8_decode(data))
    assert used == np.bitwise_or.reduce(image, axis=None)
    half, used = fused.decode(data, bits, image.shape, halve=True)
    np.testing.assert_array_equal(half, wavelet.low_pass(image, 1))
    assert used == np.bitwise_or.reduce(image, axis=None)


def test_other_streams_are_declined():
  image = np.arange(400, dtype=np.uint16).reshape(20, 20)
  for predictor in range(2, 8):
    data = _encode(image, 12, predictor)
    assert fused.decode(data, 12, image.shape, halve=False) is None
  data = bytearray(_encode(image, 12))
  data[2:2] = b'\xff\xdd\x00\x04\x00\x05'  # a restart interval
  assert fused.decode(bytes(data), 12, image.shape, halve=False) is None


def test_damaged_streams_are_declined_or_as_libjpeg_turbo_decodes_them():
  rng = np.random.default_rng(3)
  image = (rng.normal(900, 30, (70, 61)) * (rng.random((70, 61)) < 0.7)).clip(0)
  image = image.astype(np.uint16)
  good = _encode(image, 12)
  accepted = 0
  for _ in range(300):
    data = bytearray(good)
    kind = rng.integers(3)
    if kind == 0:
      at = int(rng.integers(8 * 2, 8 * len(data) - 16))
      data[at // 8] ^= 1 << at % 8
    elif kind == 1:
      at = int(rng.integers(100, len(data) - 2))
      del data[at : at + int(rng.integers(1, 40))]
      data[-2:] = b'\xff\xd9'
    else:
      at = int(rng.integers(100, len(data) - 60))
      data[at : at + 20] = rng.bytes(20)
    found = fused.decode(bytes(data), 12, image.shape, halve=False)
    if found is None:
      continue
    accepted += 1
    try:
      expected = imagecodecs.jpeg8_decode(bytes(data)) & 4095
    except RuntimeError:
      continue
    np.testing.assert_array_equal(found[0], expected)
  assert accepted > 10


def test_with_and_without_it_a_frame_has_the_same_levels(monkeypatch):
  rng = np.random.default_rng(4)
  image = rng.integers(0, 4096, (90, 71)).astype(np.uint16)
  frame = codestream.Frame(
    rows=90, columns=71, bits_allocated=16, bits_stored=12, signed=False
  )
  data = _encode(image, 12)
  with_it = [jpeg_lossless.Image(data, frame).level(n) for n in range(4)]
  monkeypatch.setattr(fused, '_kernels', lambda: None)
  without = [jpeg_lossless.Image(data, frame).level(n) for n in range(4)]
  for one, other in zip(with_it, without, strict=True):
    np.testing.assert_array_equal(one, other)


def test_halving_is_that_of_the_wavelet(monkeypatch):
  monkeypatch.setattr(fused, 'SMALL', 0)
  rng = np.random.default_rng(5)
  for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.int32):
    low, high = (
      (-(1 << 16), 1 << 17)
      if dtype == np.int32
      else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    )
    for shape in [(2, 2), (3, 2), (2, 3), (8, 9), (9, 8), (61, 70)]:
      image = rng.integers(low, high, shape, dtype)
      for part in (image, image[:, ::2], np.clip(image, 0, 100)):
        found, expected = fused.halved(part), wavelet.halved(part)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
