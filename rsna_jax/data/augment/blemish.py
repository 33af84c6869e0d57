"""What takes away of an image: its edges, its resolution, parts of it."""

import jax
import jax.numpy as jnp

from rsna_jax.data.augment import tone


def crop(image_HxW: jax.Array, cut: jax.Array) -> jax.Array:
  """Blackens what lies outside a smaller frame; the scale stays.

  Args:
    image_HxW: (H, W), already moved to the left by the left cut.
    cut: (4,) shares of top, bottom, left and right that are cut off.
  """
  height, width = image_HxW.shape
  row = (jnp.arange(height)[:, None] + 0.5) / height
  column = (jnp.arange(width) + 0.5) / width
  kept = (row >= cut[0]) & (row < 1 - cut[1]) & (column < 1 - cut[2] - cut[3])
  return jnp.where(kept, image_HxW, 0.0)


def downscale(image_HxW: jax.Array, factor: jax.Array) -> jax.Array:
  """The image as one with fewer pixels shows it, at its old size.

  Each axis is averaged over a whole number of larger pixels and interpolated
  back, as a product with a matrix, whose size does not depend on the factor.

  Args:
    image_HxW: (H, W) in [0, 1].
    factor: () at least 1: how many times larger the pixels are.
  """
  height, width = image_HxW.shape
  exact = jax.lax.Precision.HIGHEST
  rows, columns = coarsen(height, factor), coarsen(width, factor)
  found = jnp.dot(rows, image_HxW, precision=exact)
  found = jnp.dot(found, columns.T, precision=exact)
  # Weights of a row add up to 1 but for rounding.
  return jnp.clip(found, 0.0, 1.0)


def coarsen(size: int, factor: jax.Array) -> jax.Array:
  """(size, size) matrix that averages over larger pixels and goes back."""
  count = jnp.maximum(jnp.round(size / factor), 1.0)
  pixel = size / count
  place = (jnp.arange(size) + 0.5) / pixel - 0.5
  place = jnp.clip(place, 0.0, count - 1)
  left = jnp.floor(place)
  part = place - left

  def mean_over(which):
    """(size, size) shares of fine pixels in the coarse pixel of each row."""
    start = (which * pixel)[:, None]
    fine = jnp.arange(size)
    common = jnp.minimum(fine + 1, start + pixel) - jnp.maximum(fine, start)
    return jnp.clip(common, 0.0, 1.0) / pixel

  right = jnp.minimum(left + 1, count - 1)
  part = part[:, None]
  return mean_over(left) * (1 - part) + mean_over(right) * part


def noise(image_HxW: jax.Array, added: jax.Array) -> jax.Array:
  """Adds noise that fades out where the image is dark.

  Args:
    image_HxW: (H, W) in [0, 1].
    added: (H, W), where white is 1.
  """
  return jnp.clip(image_HxW + added * tone.light(image_HxW), 0.0, 1.0)


def cutout(
  image_HxW: jax.Array, boxes: jax.Array, count: jax.Array, size: float
) -> jax.Array:
  """Blackens rectangles (coarse dropout).

  Args:
    image_HxW: (H, W).
    boxes: (N, 4) in [0, 1): place of the centre, height and width.
    count: () how many of them.
    size: largest share of height and width; the smallest is half of it.
  """
  height, width = image_HxW.shape
  row = (jnp.arange(height)[:, None] + 0.5) / height
  column = (jnp.arange(width) + 0.5) / width
  hidden = jnp.zeros((height, width), bool)
  for i in range(boxes.shape[0]):
    half = size * (1 + boxes[i, 2:]) / 4
    inside = (jnp.abs(row - boxes[i, 0]) < half[0]) & (
      jnp.abs(column - boxes[i, 1]) < half[1]
    )
    hidden = hidden | (inside & (i < count))
  return jnp.where(hidden, 0.0, image_HxW)
