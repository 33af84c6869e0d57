"""From a mammogram to the one standard image that training and serving share.

Building a data set, training, predicting and serving call `standardise` alike,
so they can never differ; the map back to the original pixels comes with it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np

from rsna_jax import errors
from rsna_jax.data import breast, grey, mammogram, resize

# Raised whenever the same file and spec give other pixels than before.
VERSION = 1
MIN_SIDE = 64  # pixels; a smaller picture is no mammogram
MAX_ASPECT = 8.0
_SAMPLE = 512  # pixels of the longer side that are looked at to find things


class PreprocessError(errors.InputError):
  """A picture cannot be made a standard image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
  """How standard images are made.

  Attributes:
    size: height and width in pixels.
    bits: 8 or 16, of a pixel.
    window: 'full', 'linear' or 'none': see `grey.presentation`.
  """

  size: tuple[int, int] = (512, 256)
  bits: int = 8
  window: str = 'full'

  def __post_init__(self):
    size = tuple(self.size) if isinstance(self.size, list) else self.size
    object.__setattr__(self, 'size', size)
    if (
      not isinstance(size, tuple)
      or len(size) != 2
      or not all(isinstance(n, int) and 16 <= n <= 8192 for n in size)
    ):
      raise PreprocessError(
        f'size={size}: two numbers from 16 to 8192, height and width'
      )
    if self.bits not in (8, 16):
      raise PreprocessError(f'bits={self.bits!r}: choose 8 or 16')
    if self.window not in grey.WINDOWS:
      raise PreprocessError(
        f'window={self.window!r}: choose {", ".join(grey.WINDOWS)}'
      )

  def name(self) -> str:
    """A short name, such as '512x256' or '1024x512_16bit_linear'."""
    parts = [f'{self.size[0]}x{self.size[1]}']
    if self.bits != 8:
      parts.append(f'{self.bits}bit')
    if self.window != 'full':
      parts.append(f'{self.window}')
    return '_'.join(parts)

  def to_json(self) -> dict[str, Any]:
    """The fields, and the version of the code, as plain JSON values."""
    return {
      'version': VERSION,
      'size': list(self.size),
      'bits': self.bits,
      'window': self.window,
    }

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> 'Spec':
    """The spec that `to_json` wrote.

    Raises:
      PreprocessError: another version, an unknown field or an unusable value.
    """
    value = dict(value)
    version = value.pop('version', VERSION)
    if version != VERSION:
      raise PreprocessError(
        f'preprocessing version {version!r}, this is {VERSION}: prepare the '
        'data again'
      )
    unknown = set(value) - {field.name for field in dataclasses.fields(cls)}
    if unknown:
      raise PreprocessError(
        f'preprocessing has unknown fields {", ".join(sorted(unknown))}'
      )
    try:
      return cls(**value)
    except TypeError as error:
      raise PreprocessError(f'preprocessing: {error}') from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandardImage:
  """A standard image, and its place in the original.

  Attributes:
    pixels: (H, W) uint8 or uint16: bright breast on black, chest on the left.
    box: top, left, bottom, right of the crop, in original pixels.
    flipped: whether left and right were exchanged.
    inverted: whether dark and bright were exchanged.
    original_shape: rows and columns.
    to_original: (2, 3) float64, from continuous (x, y, 1) of the standard image
      to continuous (x, y) of the original; pixel i covers [i, i + 1).
  """

  pixels: np.ndarray
  box: tuple[int, int, int, int]
  flipped: bool
  inverted: bool
  original_shape: tuple[int, int]
  to_original: np.ndarray


def standardise(image: mammogram.Mammogram, spec: Spec) -> StandardImage:
  """Shows, finds, crops, turns, resizes and pads a mammogram.

  The crop is resized by area before the window is laid on it, so that a decoder
  that gives a smaller picture leads to the same result.

  Args:
    image: as a reader returned it.
    spec: what to make of it.

  Raises:
    PreprocessError: no breast in it, or not the size of a mammogram.
  """
  rows, cols = _check_size(image)
  show = grey.curve(image, spec.window)
  step = max(1, max(rows, cols) // _SAMPLE)
  sample = image.pixels[::step, ::step]
  small = show(sample)
  inverted = grey.is_inverted(image)
  if not image.photometric and grey.looks_inverted(small):
    inverted = True
    small = 1 - small
  padding = grey.padding_mask(image, sample)
  if padding is not None:
    small[padding] = 0
  try:
    found = breast.find(small)
  except breast.BreastError as error:
    raise PreprocessError(
      f'{image.name or "image"}: {error}; leave this file out'
    ) from error
  # The sample's pixel i stands for `step` pixels of the original.
  top, left, bottom, right = (
    min(edge * step, limit)
    for edge, limit in zip(found.box, (rows, cols, rows, cols), strict=True)
  )
  flipped = found.chest_side == 'right'

  height, width = spec.size
  scale = min(height / (bottom - top), width / (right - left))
  fit = (
    min(height, max(1, round((bottom - top) * scale))),
    min(width, max(1, round((right - left) * scale))),
  )
  crop = image.pixels[top:bottom, left:right]
  padding = grey.padding_mask(image, crop)
  if padding is not None and padding.any():
    # Padding has a share in a pixel's area and no say in its value.
    share = 1 - resize.area(padding, fit)
    crop = np.where(padding, crop.dtype.type(0), crop)
    values = show(resize.area(crop, fit) / np.maximum(share, 1e-6))
  else:
    share = 1.0
    values = show(resize.area(crop, fit))
  if inverted and not grey.is_inverted(image):
    values = 1 - values
  values *= share
  values *= _soft_mask(
    found.mask, (top, left, bottom, right), (rows, cols), fit
  )
  if flipped:
    values = values[:, ::-1]

  white = (1 << spec.bits) - 1
  pixels = np.zeros(spec.size, np.uint8 if spec.bits == 8 else np.uint16)
  offset = (height - fit[0]) // 2
  pixels[offset : offset + fit[0], : fit[1]] = np.rint(values * white)
  x_scale = (right - left) / fit[1]
  y_scale = (bottom - top) / fit[0]
  to_original = np.array(
    [
      [-x_scale, 0, right] if flipped else [x_scale, 0, left],
      [0, y_scale, top - offset * y_scale],
    ],
    np.float64,
  )
  return StandardImage(
    pixels=pixels,
    box=(top, left, bottom, right),
    flipped=flipped,
    inverted=inverted,
    original_shape=(rows, cols),
    to_original=to_original,
  )


def encode_png(pixels: np.ndarray) -> bytes:
  """(H, W) uint8 or uint16 as a lossless PNG, with settings made for speed."""
  if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
    raise ValueError(f'{pixels.dtype} {pixels.shape} is no greyscale picture')
  # The fast strategy of zlib (run lengths), after differences along the row.
  return imagecodecs.png_encode(
    np.ascontiguousarray(pixels), level=1, strategy=3, filter=16
  )


def decode_png(data: bytes) -> np.ndarray:
  """(H, W) uint8 or uint16 of what `encode_png` wrote.

  Raises:
    errors.DataError: damaged, or no greyscale PNG.
  """
  try:
    pixels = imagecodecs.png_decode(data)
  except (RuntimeError, ValueError, TypeError) as error:
    raise errors.DataError(
      f'damaged PNG of a prepared image ({error}); prepare the data again'
    ) from error
  if pixels.ndim != 2:
    raise errors.DataError(
      f'a prepared image of shape {pixels.shape}; prepare the data again'
    )
  return pixels


def _check_size(image: mammogram.Mammogram) -> tuple[int, int]:
  rows, cols = image.pixels.shape
  if (
    min(rows, cols) < MIN_SIDE
    or max(rows, cols) > MAX_ASPECT * min(rows, cols)
    or rows * cols > mammogram.MAX_PIXELS
  ):
    raise PreprocessError(
      f"{image.name or 'image'}: {rows}x{cols} pixels is not a mammogram's "
      f'size ({MIN_SIDE} pixels or more on a side, at most {MAX_ASPECT:.0f} '
      f'times as long as wide, at most {mammogram.MAX_PIXELS} pixels)'
    )
  return rows, cols


def _soft_mask(
  mask: np.ndarray,
  box: tuple[int, int, int, int],
  shape: tuple[int, int],
  size: tuple[int, int],
) -> np.ndarray:
  """The outline within the box as weights, fading over a thumbnail pixel."""
  top, left, bottom, right = box
  ys = _positions(top, bottom, size[0], mask.shape[0] / shape[0])
  xs = _positions(left, right, size[1], mask.shape[1] / shape[1])
  full = mask.astype(np.float32)
  return _interpolated(_interpolated(full, ys).T, xs).T


def _positions(start: int, end: int, n: int, scale: float) -> np.ndarray:
  """Centres of the n output pixels of [start, end), in mask pixels."""
  centres = start + (np.arange(n) + 0.5) * ((end - start) / n)
  return centres * scale - 0.5


def _interpolated(image: np.ndarray, at: np.ndarray) -> np.ndarray:
  at = np.clip(at, 0, image.shape[0] - 1)
  below = np.minimum(at.astype(np.int64), max(image.shape[0] - 2, 0))
  above = np.minimum(below + 1, image.shape[0] - 1)
  weight = (at - below).astype(np.float32)[:, None]
  return (1 - weight) * image[below] + weight * image[above]
