"""Maximum pooling in a form that is fast on CPUs and on GPUs.

The place of each maximum is kept as a byte. The gradient then is read by every
pixel from the few windows that it lies in: no scatter, and no comparison of all
values again. It goes to the first of equal values, as that of lax does.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Places in a window are numbered in a byte.
LARGEST = 11


def plain(
  x: jax.Array, size: int, stride: int, pads: tuple[tuple[int, int], ...]
) -> jax.Array:
  """As `fast`, by the operation of lax."""
  return lax.reduce_window(
    x,
    # Not traced under jit: of a constant alone lax knows that this is a
    # maximum, which has a gradient.
    np.asarray(-np.inf, x.dtype),
    lax.max,
    (1, size, size, 1),
    (1, stride, stride, 1),
    ((0, 0), *pads, (0, 0)),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def fast(
  x: jax.Array, size: int, stride: int, pads: tuple[tuple[int, int], ...]
) -> jax.Array:
  """Maximum over size x size windows.

  Args:
    x: (B, H, W, C).
    size: of the window, at most `LARGEST`.
    stride: of the window.
    pads: (before, after) of rows and of columns, with -inf.
  """
  return _maximum(x, size, stride, pads)[0]


def _maximum(x, size, stride, pads):
  """The maxima, and the place in its window of each."""
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
  height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
  best = place = None
  for i in range(size):
    rows = x[:, i : i + stride * (height - 1) + 1 : stride]
    for j in range(size):
      value = rows[:, :, j : j + stride * (width - 1) + 1 : stride]
      if best is None:
        best, place = value, jnp.zeros(value.shape, jnp.int8)
      else:
        place = jnp.where(value > best, jnp.int8(i * size + j), place)
        best = jnp.maximum(best, value)
  return best, place


def _forward(x, size, stride, pads):
  best, place = _maximum(x, size, stride, pads)
  return best, (place, x.shape[1:3])


def _backward(size, stride, pads, residuals, g):
  place, shape = residuals
  count, height, width, channels = g.shape
  # Padded rows and columns, counted in strides, rounded up.
  high, wide = (
    -(-(n + sum(pad)) // stride) for n, pad in zip(shape, pads, strict=True)
  )
  before = (size - 1) // stride
  around = (
    (0, 0),
    (before, max(0, high - height)),
    (before, max(0, wide - width)),
    (0, 0),
  )
  g, place = jnp.pad(g, around), jnp.pad(place, around, constant_values=-1)

  def seen(row, column):
    """The gradient of the pixels at this row and column of each stride."""
    total = jnp.zeros((), jnp.float32)
    for i in range(row, size, stride):
      for j in range(column, size, stride):
        top, left = before - i // stride, before - j // stride
        here = (
          slice(None),
          slice(top, top + high),
          slice(left, left + wide),
        )
        mine = place[here] == i * size + j
        total += jnp.where(mine, g[here], 0).astype(jnp.float32)
    if not total.ndim:  # pixels that no window looks at
      total = jnp.zeros((count, high, wide, channels), jnp.float32)
    return total.astype(g.dtype)

  parts = [
    jnp.stack([seen(i, j) for j in range(stride)], axis=3)
    for i in range(stride)
  ]
  whole = jnp.stack(parts, axis=2)
  whole = whole.reshape(count, high * stride, wide * stride, channels)
  (top, _), (left, _) = pads
  return (whole[:, top : top + shape[0], left : left + shape[1]],)


fast.defvjp(_forward, _backward)
