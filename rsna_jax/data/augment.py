"""Random changes of training images, compiled into the training step.

Each image has a key of its own, so its change does not depend on the batch or
on the device that it lands on. All geometry is one bilinear resampling.
"""

import jax
import jax.numpy as jnp
import ml_collections

# Below this grey value, brightness and contrast fade out: black stays black.
_DARK = 0.1


def apply(
  images: jax.Array, keys: jax.Array, options: ml_collections.ConfigDict
) -> jax.Array:
  """Flips, turns, scales, shifts, brightens and stretches each image.

  Args:
    images: (B, H, W, 1) floats in [0, 1].
    keys: (B,) PRNG keys.
    options: `config.augment`; what is 0 is left out, and with all at 0 the
      images come back as they are.

  Returns:
    (B, H, W, 1) float32 in [0, 1]; 0 where nothing was before.
  """
  geometry = options.rotation_deg or options.scale or options.shift
  tone = options.brightness or options.contrast
  if not (geometry or tone or options.flip_vertical) or images.size == 0:
    return images

  def one(image_HxW, key):
    # One draw for all: each call of a generator is slow to compile.
    draws = jax.random.uniform(key, (7,), minval=-1.0, maxval=1.0)
    flip = (draws[0] + 1) / 2 < options.flip_vertical
    if geometry:
      matrix = _affine(draws[1:5], image_HxW.shape, flip, options)
      image_HxW = resample(image_HxW, matrix)
    elif options.flip_vertical:
      image_HxW = jnp.where(flip, image_HxW[::-1], image_HxW)
    return _tone(draws[5:], image_HxW, options) if tone else image_HxW

  return jax.vmap(one)(images[..., 0].astype(jnp.float32), keys)[..., None]


def resample(image_HxW: jax.Array, matrix: jax.Array) -> jax.Array:
  """Bilinear resampling of one image; outside it lies 0.

  Args:
    image_HxW: (H, W) float32.
    matrix: (2, 3), takes (row, column) of the result to the image's; pixel
      centres are at whole numbers.
  """
  height, width = image_HxW.shape
  row = jnp.arange(height, dtype=jnp.float32)[:, None]
  column = jnp.arange(width, dtype=jnp.float32)[None, :]
  y = matrix[0, 0] * row + matrix[0, 1] * column + matrix[0, 2]
  x = matrix[1, 0] * row + matrix[1, 1] * column + matrix[1, 2]
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


def _affine(draws, shape, flip, options) -> jax.Array:
  """(2, 3) matrix of `resample`: about the centre, then shifted."""
  height, width = shape
  angle = jnp.deg2rad(draws[0] * options.rotation_deg)
  zoom = 1 / (1 + draws[1] * options.scale)
  cos, sin = jnp.cos(angle) * zoom, jnp.sin(angle) * zoom
  flip_rows = jnp.where(flip, -1.0, 1.0)
  linear = jnp.stack(
    [jnp.stack([cos * flip_rows, -sin]), jnp.stack([sin * flip_rows, cos])]
  )
  centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
  shift = draws[2:] * options.shift * jnp.array([height, width])
  offset = centre - linear[:, 0] * centre[0] - linear[:, 1] * centre[1]
  return jnp.concatenate([linear, (offset + shift)[:, None]], axis=1)


def _tone(draws, image_HxW, options) -> jax.Array:
  """Contrast about the mean of what is not dark, then brightness."""
  light = jnp.clip(image_HxW / _DARK, 0.0, 1.0)
  mean = jnp.sum(image_HxW * light) / jnp.maximum(jnp.sum(light), 1e-6)
  change = (image_HxW - mean) * draws[0] * options.contrast
  change = change + draws[1] * options.brightness
  return jnp.clip(image_HxW + change * light, 0.0, 1.0)
