"""Where the pixels of a changed image come from, and the one resampling.

Coordinates are of pixel centres, (row, column) from 0; what maps a result to
its source composes from left to right, so only the last step interpolates.
"""

import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rsna_jax.data.augment import tone


def resample(image_HxW: jax.Array, matrix: jax.Array) -> jax.Array:
  """Bilinear resampling of one image by a matrix; outside it lies 0.

  Args:
    image_HxW: (H, W) float32.
    matrix: (2, 3), takes (row, column) of the result to the image's; pixel
      centres are at whole numbers.
  """
  return resample_at(image_HxW, *coordinates(matrix, image_HxW.shape))


def coordinates(
  matrix: jax.Array, shape: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  """Rows and columns, (H, W) each, that a (2, 3) matrix takes pixels to."""
  row = jnp.arange(shape[0], dtype=jnp.float32)[:, None]
  column = jnp.arange(shape[1], dtype=jnp.float32)[None, :]
  y = matrix[0, 0] * row + matrix[0, 1] * column + matrix[0, 2]
  x = matrix[1, 0] * row + matrix[1, 1] * column + matrix[1, 2]
  return y, x


def resample_at(image_HxW: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
  """Bilinear values of an image at given places; outside it lies 0.

  Args:
    image_HxW: (H, W) float32.
    y: (H, W) float32 rows, for each pixel of the result.
    x: (H, W) float32 columns.
  """
  height, width = image_HxW.shape
  # A border of zeros on each side: what points outside is sent there.
  padded = jnp.pad(image_HxW, ((1, 2), (1, 2))).ravel()
  y = jnp.clip(y + 1, 0, height + 1)
  x = jnp.clip(x + 1, 0, width + 1)
  top, left = jnp.floor(y), jnp.floor(x)
  y, x = y - top, x - left
  first = top.astype(jnp.int32) * (width + 3) + left.astype(jnp.int32)

  def at(offset):
    return padded.at[first + offset].get(mode='promise_in_bounds')

  upper = at(0) * (1 - x) + at(1) * x
  lower = at(width + 3) * (1 - x) + at(width + 4) * x
  return upper * (1 - y) + lower * y


def affine(
  shape: tuple[int, int],
  *,
  angle_deg: jax.Array,
  zoom: jax.Array,
  shift: jax.Array,
  flip: jax.Array,
  mirror: jax.Array | None = None,
  shear_deg: jax.Array | None = None,
) -> jax.Array:
  """The (2, 3) matrix of `resample`: about the centre, then shifted.

  Args:
    shape: (H, W).
    angle_deg: () the turn.
    zoom: () factor by which what is seen grows.
    shift: (2,) shares of height and width.
    flip: () bool, upside down.
    mirror: () bool, left to right; None: not.
    shear_deg: (2,) angles by which columns and rows lean; None: not.
  """
  height, width = shape
  angle = jnp.deg2rad(angle_deg)
  cos, sin = jnp.cos(angle) * (1 / zoom), jnp.sin(angle) * (1 / zoom)
  flip_rows = jnp.where(flip, -1.0, 1.0)
  linear = jnp.stack(
    [jnp.stack([cos * flip_rows, -sin]), jnp.stack([sin * flip_rows, cos])]
  )
  if mirror is not None:
    linear = linear * jnp.stack([1.0, jnp.where(mirror, -1.0, 1.0)])
  if shear_deg is not None:
    lean = jnp.tan(jnp.deg2rad(shear_deg))
    rows, columns = linear[:, 0], linear[:, 1]
    linear = jnp.stack(
      [rows + lean[1] * columns, columns + lean[0] * rows], axis=1
    )
  centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
  moved = shift * jnp.array([height, width])
  offset = centre - linear[:, 0] * centre[0] - linear[:, 1] * centre[1]
  return jnp.concatenate([linear, (offset + moved)[:, None]], axis=1)


def through_box(
  matrix: jax.Array, edges: jax.Array, shape: tuple[int, int]
) -> jax.Array:
  """The matrix after which another crop box is shown: each axis is stretched.

  Args:
    matrix: (2, 3) of `resample`.
    edges: (4,) how far top, bottom, left and right edge of the box move
      inwards, as shares of height and width; outwards where negative.
    shape: (H, W).
  """
  size = jnp.array(shape, jnp.float32)
  start, end = edges[0::2], edges[1::2]
  factor = 1 - start - end
  # Edges lie half a pixel before the first centre and behind the last.
  offset = start * size + factor / 2 - 0.5
  shown = matrix[:, :2] * factor
  return jnp.concatenate(
    [shown, (matrix[:, 2] + matrix[:, :2] @ offset)[:, None]], axis=1
  )


def elastic(
  key: jax.Array, shape: tuple[int, int], options: ml_collections.ConfigDict
) -> jax.Array:
  """A smooth random displacement, (2, H, W) pixels of row and column.

  A cubic B-spline over a lattice of random vectors, of which
  `options.elastic_cells` cells span the shorter side. Vectors shorter than
  0.48 of a cell along each axis cannot fold the image (Choi and Lee,
  "Injectivity conditions of 2D and 3D uniform cubic B-spline functions",
  2000). The chest wall, at the left edge, stays where it is.
  """
  cell = min(shape) / options.elastic_cells
  rows, columns = (spline(size, cell) for size in shape)
  vectors = uniform(key, (2, rows.shape[1], columns.shape[1]))
  # The left edge is within reach of the first three.
  vectors = vectors.at[1, :, :3].set(0.0) * (options.elastic * cell)
  exact = jax.lax.Precision.HIGHEST
  found = jnp.dot(vectors, columns.T, precision=exact)
  return jnp.stack([jnp.dot(rows, x, precision=exact) for x in found])


def spline(size: int, cell: float) -> np.ndarray:
  """(size, M) float32 weights of a cubic B-spline at each pixel's centre.

  Knots are a `cell` apart from the image's edge on; the M control points begin
  one cell before it.
  """
  place = (np.arange(size) + 0.5) / cell
  count = int(np.ceil(size / cell)) + 3
  distance = np.abs(place[:, None] - (np.arange(count) - 1))
  near = 2 / 3 - distance**2 + distance**3 / 2
  far = np.maximum(2 - distance, 0) ** 3 / 6
  return np.where(distance < 1, near, far).astype(np.float32)


def grid(
  key: jax.Array, shape: tuple[int, int], options: ml_collections.ConfigDict
) -> tuple[jax.Array, jax.Array]:
  """Displacements of rows (H,) and of columns (W,), in pixels.

  Each axis is divided into `options.grid_cells`, whose widths change by a
  random share; the image's edges stay where they are.
  """
  cells = options.grid_cells
  draws = uniform(key, (2, cells))
  found = []
  for size, draw in zip(shape, draws, strict=True):
    edge = (jnp.arange(size) + 0.5) / size
    moved = tone.monotone(edge, 1 + draw * options.grid)
    found.append((moved - edge) * size)
  return found[0], found[1]


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Numbers in [-1, 1); as one row, which compiles several times faster."""
  draws = jax.random.uniform(key, (math.prod(shape),), minval=-1.0, maxval=1.0)
  return draws.reshape(shape)
