"""Connected components against scipy's."""

import numpy as np
import pytest
from scipy import ndimage

from rsna_jax.data import components


@pytest.mark.parametrize('density', [0.0, 0.1, 0.4, 0.6, 0.9, 1.0])
@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (40, 57)])
def test_components_are_those_of_scipy(density, shape):
  mask = np.random.default_rng(int(10 * density)).random(shape) < density
  labels, sizes = components.label(mask)
  expected, n = ndimage.label(mask)
  assert len(sizes) == n
  np.testing.assert_array_equal(labels > 0, mask)
  np.testing.assert_array_equal(sizes, np.bincount(labels.ravel())[1 : n + 1])
  pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
  assert pairs.shape[1] == len(np.unique(expected))


def test_a_spiral_is_one_component():
  spiral = np.array(
    [
      [1, 1, 1, 1, 1],
      [0, 0, 0, 0, 1],
      [1, 1, 1, 0, 1],
      [1, 0, 0, 0, 1],
      [1, 1, 1, 1, 1],
    ],
    bool,
  )
  assert components.label(spiral)[1].tolist() == [17]
