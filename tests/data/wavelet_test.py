"""The low-pass band is what OpenJPEG decodes at a reduced resolution."""

import imagecodecs
import numpy as np
import pytest

from rsna_jax.data import openjp2, pyramid, wavelet


@pytest.mark.parametrize('shape', [(64, 64), (131, 115), (200, 129), (97, 160)])
@pytest.mark.parametrize('bits', [8, 12, 16])
def test_low_pass_is_openjpegs_reduced_resolution(shape, bits):
  rng = np.random.default_rng(0)
  dtype = np.uint8 if bits == 8 else np.uint16
  image = rng.integers(0, 1 << bits, shape).astype(dtype)
  stream = imagecodecs.jpeg2k_encode(
    image, level=0, codecformat='j2k', reversible=True, resolutions=6
  )
  # The codec clips what overshoots.
  white = (1 << 8 * image.itemsize) - 1
  for level in (1, 2, 3):
    ours = np.clip(wavelet.low_pass(image, level), 0, white)
    np.testing.assert_array_equal(ours, openjp2.decode(stream, level))


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (8, 1), (2, 2), (3, 2)])
def test_low_pass_of_a_few_pixels_keeps_a_constant(shape):
  image = np.full(shape, 1234, np.uint16)
  low = wavelet.low_pass(image, 2)
  assert low.shape == tuple(-(-n // 4) for n in shape)
  assert (low == 1234).all()


def test_extreme_values_do_not_overflow():
  # A checkerboard of the ends is the worst there is for the sums.
  for low, high, dtype in [(0, 8191, np.uint16), (-4095, 8191, np.int16)]:
    image = np.full((64, 64), low, dtype)
    image[::2, 1::2] = image[1::2, ::2] = high
    wide = wavelet.low_pass(image.astype(np.int32) + (1 << 20), 3) - (1 << 20)
    np.testing.assert_array_equal(wavelet.low_pass(image, 3), wide)


def test_a_part_of_a_level_equals_that_part_of_the_whole():
  rng = np.random.default_rng(1)
  image = pyramid.Array(rng.integers(0, 4096, (211, 150)).astype(np.uint16))
  for level in range(5):
    whole = image.level(level)
    assert whole.shape == image.level_shape(level)
    rows, cols = whole.shape
    for box in [(0, 0, rows, cols), (3, 1, rows, cols - 2), (2, 2, 5, 6)]:
      part = whole[box[0] : box[2], box[1] : box[3]]
      np.testing.assert_array_equal(image.level(level, box), part)
