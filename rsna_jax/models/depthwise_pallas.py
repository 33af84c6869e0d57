"""The 3x3 depthwise convolution as a Pallas kernel for GPUs.

Each program makes a tile of one row: it reads the nine shifted tiles, which the
cache has, and writes once. Nothing chooses it yet: its speed on a GPU is not
measured, only that it is right (in interpret mode) and that it is lowered.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from rsna_jax.models import normalise

# Powers of two, as Triton wants them: columns and channels of a tile.
_COLUMNS, _CHANNELS = 16, 64


def _tile(x_ref, kernel_ref, y_ref, *, shape):
  height, width, channels = shape
  image, row = pl.program_id(0) // height, pl.program_id(0) % height
  columns = pl.program_id(1) * _COLUMNS + jnp.arange(_COLUMNS)
  places = pl.program_id(2) * _CHANNELS + jnp.arange(_CHANNELS)
  there = places < channels
  total = jnp.zeros((_COLUMNS, _CHANNELS), jnp.float32)
  for i in range(3):
    for j in range(3):
      seen_row, seen = row + i - 1, columns + j - 1
      inside = (seen >= 0) & (seen < width) & (seen_row >= 0)
      inside = inside & (seen_row < height)
      value = plgpu.load(
        x_ref.at[
          image,
          jnp.clip(seen_row, 0, height - 1),
          jnp.clip(seen, 0, width - 1)[:, None],
          places[None, :],
        ],
        mask=inside[:, None] & there[None, :],
        other=0,
      )
      tap = plgpu.load(kernel_ref.at[i, j, places], mask=there, other=0)
      total += value.astype(jnp.float32) * tap.astype(jnp.float32)
  plgpu.store(
    y_ref.at[image, row, columns[:, None], places[None, :]],
    total.astype(y_ref.dtype),
    mask=(columns < width)[:, None] & there[None, :],
  )


def _run(x, kernel, interpret):
  count, height, width, channels = x.shape
  return pl.pallas_call(
    functools.partial(_tile, shape=(height, width, channels)),
    out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    grid=(
      count * height,
      pl.cdiv(width, _COLUMNS),
      pl.cdiv(channels, _CHANNELS),
    ),
    interpret=interpret,
    compiler_params=plgpu.CompilerParams(num_warps=4),
  )(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
  x: jax.Array, kernel: jax.Array, interpret: bool = False
) -> jax.Array:
  """Stride 1, padding SAME; sums are taken in float32.

  Args:
    x: (B, H, W, C), float32 or bfloat16.
    kernel: (3, 3, C) in the dtype of `x`.
    interpret: runs it as plain operations, on any platform: for tests.

  Returns:
    (B, H, W, C) in the dtype of `x`.
  """
  return _run(x, kernel, interpret)


def _forward(x, kernel, interpret):
  return _run(x, kernel, interpret), (x, kernel)


def _backward(interpret, residuals, g):
  x, kernel = residuals
  _, height, width, _ = x.shape
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  products = [
    padded[:, i : i + height, j : j + width] * g
    for i in range(3)
    for j in range(3)
  ]
  taps = jnp.stack(normalise.sums(products)).reshape(kernel.shape)
  return _run(g, kernel[::-1, ::-1], interpret), taps.astype(kernel.dtype)


convolve.defvjp(_forward, _backward)
