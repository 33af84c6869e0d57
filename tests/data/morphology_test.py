import numpy as np
import pytest

from rsna_jax.data import morphology


def brute_force(mask, radius):
  grown = np.zeros_like(mask)
  for y, x in zip(*np.nonzero(mask), strict=True):
    grown[
      max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1
    ] = True
  return grown


@pytest.mark.parametrize('radius', [0, 1, 3, 20])
def test_dilation_is_that_of_brute_force(radius):
  mask = np.random.default_rng(0).uniform(size=(17, 29)) < 0.03
  wanted = brute_force(mask, radius)
  np.testing.assert_array_equal(morphology.dilated(mask, radius), wanted)
  np.testing.assert_array_equal(morphology.eroded(~mask, radius), ~wanted)


def test_opening_drops_what_is_narrow_and_keeps_the_rest():
  mask = np.zeros((40, 40), bool)
  mask[5:25, :20] = True
  mask[30:33, 5:30] = True
  opened = morphology.opened(mask, 2)
  assert not opened[30:33].any()
  # The picture's edge is no edge of what reaches it.
  np.testing.assert_array_equal(opened[:28], mask[:28])
