"""What apply() makes of options: limits, keys, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config
from rsna_jax.data import augment


def options(**fields):
  c = config.default().augment
  for name in c:
    c[name] = type(c[name])(fields.pop(name, 0))
  assert not fields
  return c


def changed(images, keys, o):
  """`augment.apply`, compiled: operation by operation it takes longer."""
  return jax.jit(lambda images, keys: augment.apply(images, keys, o))(
    images, keys
  )


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def images(count=6, height=24, width=16):
  values = np.random.default_rng(0).random((count, height, width, 1))
  values[:, :, width // 2 :] = 0  # background beside the breast
  return jnp.asarray(values, jnp.float32)


def test_all_options_at_zero_leave_the_images_as_they_are():
  x = images()
  assert augment.apply(x, keys(6), options()) is x


def test_a_flip_alone_turns_rows_exactly():
  x = images()
  found = changed(x, keys(6), options(flip_vertical=1))
  np.testing.assert_array_equal(found, x[:, ::-1])
  some = changed(images(64), keys(64), options(flip_vertical=0.25))
  turned = np.mean(np.any(np.asarray(some != images(64)), axis=(1, 2, 3)))
  assert 0.1 < turned < 0.4


def test_a_flip_with_geometry_turns_the_image_too():
  x = images()
  found = changed(x, keys(6), options(flip_vertical=1, shift=1e-7))
  np.testing.assert_allclose(found, x[:, ::-1], atol=1e-4)


def centroid(image):
  image = np.asarray(image, np.float64)[..., 0]
  rows, columns = np.indices(image.shape)
  return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


def blob(row, column, height=64, width=48):
  rows, columns = np.indices((height, width))
  r = (rows - row) ** 2 + (columns - column) ** 2
  return np.exp(-r / 8)[None, :, :, None].astype(np.float32)


def test_shifts_stay_within_their_limit_and_reach_both_sides():
  x = jnp.asarray(np.repeat(blob(31.5, 23.5), 64, axis=0))
  found = changed(x, keys(64), options(shift=0.125))
  moves = np.array([centroid(image) for image in found]) - [31.5, 23.5]
  assert (np.abs(moves) <= [8.01, 6.01]).all()
  assert (moves.max(axis=0) > [5, 4]).all()
  assert (moves.min(axis=0) < [-5, -4]).all()


def test_rotation_and_scale_are_about_the_centre_and_keep_shapes():
  x = jnp.asarray(np.repeat(blob(15.5, 23.5), 64, axis=0))
  arms = np.array(
    [
      centroid(image) - [31.5, 23.5]
      for image in changed(x, keys(64), options(rotation_deg=20))
    ]
  )
  np.testing.assert_allclose(np.hypot(*arms.T), 16, atol=0.1)
  angles = np.rad2deg(np.arctan2(arms[:, 1], -arms[:, 0]))
  assert np.abs(angles).max() <= 20.1
  assert angles.max() > 12 and angles.min() < -12
  lengths = np.array(
    [
      31.5 - centroid(image)[0]
      for image in changed(x, keys(64), options(scale=0.25))
    ]
  )
  assert lengths.min() >= 16 * 0.75 - 0.1 and lengths.max() <= 16 * 1.25 + 0.1
  assert lengths.max() > 18 and lengths.min() < 14


def test_brightness_and_contrast_keep_black_black_and_stay_in_range():
  x = images()
  found = changed(x, keys(6), options(brightness=0.5, contrast=0.9))
  assert (found[:, :, 8:] == 0).all()
  assert found.min() >= 0 and found.max() <= 1
  assert (np.abs(found - x).max(axis=(1, 2, 3)) > 0.01).all()


def test_brightness_adds_and_contrast_stretches_about_the_mean():
  x = jnp.full((16, 4, 4, 1), 0.5).at[:, :2].set(0.4)
  brighter = changed(x, keys(16), options(brightness=0.2))
  change = np.asarray(brighter - x)
  np.testing.assert_allclose(
    change, np.broadcast_to(change[:, :1, :1], x.shape), atol=1e-6
  )
  assert 0.1 < np.abs(change).max() <= 0.2
  stretched = np.asarray(changed(x, keys(16), options(contrast=0.5)))
  np.testing.assert_allclose(stretched.mean(axis=(1, 2, 3)), 0.45, atol=1e-6)
  gaps = (stretched[:, 3] - stretched[:, 0]).ravel() / 0.1
  assert gaps.min() >= 0.5 - 1e-4 and gaps.max() <= 1.5 + 1e-4
  assert np.ptp(gaps) > 0.3


def test_an_image_changes_by_its_own_key_alone():
  everything = config.default().augment
  x, k = images(), keys(6)
  whole = changed(x, k, everything)
  np.testing.assert_allclose(
    changed(x[3:5], k[3:5], everything), whole[3:5], atol=1e-6
  )
  same = jnp.repeat(x[:1], 6, axis=0)
  different = np.asarray(changed(same, k, everything))
  assert len({image.tobytes() for image in different}) == 6


def test_a_batch_without_pixels_passes():
  empty = jnp.zeros((2, 0, 0, 1))
  assert augment.apply(empty, keys(2), config.default().augment) is empty


# Option -> value, and whether black stays black.
ALONE = {
  'flip_horizontal': (1.0, False),
  'shear_deg': (20.0, False),
  'box_jitter': (0.3, False),
  'crop': (0.3, False),
  'elastic': (0.45, False),
  'grid': (0.5, False),
  'gamma': (1.0, True),
  'tone_curve': (0.8, True),
  'downscale': (3.0, False),
  'noise': (0.2, True),
  'cutout': (4, True),
  'polarity': (1.0, False),
}


@pytest.mark.parametrize('name', ALONE)
def test_an_option_alone_changes_images_within_their_range(name):
  value, black = ALONE[name]
  x = images()
  o = options(**{name: value}, elastic_cells=4, grid_cells=5, cutout_size=0.5)
  found = np.asarray(changed(x, keys(6), o))
  assert found.shape == x.shape and found.dtype == np.float32
  assert found.min() >= 0 and found.max() <= 1
  assert np.mean(np.abs(found - x).max(axis=(1, 2, 3)) > 0.01) >= 0.5
  if black:
    assert (found[:, :, 8:] == 0).all()
  if name == 'polarity':
    np.testing.assert_allclose(found, 1 - x, atol=1e-6)
  if name == 'flip_horizontal':
    np.testing.assert_array_equal(found, x[:, :, ::-1])


def test_a_crop_keeps_the_scale():
  x = images(16)
  found = np.asarray(changed(x, keys(16), options(crop=0.3)))
  whole = 0
  for image, result in zip(np.asarray(x), found, strict=True):
    rows, columns, _ = np.nonzero(result)
    rows = slice(rows.min(), rows.max() + 1)
    part = result[rows, : columns.max() + 1, 0]
    # A window of the original at its own rows, interpolated between columns.
    errors = []
    for left in np.linspace(0, 0.3 * 16, 481):
      place = np.arange(part.shape[1]) + left
      expected = [np.interp(place, np.arange(16), r) for r in image[rows, :, 0]]
      errors.append(np.abs(part - expected)[:, :-1].max())
    assert min(errors) < 0.02
    whole += part.shape[0]
  assert whole < 16 * 24 * 0.9


def test_what_an_option_draws_does_not_hang_on_the_others():
  x, k = images(), keys(6)
  plain = changed(x, k, options(gamma=0.5))
  more = changed(x, k, options(gamma=0.5, flip_vertical=1))
  np.testing.assert_array_equal(more, plain[:, ::-1])


def test_everything_at_once_stays_in_range_and_goes_by_the_key():
  o = config.default().augment
  for name, (value, _) in ALONE.items():
    o[name] = value if name != 'polarity' else 0.5
  run = jax.jit(lambda images, keys: augment.apply(images, keys, o))
  x, k = images(), keys(6)
  found = np.asarray(run(x, k))
  assert found.min() >= 0 and found.max() <= 1
  order = np.array([3, 0, 5, 1, 4, 2])
  np.testing.assert_allclose(run(x[order], k[order]), found[order], atol=1e-6)
