"""Grey values, edges, resolution and holes against numpy by brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from rsna_jax.data.augment import blemish, tone


def picture(height=18, width=10, seed=0):
  image = np.random.default_rng(seed).random((height, width))
  image[:, width // 2 :] = 0
  return image.astype(np.float32)


def test_contrast_and_brightness_fade_out_where_it_is_dark():
  image = np.array([[0.0, 0.05, 0.5, 0.9]], np.float32)
  light = np.array([0, 0.5, 1, 1])
  mean = (image[0] * light).sum() / light.sum()
  expected = image[0] + ((image[0] - mean) * 0.5 + 0.08) * light
  found = tone.contrast_and_brightness(jnp.asarray(image), 0.5, 0.08)
  np.testing.assert_allclose(found[0], np.clip(expected, 0, 1), atol=1e-6)


def test_a_tone_curve_is_interpolation_and_rises_from_black_to_white():
  slopes = np.array([0.2, 1.7, 0.9, 1.0], np.float32)
  grey = np.linspace(0, 1, 101, dtype=np.float32)
  found = tone.monotone(jnp.asarray(grey), jnp.asarray(slopes))
  knots = np.concatenate([[0], np.cumsum(slopes) / slopes.sum()])
  np.testing.assert_allclose(
    found, np.interp(grey, np.linspace(0, 1, 5), knots), atol=1e-6
  )
  assert found[0] == 0 and found[-1] == pytest.approx(1)
  assert (np.diff(found) > 0).all()


def test_a_crop_blackens_edges_and_leaves_the_rest():
  image = picture() + 0.5
  cut = np.array([0.12, 0.3, 0.1, 0.2], np.float32)
  found = np.asarray(blemish.crop(jnp.asarray(image), jnp.asarray(cut)))
  for (row, column), value in np.ndenumerate(found):
    y, x = (row + 0.5) / 18, (column + 0.5) / 10
    kept = 0.12 <= y < 0.7 and x < 0.7
    assert value == (image[row, column] if kept else 0)


@pytest.mark.parametrize('factor', [1.0, 1.37, 2.0, 3.0, 7.5])
def test_a_lower_resolution_is_a_mean_over_large_pixels_interpolated(factor):
  image = picture()
  found = jax.jit(blemish.downscale)(jnp.asarray(image), factor)
  small = image.astype(np.float64)
  counts = [max(round(size / factor), 1) for size in image.shape]
  for axis, count in enumerate(counts):
    # Each fine pixel as many equal parts, and plain means of those.
    parts = np.repeat(small, count, axis=axis)
    split = np.stack(np.split(parts, count, axis=axis))
    small = np.moveaxis(split.mean(axis=axis + 1), 0, axis)
  places = np.meshgrid(
    *[
      np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
      for size, count in zip(image.shape, counts, strict=True)
    ],
    indexing='ij',
  )
  expected = ndimage.map_coordinates(small, places, order=1, mode='nearest')
  np.testing.assert_allclose(found, expected, atol=1e-5)
  if factor == 1:
    np.testing.assert_allclose(found, image, atol=1e-6)


def test_noise_is_added_where_it_is_light():
  image = picture()
  added = np.random.default_rng(1).normal(0, 0.3, image.shape)
  found = blemish.noise(jnp.asarray(image), jnp.asarray(added, jnp.float32))
  expected = np.clip(image + added * np.clip(image / 0.1, 0, 1), 0, 1)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert (np.asarray(found)[:, 5:] == 0).all()


def test_holes_are_as_many_and_as_large_as_drawn():
  image = np.ones((30, 20), np.float32)
  boxes = np.random.default_rng(2).random((5, 4)).astype(np.float32)
  found = np.asarray(
    blemish.cutout(jnp.asarray(image), jnp.asarray(boxes), 3, 0.4)
  )
  for (row, column), value in np.ndenumerate(found):
    y, x = (row + 0.5) / 30, (column + 0.5) / 20
    hidden = any(
      abs(y - box[0]) < 0.1 * (1 + box[2])
      and abs(x - box[1]) < 0.1 * (1 + box[3])
      for box in boxes[:3]
    )
    assert value == (0 if hidden else 1)
  assert 0.05 < 1 - found.mean() < 0.6
