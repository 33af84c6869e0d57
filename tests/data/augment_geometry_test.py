"""Every map of coordinates against scipy or numpy, and the one resampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, ndimage

from rsna_jax import config
from rsna_jax.data.augment import geometry
from rsna_jax.options import augment as options_lib

_resample = jax.jit(geometry.resample)


def options(**fields):
  c = config.default().augment
  for name, value in fields.items():
    c[name] = value
  return c


@pytest.mark.parametrize(
  'matrix',
  [
    [[1, 0, 0], [0, 1, 0]],
    [[1, 0, 2.25], [0, 1, -3.5]],
    [[0.9, 0.3, -1.2], [-0.3, 0.9, 4.1]],
    [[-1, 0, 12], [0, 1.4, -3]],
    [[1, 0, 500], [0, 1, 0]],
    [[1, 0, -13], [0, 1, 0.5]],
  ],
)
def test_resampling_equals_scipy(matrix):
  matrix = np.array(matrix, np.float64)
  image = np.random.default_rng(0).random((13, 9)).astype(np.float32)
  expected = ndimage.affine_transform(
    np.pad(image, 2).astype(np.float64),
    matrix[:, :2],
    # Both images moved by the border of zeros that scipy needs to fade into.
    matrix[:, 2] + 2,
    output_shape=image.shape,
    order=1,
    mode='constant',
  )
  found = _resample(jnp.asarray(image), jnp.asarray(matrix, jnp.float32))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_resampling_at_any_places_equals_scipy():
  rng = np.random.default_rng(1)
  image = rng.random((13, 9)).astype(np.float32)
  places = rng.uniform(-4, 15, (2, 13, 9)).astype(np.float32)
  expected = ndimage.map_coordinates(
    np.pad(image, 2).astype(np.float64), places + 2, order=1
  )
  found = jax.jit(geometry.resample_at)(image, *places)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_matrix_is_a_product_of_plain_ones():
  height, width = 20, 12
  angle, zoom, lean = 0.3, 1.2, np.array([0.1, -0.2])
  turn = np.array(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  )
  flips = np.diag([-1.0, -1.0])
  shear = np.array([[1, lean[0]], [lean[1], 1]])
  linear = turn @ flips @ shear / zoom
  # A column is moved by lean[0] times its number: rows[0] + lean * columns.
  found = geometry.affine(
    (height, width),
    angle_deg=jnp.float32(np.rad2deg(angle)),
    zoom=jnp.float32(zoom),
    shift=jnp.array([0.25, -0.5]),
    flip=jnp.array(True),
    mirror=jnp.array(True),
    shear_deg=jnp.asarray(np.rad2deg(np.arctan(lean)), jnp.float32),
  )
  np.testing.assert_allclose(found[:, :2], linear, atol=1e-6)
  centre = np.array([(height - 1) / 2, (width - 1) / 2])
  moved = found[:, :2] @ centre + found[:, 2] - centre
  np.testing.assert_allclose(moved, [0.25 * height, -0.5 * width], atol=1e-4)


def test_another_box_is_stretched_over_the_whole_image():
  plain = jnp.eye(3)[:2]
  edges = np.array([0.1, -0.2, 0.25, 0.05], np.float32)
  found = geometry.through_box(plain, jnp.asarray(edges), (40, 20))
  # The image's own edges, half a pixel outside of the outermost centres.
  first = found @ np.array([-0.5, -0.5, 1])
  last = found @ np.array([39.5, 19.5, 1])
  np.testing.assert_allclose(first, [0.1 * 40 - 0.5, 0.25 * 20 - 0.5], 1e-5)
  np.testing.assert_allclose(last, [1.2 * 40 - 0.5, 0.95 * 20 - 0.5], 1e-5)


def test_the_weights_of_a_spline_are_scipys():
  size, cell = 23, 4.0
  found = geometry.spline(size, cell)
  knots = np.arange(-3, found.shape[1] + 1)
  expected = interpolate.BSpline.design_matrix(
    (np.arange(size) + 0.5) / cell, knots, 3
  ).toarray()
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_elastic_displacement_is_bounded_never_folds_and_spares_the_wall():
  o = options(elastic=options_lib.UNFOLDED, elastic_cells=3)
  move = jax.jit(jax.vmap(lambda key: geometry.elastic(key, (48, 24), o)))(
    jax.random.split(jax.random.key(0), 64)
  )
  move = np.asarray(move)
  assert move.shape == (64, 2, 48, 24)
  cell = 8
  assert 0.25 * cell < np.abs(move).max() <= options_lib.UNFOLDED * cell
  # At the wall, half a pixel left of the first centre, columns stay.
  assert np.abs(move[:, 1, :, 0]).max() < 0.001 < np.abs(move[:, 0, :, 0]).max()
  down, across = np.gradient(move, axis=(2, 3))
  jacobian = (1 + down[:, 0]) * (1 + across[:, 1]) - across[:, 0] * down[:, 1]
  assert jacobian.min() > 0


def test_a_grid_moves_lines_as_interpolation_between_its_knots():
  o = options(grid=0.6, grid_cells=5)
  key = jax.random.key(4)
  found = jax.jit(lambda key: geometry.grid(key, (40, 23), o))(key)
  draws = np.asarray(geometry.uniform(key, (2, 5)))
  for size, draw, move in zip((40, 23), draws, found, strict=True):
    widths = 1 + 0.6 * draw
    ends = np.concatenate([[0], np.cumsum(widths) / widths.sum()]) * size
    edge = np.arange(size) + 0.5
    expected = np.interp(edge, np.linspace(0, size, 6), ends) - edge
    np.testing.assert_allclose(move, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5
