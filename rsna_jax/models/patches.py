"""Where a map is highest, and those patches of an image at full resolution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Grid(NamedTuple):
  """How the cells of a map lie on an image.

  Attributes:
    cells: (h, w) of the map.
    pixels: (H', W') that the map covers, from the image's first pixel on; more
      than the image has where it was padded.
    size: (H, W) of the image.
    patch: side of a patch, in pixels.
  """

  cells: tuple[int, int]
  pixels: tuple[int, int]
  size: tuple[int, int]
  patch: int

  @property
  def window(self) -> tuple[int, int]:
    """(rows, columns) of cells that come nearest to a patch."""
    rows, columns = (
      min(n, max(1, round(self.patch * n / length)))
      for n, length in zip(self.cells, self.pixels, strict=True)
    )
    return rows, columns


def choose(values: jax.Array, count: int, window: tuple[int, int]) -> jax.Array:
  """Windows of the largest sums, one after the other.

  What a window holds counts as 0 for those after it, so that later ones lie
  elsewhere, though they may overlap. Of equal sums the first counts, by rows.

  Args:
    values: (B, h, w), not negative.
    count: K of the windows.
    window: (rows, columns) of one, no more than (h, w).

  Returns:
    (B, K, 2) int32, the first row and column of each window.

  Source: Algorithm 1 of Shen et al. 2021, arXiv:2002.07613.
  """
  height, width = values.shape[1:]
  rows, columns = jnp.arange(height), jnp.arange(width)

  def step(left, _):
    sums = lax.reduce_window(
      left, 0.0, lax.add, (1, *window), (1, 1, 1), 'VALID'
    )
    best = jnp.argmax(sums.reshape(len(sums), -1), axis=1).astype(jnp.int32)
    found = jnp.stack(jnp.divmod(best, sums.shape[2]), axis=1)
    return jnp.where(inside(found, window, rows, columns), 0, left), found

  _, found = lax.scan(step, values.astype(jnp.float32), None, length=count)
  return found.swapaxes(0, 1)


def inside(first, window, rows, columns) -> jax.Array:
  """(..., 2) first cells of windows -> (..., h, w) bool, whether within."""
  top, left = first[..., 0, None, None], first[..., 1, None, None]
  rows = rows[:, None]
  within = (rows >= top) & (rows < top + window[0])
  return within & (columns >= left) & (columns < left + window[1])


def corners(first: jax.Array, grid: Grid) -> jax.Array:
  """Upper left pixels of patches about the middle of windows of cells.

  Args:
    first: (..., 2) int32, the first row and column of each window.
    grid: of map and image.

  Returns:
    (..., 2) int32; a patch that would reach over an edge is moved inside.
  """
  cells, pixels, size = (
    jnp.array(x, jnp.int32) for x in (grid.cells, grid.pixels, grid.size)
  )
  # In whole numbers, so that every platform rounds the same way.
  middle = (2 * first + jnp.array(grid.window, jnp.int32)) * pixels
  top = (middle - grid.patch * cells + cells) // (2 * cells)
  return jnp.clip(top, 0, size - grid.patch)


def cut(image: jax.Array, corner: jax.Array, size: int) -> jax.Array:
  """(B, H, W, C) and (B, K, 2) upper left pixels -> (B, K, size, size, C)."""

  def one(image, corner):
    start = (corner[0], corner[1], jnp.zeros((), corner.dtype))
    return lax.dynamic_slice(image, start, (size, size, image.shape[-1]))

  return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(image, corner)
