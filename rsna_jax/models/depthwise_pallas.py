"""The 3x3 depthwise convolution as Pallas kernels for NVIDIA GPUs.

It is bound by memory, so what stands before it is done as the image is read: a
factor and an offset of each channel (batch normalisation) and ReLU. Backwards
one kernel makes the gradients of all of these.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from rsna_jax.models import pallas_patch
from rsna_jax.models.pallas_patch import Patch

_SIZE = 3
# Of several, on an H200; going back, a program has all rows of its columns.
FORWARD = Patch(4, 4, 128)
BACKWARD = Patch(1, 4, 64)


def _before(value, mask, affine, relu: bool):
  """What the convolution sees of what was read."""
  value = value.astype(jnp.float32)
  if affine is not None:
    value = value * affine[0] + affine[1]
  if relu:
    # Triton's maximum takes the other operand where one is no number.
    value = jnp.where(value < 0, 0, value)
  return value if affine is None else jnp.where(mask, value, 0)


def _taps(vectors, ref) -> list[list[jax.Array]]:
  return [
    [vectors.load(ref, i * _SIZE + j) for j in range(_SIZE)]
    for i in range(_SIZE)
  ]


def _convolve_kernel(*refs, shape, patch, relu, affine):
  x_ref, kernel_ref, *vector_refs, y_ref = refs
  row, column, channels = patch.position(shape)
  vectors = pallas_patch.Vectors(shape[2], channels)
  affine = [vectors.load(ref) for ref in vector_refs] if affine else None
  taps = _taps(vectors, kernel_ref)
  place = pallas_patch.Place(shape, row, column, channels)
  nothing = jnp.zeros((patch.channels,), jnp.float32)
  sums = {
    (i, j): nothing for i in range(patch.rows) for j in range(patch.columns)
  }
  for i in range(-1, patch.rows + 1):
    for j in range(-1, patch.columns + 1):
      value = _before(place.load(x_ref, i, j), place.mask(i, j), affine, relu)
      for a in range(_SIZE):
        for b in range(_SIZE):
          to = i - a + 1, j - b + 1
          if to in sums:
            sums[to] = sums[to] + value * taps[a][b]
  for (i, j), value in sums.items():
    place.store(y_ref, i, j, value)


def _convolve(x, kernel, factor, offset, relu, interpret):
  shape, affine = x.shape[1:], factor is not None
  blocks = FORWARD.blocks(shape)
  (y,) = pallas_patch.call(
    functools.partial(
      _convolve_kernel, shape=shape, patch=FORWARD, relu=relu, affine=affine
    ),
    [x],
    [kernel, *([factor, offset] if affine else [])],
    [(shape, x.dtype)],
    blocks[0] * blocks[1] * blocks[2],
    FORWARD,
    interpret,
  )
  return y


def _gradients_kernel(*refs, shape, patch, relu, affine):
  """The gradient of x, and sums: of the taps, the factor and the offset.

  A program goes down all rows. What a row needs is read while the one before
  is worked on; two rows a turn, as a value that moves from one variable to
  another has to have arrived.
  """
  x_ref, g_ref, kernel_ref, *vector_refs, out_ref, sums_ref = refs
  _, column, channels = patch.position(shape)
  vectors = pallas_patch.Vectors(shape[2], channels)
  affine = [vectors.load(ref) for ref in vector_refs] if affine else None
  taps = _taps(vectors, kernel_ref)
  many = _SIZE**2 + (2 if affine else 0)
  near = range(-1, patch.columns + 1)

  def place_of(row):
    return pallas_patch.Place(shape, row, column, channels)

  def read_g(place, row):
    return tuple(place.load(g_ref, row, j) for j in near)

  def read_x(place, row):
    return tuple(place.load(x_ref, row, j) for j in range(patch.columns))

  def one_row(place, row, sums, g_rows, x_row):
    for j, raw in enumerate(x_row):
      mask = place.mask(row, j)
      value = _before(raw, mask, affine, relu)
      total = None
      for a in range(_SIZE):
        for b in range(_SIZE):
          # Of the pixel below, this one is above: taps in reverse.
          g = g_rows[2 - a][j + 2 - b].astype(jnp.float32)
          term = g * taps[a][b]
          total = term if total is None else total + term
          sums[a * _SIZE + b] += value * g
      if relu:
        total = jnp.where(value > 0, total, 0)
      if affine is not None:
        total = jnp.where(mask, total, 0)
        sums[-2] += total * raw.astype(jnp.float32)
        sums[-1] += total
        total = total * affine[0]
      place.store(out_ref, row, j, total)

  def two_rows(turn, carried):
    sums, above, at, below, x_row = carried
    sums, place = list(sums), place_of(turn * 2)
    next_below, next_x = read_g(place, 2), read_x(place, 1)
    one_row(place, 0, sums, (above, at, below), x_row)
    ahead = read_g(place, 3), read_x(place, 2)
    one_row(place, 1, sums, (at, below, next_below), next_x)
    return tuple(sums), below, next_below, *ahead

  top = place_of(0)
  nothing = jnp.zeros((patch.channels,), jnp.float32)
  sums, *_ = lax.fori_loop(
    0,
    pl.cdiv(shape[0], 2),
    two_rows,
    (
      (nothing,) * many,
      read_g(top, -1),
      read_g(top, 0),
      read_g(top, 1),
      read_x(top, 0),
    ),
  )
  for number, value in enumerate(sums):
    vectors.store(sums_ref, column // patch.columns * many + number, value)


def _gradients(x, g, kernel, factor, offset, relu, interpret):
  """The gradient of x, and (9 or 11, C) sums."""
  shape, affine = x.shape[1:], factor is not None
  _, columns, channels = BACKWARD.blocks(shape)
  many = _SIZE**2 + 2 * affine
  out, sums = pallas_patch.call(
    functools.partial(
      _gradients_kernel, shape=shape, patch=BACKWARD, relu=relu, affine=affine
    ),
    [x, g],
    [kernel, *([factor, offset] if affine else [])],
    [(shape, x.dtype), ((columns, many, shape[2]), jnp.float32)],
    columns * channels,
    BACKWARD,
    interpret,
  )
  return out, sums.sum((0, 1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def convolve(
  x: jax.Array,
  kernel: jax.Array,
  factor: jax.Array | None = None,
  offset: jax.Array | None = None,
  relu: bool = False,
  interpret: bool = False,
) -> jax.Array:
  """Depthwise at stride 1, padding SAME; sums are taken in float32.

  Args:
    x: (B, H, W, C), float32 or bfloat16.
    kernel: (3, 3, C).
    factor: (C,) float32, by which x is multiplied first; None: it is not.
    offset: (C,) float32, then added; given where `factor` is.
    relu: whether what is negative then becomes 0.
    interpret: runs it as plain operations, on any platform: for tests.

  Returns:
    (B, H, W, C) in the dtype of `x`.
  """
  return _convolve(x, kernel, factor, offset, relu, interpret)


def _forward(x, kernel, factor, offset, relu, interpret):
  y = _convolve(x, kernel, factor, offset, relu, interpret)
  return y, (x, kernel, factor, offset)


def _backward(relu, interpret, residuals, g):
  x, kernel, factor, offset = residuals
  to_x, sums = _gradients(x, g, kernel, factor, offset, relu, interpret)
  taps = sums[: _SIZE**2].reshape(kernel.shape).astype(kernel.dtype)
  if factor is None:
    return to_x, taps, None, None
  return to_x, taps, sums[-2], sums[-1]


convolve.defvjp(_forward, _backward)
