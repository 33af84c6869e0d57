"""3x3 maximum pooling at stride 2 as Pallas kernels for NVIDIA GPUs.

A factor and an offset of each channel (batch normalisation) are done as the
image is read. The place of each maximum is kept as a byte, so that going back
every pixel looks at the few windows that it lies in.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from rsna_jax.models import pallas_patch
from rsna_jax.models.pallas_patch import Patch

SIZE, STRIDE = 3, 2
FORWARD = Patch(2, 4, 128)
# Rows and columns of pixels: even, so that windows lie alike in every patch.
BACKWARD = Patch(2, 2, 128)


def takes(shape: tuple[int, ...], size: int, stride: int, pads) -> bool:
  """Whether `max_pool` does this of (B, H, W, C) values."""
  return (
    (size, stride) == (SIZE, STRIDE)
    and all(n in (0, 1) for pad in pads for n in pad)
    # Pallas counts bytes, not places, to choose 64-bit offsets.
    and shape[0] * math.prod(_out_shape(shape[1:], pads)) < 2**31
  )


def _out_shape(shape, pads):
  height, width = (
    (n + sum(pad) - SIZE) // STRIDE + 1
    for n, pad in zip(shape[:2], pads, strict=True)
  )
  return height, width, shape[2]


def _padded(shape, pads):
  """Pixels from the first window's first on."""
  return shape[0] + pads[0][0], shape[1] + pads[1][0], shape[2]


def _pool_kernel(*refs, shape, pads, patch, affine):
  x_ref, *vector_refs, y_ref, place_ref = refs
  out_shape = _out_shape(shape, pads)
  row, column, channels = patch.position(out_shape)
  vectors = pallas_patch.Vectors(shape[2], channels)
  affine = [vectors.load(ref) for ref in vector_refs] if affine else None
  pixels = pallas_patch.Place(
    shape,
    row * STRIDE - pads[0][0],
    column * STRIDE - pads[1][0],
    channels,
  )
  seen = {}
  for i in range(patch.rows * STRIDE + 1):
    for j in range(patch.columns * STRIDE + 1):
      value = pixels.load(x_ref, i, j).astype(jnp.float32)
      if affine is not None:
        value = value * affine[0] + affine[1]
      seen[i, j] = jnp.where(pixels.mask(i, j), value, -jnp.inf)
  windows = pallas_patch.Place(out_shape, row, column, channels)
  for i in range(patch.rows):
    for j in range(patch.columns):
      best = seen[i * STRIDE, j * STRIDE]
      place = jnp.zeros(best.shape, jnp.int32)
      for number in range(1, SIZE**2):
        value = seen[i * STRIDE + number // SIZE, j * STRIDE + number % SIZE]
        # Triton's maximum would leave out what is no number.
        larger = (value > best) | (value != value)
        place = jnp.where(larger, number, place)
        best = jnp.where(larger, value, best)
      windows.store(y_ref, i, j, best)
      windows.store(place_ref, i, j, place)


def _pool(x, factor, offset, pads, interpret):
  shape, affine = x.shape[1:], factor is not None
  out_shape = _out_shape(shape, pads)
  blocks = FORWARD.blocks(out_shape)
  return pallas_patch.call(
    functools.partial(
      _pool_kernel, shape=shape, pads=pads, patch=FORWARD, affine=affine
    ),
    [x],
    [factor, offset] if affine else [],
    [(out_shape, x.dtype), (out_shape, jnp.int8)],
    blocks[0] * blocks[1] * blocks[2],
    FORWARD,
    interpret,
  )


def _windows(at: int) -> list[tuple[int, int]]:
  """(window, place in it) of a pixel, from a patch's first window."""
  return (
    [(at // STRIDE - 1, 2), (at // STRIDE, 0)]
    if at % 2 == 0
    else [(at // STRIDE, 1)]
  )


def _gradients_kernel(*refs, shape, pads, patch, affine):
  """The gradient of x, and of a factor and an offset: sums over pixels."""
  if affine:
    g_ref, place_ref, x_ref, factor_ref, to_x_ref, sums_ref = refs
  else:
    g_ref, place_ref, to_x_ref = refs
  out_shape = _out_shape(shape, pads)
  padded = _padded(shape, pads)
  first_row, column, channels = patch.position(padded)
  vectors = pallas_patch.Vectors(shape[2], channels)
  factor = vectors.load(factor_ref) if affine else None

  def rows(block, sums):
    row = block * patch.rows
    windows = pallas_patch.Place(
      out_shape, row // STRIDE, column // STRIDE, channels
    )
    pixels = pallas_patch.Place(
      shape, row - pads[0][0], column - pads[1][0], channels
    )
    g, place = {}, {}
    for i in range(-1, patch.rows // STRIDE):
      for j in range(-1, patch.columns // STRIDE):
        g[i, j] = windows.load(g_ref, i, j).astype(jnp.float32)
        place[i, j] = windows.load(place_ref, i, j).astype(jnp.int32)
    by_x, by_one = sums
    for i in range(patch.rows):
      for j in range(patch.columns):
        total = jnp.zeros((patch.channels,), jnp.float32)
        for high, a in _windows(i):
          for wide, b in _windows(j):
            total += jnp.where(
              place[high, wide] == a * SIZE + b, g[high, wide], 0
            )
        if affine:
          total = jnp.where(pixels.mask(i, j), total, 0)
          by_x += total * pixels.load(x_ref, i, j).astype(jnp.float32)
          by_one += total
          total = total * factor
        pixels.store(to_x_ref, i, j, total)
    return by_x, by_one

  nothing = jnp.zeros((patch.channels,), jnp.float32)
  if not affine:
    rows(first_row // patch.rows, (nothing, nothing))
    return
  # Of an affine one a program has all rows, so that its sums are few.
  sums = lax.fori_loop(0, patch.blocks(padded)[0], rows, (nothing, nothing))
  for number, value in enumerate(sums):
    vectors.store(sums_ref, column // patch.columns * 2 + number, value)


def _gradients(x, place, g, factor, pads, interpret):
  """The gradient of x, and (2, C) sums of it times x, and of it."""
  shape, patch, affine = x.shape[1:], BACKWARD, factor is not None
  rows, columns, channels = patch.blocks(_padded(shape, pads))
  found = pallas_patch.call(
    functools.partial(
      _gradients_kernel, shape=shape, pads=pads, patch=patch, affine=affine
    ),
    [g, place, *([x] if affine else [])],
    [factor] if affine else [],
    [
      (shape, x.dtype),
      *([((columns, 2, shape[2]), jnp.float32)] if affine else []),
    ],
    (1 if affine else rows) * columns * channels,
    patch,
    interpret,
  )
  return found[0], found[1].sum((0, 1)) if affine else None


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def max_pool(
  x: jax.Array,
  factor: jax.Array | None,
  offset: jax.Array | None,
  pads: tuple[tuple[int, int], tuple[int, int]],
  interpret: bool = False,
) -> jax.Array:
  """Maximum over 3x3 windows at stride 2.

  Where values tie, the gradient goes to the first of them, row by row.

  Args:
    x: (B, H, W, C), float32 or bfloat16.
    factor: (C,) float32, by which x is multiplied first; None: it is not.
    offset: (C,) float32, then added; given where `factor` is.
    pads: (before, after) of rows and of columns, with -inf; each 0 or 1.
    interpret: runs it as plain operations, on any platform: for tests.
  """
  return _pool(x, factor, offset, pads, interpret)[0]


def _forward(x, factor, offset, pads, interpret):
  y, place = _pool(x, factor, offset, pads, interpret)
  return y, (x, place, factor)


def _backward(pads, interpret, residuals, g):
  x, place, factor = residuals
  to_x, sums = _gradients(x, place, g, factor, pads, interpret)
  if factor is None:
    return to_x, None, None
  return to_x, sums[0], sums[1]


max_pool.defvjp(_forward, _backward)
