"""Maps from grey value to grey value that leave black black."""

import jax
import jax.numpy as jnp

SEGMENTS = 6  # of a tone curve
# Below this grey value, brightness, contrast and noise fade out.
_DARK = 0.1


def light(image_HxW: jax.Array) -> jax.Array:
  """1 where an image is not dark, 0 where it is black, and between."""
  return jnp.clip(image_HxW / _DARK, 0.0, 1.0)


def contrast_and_brightness(
  image_HxW: jax.Array, contrast: jax.Array, brightness: jax.Array
) -> jax.Array:
  """Contrast about the mean of what is not dark, then brightness.

  Args:
    image_HxW: (H, W) in [0, 1].
    contrast: () relative change.
    brightness: () that is added.
  """
  fade = light(image_HxW)
  mean = jnp.sum(image_HxW * fade) / jnp.maximum(jnp.sum(fade), 1e-6)
  change = (image_HxW - mean) * contrast
  change = change + brightness
  return jnp.clip(image_HxW + change * fade, 0.0, 1.0)


def monotone(values: jax.Array, slopes: jax.Array) -> jax.Array:
  """A rising curve through (0, 0) and (1, 1) of straight pieces.

  Args:
    values: any shape, in [0, 1].
    slopes: (K,) positive, of K pieces of equal width, up to a common factor.
  """
  count = slopes.shape[0]
  rises = slopes / jnp.sum(slopes)
  # A sum of ramps, since a table would be a gather.
  found = sum(
    rises[i] * jnp.clip(values * count - i, 0.0, 1.0) for i in range(count)
  )
  return jnp.clip(found, 0.0, 1.0)
