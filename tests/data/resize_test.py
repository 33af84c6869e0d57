"""Area resizing against a mean over exact pixel shares."""

import numpy as np
import pytest

from rsna_jax.data import resize


def shares(rows: int, n: int) -> np.ndarray:
  """(n, rows): how much of each pixel lies in each output pixel."""
  matrix = np.zeros((n, rows))
  for i in range(n):
    low, high = i * rows / n, (i + 1) * rows / n
    for j in range(rows):
      matrix[i, j] = max(0.0, min(high, j + 1) - max(low, j))
  return matrix * n / rows


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize('size', [(7, 5), (20, 30), (29, 41), (30, 42), (1, 1)])
def test_each_pixel_is_the_mean_of_its_area(dtype, size):
  rng = np.random.default_rng(0)
  limits = (-9000, 9000) if dtype in (np.int16, np.float32) else (0, 255)
  image = rng.integers(*limits, (30, 42)).astype(dtype)
  expected = (
    shares(30, size[0]) @ image.astype(np.float64) @ shares(42, size[1]).T
  )
  result = resize.area(image, size)
  assert result.dtype == np.float32
  np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-3)


def test_the_brightest_and_longest_columns_do_not_overflow():
  image = np.full((9000, 3), 65535, np.uint16)
  np.testing.assert_allclose(resize.area(image, (1, 3)), 65535, 1e-4)
  image = np.full((9000, 3), -32768, np.int16)
  np.testing.assert_allclose(resize.area(image, (2, 1)), -32768, 1e-4)


def test_masks_become_shares():
  mask = np.zeros((10, 10), bool)
  mask[:, :5] = True
  np.testing.assert_allclose(resize.area(mask, (1, 2)), [[1, 0]], 1e-6)
  shares = resize.area(mask, (2, 5))[0]
  np.testing.assert_allclose(shares, [1, 1, 0.5, 0, 0], 1e-6)


def test_a_growing_axis_is_interpolated_between_pixel_centres():
  image = np.array([[0.0, 10.0, 20.0]], np.float32)
  grown = resize.area(image, (2, 6))
  expected = np.interp((np.arange(6) + 0.5) / 2 - 0.5, [0, 1, 2], [0, 10, 20])
  np.testing.assert_allclose(grown, np.stack([expected, expected]), atol=1e-5)


@pytest.mark.parametrize(
  'box', [(1.25, 0.5, 37.75, 30.0), (0.0, 0.0, 40.25, 31.75), (3, 2, 8, 9)]
)
def test_a_box_may_cut_pixels_and_pass_the_edge(box):
  image = np.random.default_rng(2).integers(0, 5000, (40, 31))
  top, left, bottom, right = box
  size = (4, 3)
  # Brute force: each pixel, repeated beyond the edges, as 4 x 4 small ones.
  fine = np.pad(image, 1, mode='edge').repeat(4, 0).repeat(4, 1)
  rows = fine[4 + int(4 * top) : 4 + int(4 * bottom)]
  part = rows[:, 4 + int(4 * left) : 4 + int(4 * right)].astype(float)
  step = [n / m for n, m in zip(part.shape, size, strict=True)]
  for i in range(size[0]):
    for j in range(size[1]):
      ys, xs = (
        np.clip(
          np.minimum(np.arange(n) + 1, (k + 1) * s)
          - np.maximum(np.arange(n), k * s),
          0,
          None,
        )
        for n, k, s in zip(part.shape, (i, j), step, strict=True)
      )
      mean = ys @ part @ xs / (step[0] * step[1])
      assert resize.area(image, size, box)[i, j] == pytest.approx(mean, 1e-5)
