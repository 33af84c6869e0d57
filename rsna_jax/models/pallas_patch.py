"""What the Pallas kernels share: the patch of an image that a program makes.

One warp makes a small patch for a run of channels. A pixel is one vector of
channels, so its neighbours are other vectors of the same program: within a
patch none is read twice, and whether a pixel lies in the image is one scalar.
Sums over images are written by each program and added then, so that they do not
depend on the order in which programs end.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from rsna_jax.models import varying


class Patch(NamedTuple):
  """Rows, columns and channels of a program, and in how many warps.

  Channels are a power of two, as Triton wants them.
  """

  rows: int
  columns: int
  channels: int
  warps: int = 1

  def blocks(self, shape: Sequence[int]) -> tuple[int, int, int]:
    """Patches along each axis of an (H, W, C) image."""
    return tuple(pl.cdiv(n, size) for n, size in zip(shape, self, strict=False))

  def position(self, shape: Sequence[int]) -> tuple[int, int, jax.Array]:
    """(first row, first column, channels) of the program that is running."""
    _, columns, channels = self.blocks(shape)
    program = pl.program_id(0)
    return (
      program // (channels * columns) * self.rows,
      program // channels % columns * self.columns,
      program % channels * self.channels + jnp.arange(self.channels),
    )


class Place:
  """Pixels of an (H, W, C) image around a program's patch.

  Args:
    shape: of the image.
    row: of the patch's first pixel; it may lie outside.
    column: likewise.
    channels: which ones the program has.
  """

  def __init__(self, shape, row, column, channels: jax.Array):
    self._height, self._width, self._count = shape
    self._row, self._column = row, column
    self._all = not self._count % channels.size
    self._there = channels < self._count
    self._first = (row * self._width + column) * self._count + channels
    self._inside: dict = {}

  def mask(self, row: int, column: int) -> jax.Array:
    """Of the channels of a pixel, counted from the patch's first."""
    for name, index, first, size in (
      ('row', row, self._row, self._height),
      ('column', column, self._column, self._width),
    ):
      if (name, index) not in self._inside:
        at = first + index
        self._inside[name, index] = (at >= 0) & (at < size)
    inside = self._inside['row', row] & self._inside['column', column]
    if self._all:
      return jnp.full(self._there.shape, inside)
    return self._there & inside

  def _at(self, row: int, column: int) -> jax.Array:
    return self._first + (row * self._width + column) * self._count

  def load(self, ref, row: int, column: int) -> jax.Array:
    """Values of a pixel; 0 outside."""
    return plgpu.load(
      ref.at[self._at(row, column)], mask=self.mask(row, column), other=0
    )

  def store(self, ref, row: int, column: int, value: jax.Array) -> None:
    """Writes a pixel, unless it lies outside."""
    plgpu.store(
      ref.at[self._at(row, column)],
      value.astype(ref.dtype),
      mask=self.mask(row, column),
    )


class Vectors:
  """Vectors of the channels of a program, in arrays of several such."""

  def __init__(self, count: int, channels: jax.Array):
    self._count, self._channels = count, channels
    self._mask = channels < count

  def load(self, ref, number: int = 0) -> jax.Array:
    """The vector `number`, in float32."""
    value = plgpu.load(
      ref.at[number * self._count + self._channels], mask=self._mask, other=0
    )
    return value.astype(jnp.float32)

  def store(self, ref, number, value: jax.Array) -> None:
    """Writes the vector `number`."""
    plgpu.store(
      ref.at[number * self._count + self._channels], value, mask=self._mask
    )


def call(
  kernel: Callable,
  images: Sequence[jax.Array],
  vectors: Sequence[jax.Array],
  out: Sequence[tuple[tuple[int, ...], jax.typing.DTypeLike]],
  blocks: int,
  patch: Patch,
  interpret: bool,
) -> list[jax.Array]:
  """Runs a kernel on `blocks` programs for each image.

  Args:
    kernel: is given references to flat arrays: each of `images` and of `out`,
      of one image, and each of `vectors`.
    images: (B, ...) arrays.
    vectors: arrays that all images share.
    out: shape of what is made for an image, and dtype.
    blocks: programs of an image.
    patch: of the programs.
    interpret: runs it as plain operations, on any platform.

  Returns:
    (B, ...) arrays.
  """
  count = images[0].shape[0]

  def flat(size):
    return pl.BlockSpec((None, size), lambda block, image: (image, 0))

  sizes = [math.prod(shape) for shape, _ in out]
  found = pl.pallas_call(
    kernel,
    out_shape=[
      varying.struct((count, size), dtype, images[0])
      for size, (_, dtype) in zip(sizes, out, strict=True)
    ],
    in_specs=[
      *(flat(math.prod(x.shape[1:])) for x in images),
      *(pl.BlockSpec((x.size,), lambda block, image: (0,)) for x in vectors),
    ],
    out_specs=[flat(size) for size in sizes],
    grid=(blocks, count),
    interpret=interpret,
    compiler_params=plgpu.CompilerParams(num_warps=patch.warps, num_stages=1),
  )(*(x.reshape(count, -1) for x in images), *(x.reshape(-1) for x in vectors))
  return [
    x.reshape(count, *shape) for x, (shape, _) in zip(found, out, strict=True)
  ]
