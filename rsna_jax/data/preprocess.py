"""From a mammogram to the one standard image that training and serving share.

Building a data set, training, predicting and serving call `standardise` alike,
so they can never differ; the map back to the original pixels comes with it.
"""

import dataclasses

import imagecodecs
import numpy as np

from rsna_jax import errors
from rsna_jax.data import (
  breast,
  grey,
  mammogram,
  morphology,
  pyramid,
  resize,
)
from rsna_jax.data import spec as spec_lib

MIN_SIDE = 64  # pixels; a smaller picture is no mammogram
MAX_ASPECT = 8.0
_NEAR_AIR = 0.1  # of the range of the values
VERSION = spec_lib.VERSION
Spec = spec_lib.Spec
PreprocessError = spec_lib.PreprocessError


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
  box: tuple[float, float, float, float]
  flipped: bool
  inverted: bool
  original_shape: tuple[int, int]
  to_original: np.ndarray


def standardise(image: mammogram.Mammogram, spec: Spec) -> StandardImage:
  """Shows, finds, crops, turns, resizes and pads a mammogram.

  The breast is sought in a small level of the pyramid; then the smallest level
  that has enough pixels is resized by area, and the window is laid on that.

  Args:
    image: as a reader returned it.
    spec: what to make of it.

  Raises:
    PreprocessError: no breast in it, not the size of a mammogram, or raw.
    dicom.DicomError: its pixels turn out to be damaged.
  """
  name = image.name or 'image'
  if (
    image.presentation_intent == 'FOR PROCESSING'
    and spec.for_processing == 'refuse'
  ):
    raise PreprocessError(
      f'{name}: PresentationIntentType=FOR PROCESSING: a raw image; take the '
      'one for presentation, or accept it with --for-processing accept',
      about='raw',
    )
  levels = pyramid.of(image.pixels)
  rows, cols = _check_size(levels.shape, name)
  levels = _without_padding(image, levels, spec)
  thumbnail = pyramid.thumbnail_level(levels.shape)
  sample = clipped(levels.level(thumbnail), image)
  small = grey.curve(image, spec.window, sample)(sample)
  inverted = grey.is_inverted(image)
  if not image.photometric and grey.looks_inverted(small):
    inverted = True
    small = 1 - small
  try:
    found = breast.find(small)
  except breast.BreastError as error:
    raise PreprocessError(
      f'{name}: {error}; leave this file out', about='breast'
    ) from error
  top, left, bottom, right = _unshrunk(
    found.box, sample.shape, (rows, cols), 2**thumbnail
  )
  flipped = found.chest_side == 'right'

  height, width = spec.size
  scale = min(height / (bottom - top), width / (right - left))
  fit = (
    min(height, max(1, round((bottom - top) * scale))),
    min(width, max(1, round((right - left) * scale))),
  )
  level = _level(min((bottom - top) / fit[0], (right - left) / fit[1]), spec)
  crop, edges = _crop(levels, level, (top, left, bottom, right))
  stored = resize.area(clipped(crop, image) if level else crop, fit, edges)
  # Where no window counts, the range is that of what is shown.
  show = grey.curve(image, spec.window, np.rint(stored).astype(np.int32))
  values = show(stored)
  if inverted and not grey.is_inverted(image):
    values = 1 - values
  values *= _soft_mask(
    found.mask, (top, left, bottom, right), 2**thumbnail, fit
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
  # The fast strategy of zlib (run lengths), after differences to the row above,
  # which are the fastest to undo; measured by scripts/bench_encode.py.
  return imagecodecs.png_encode(
    np.ascontiguousarray(pixels), level=1, strategy=3, filter=32
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


def _check_size(shape: tuple[int, int], name: str) -> tuple[int, int]:
  rows, cols = shape
  if (
    min(rows, cols) < MIN_SIDE
    or max(rows, cols) > MAX_ASPECT * min(rows, cols)
    or rows * cols > mammogram.MAX_PIXELS
  ):
    raise PreprocessError(
      f"{name}: {rows}x{cols} pixels is not a mammogram's size ({MIN_SIDE} "
      f'pixels or more on a side, at most {MAX_ASPECT:.0f} times as long as '
      f'wide, at most {mammogram.MAX_PIXELS} pixels)',
      about='size',
    )
  return rows, cols


def _without_padding(
  image: mammogram.Mammogram, levels: pyramid.Pyramid, spec: Spec
) -> pyramid.Pyramid:
  """The pyramid, its padding painted with the value of air if need be.

  Padding is mostly the value of air itself. Where it is not, it must not mix
  with what it borders on, so it is painted over before anything is shrunk.
  """
  if image.padding is None:
    return levels
  sample = levels.level(pyramid.thumbnail_level(levels.shape))
  mask = grey.padding_mask(image, sample)
  # Samples beside padding are mixed with it.
  inside = sample[~morphology.dilated(mask, 1)]
  if not len(inside):
    return levels
  inside = clipped(inside, image)
  show = grey.curve(image, spec.window, inside)
  # There may be no air but the padding: the dark end of the window is as good.
  near = [c + s * w / 2 for c, w in image.windows[:1] for s in (-1, 1)]
  near += [end for lut in image.voi_luts[:1] for end in _ends(lut)]
  candidates = np.append(inside, clipped(np.rint(near), image).astype(int))
  shown = show(candidates)
  dark = candidates[shown <= shown.min() + 1 / 256]
  air = dark[np.argmin(np.abs(dark - np.median(inside)))]
  ends = np.asarray(image.padding)
  near = np.abs(ends - air) <= _NEAR_AIR * (inside.max() - inside.min())
  if near.all() and (show(ends) <= shown.min() + _NEAR_AIR).all():
    return levels
  pixels = levels.level(0)
  mask = grey.padding_mask(image, pixels)
  return pyramid.Array(np.where(mask, pixels.dtype.type(air), pixels))


def _ends(lut: mammogram.Lut) -> tuple[int, int]:
  return lut.first, lut.first + len(lut.values) - 1


def clipped(values: np.ndarray, image: mammogram.Mammogram) -> np.ndarray:
  """Samples of a level, which may overshoot, in the range of stored values."""
  low, high = 0, (1 << image.bits_stored) - 1
  if image.signed:
    low, high = -(1 << (image.bits_stored - 1)), high >> 1
  return np.clip(values, low, high)


def _unshrunk(
  box: tuple[float, float, float, float],
  small: tuple[int, int],
  shape: tuple[int, int],
  scale: int,
) -> tuple[float, float, float, float]:
  """A box of the thumbnail in pixels of the image.

  What reaches an end of the thumbnail reaches that of the image, on all sides
  alike, whatever part of a sample is left over there.
  """
  ends = []
  for edge, last, limit in zip(box, small * 2, shape * 2, strict=True):
    if edge <= 0:
      ends.append(0.0)
    elif edge >= last:
      ends.append(float(limit))
    else:
      ends.append(min(max((edge - 0.5) * scale + 0.5, 0.0), float(limit)))
  return tuple(ends)


def _level(scale: float, spec: Spec) -> int:
  """The smallest level that has the pixels of the output, times the slack.

  Args:
    scale: stored pixels for each of the output.
    spec: its quality counts.
  """
  if spec.quality == 'exact':
    return 0
  return max(0, int(np.floor(np.log2(scale / spec_lib.SLACK[spec.quality]))))


def _crop(
  levels: pyramid.Pyramid, level: int, box: tuple[float, float, float, float]
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
  """The samples of a level that a box of the image needs, and its edges there.

  Sample i of a level stands at the centre of pixel 2 ** level * i, so an edge u
  lies at (u - 0.5) / 2 ** level + 0.5.
  """
  size = levels.level_shape(level)
  top, left, bottom, right = ((edge - 0.5) / 2**level + 0.5 for edge in box)
  first_row, first_col = int(top), int(left)
  part = (
    first_row,
    first_col,
    min(size[0], int(np.ceil(bottom))),
    min(size[1], int(np.ceil(right))),
  )
  edges = (
    top - first_row,
    left - first_col,
    bottom - first_row,
    right - first_col,
  )
  return levels.level(level, part), edges


def _soft_mask(
  mask: np.ndarray,
  box: tuple[float, float, float, float],
  scale: int,
  size: tuple[int, int],
) -> np.ndarray:
  """The outline within the box as weights, fading over a thumbnail pixel."""
  top, left, bottom, right = box
  ys = _positions(top, bottom, size[0], scale)
  xs = _positions(left, right, size[1], scale)
  full = mask.astype(np.float32)
  return _interpolated(_interpolated(full, ys).T, xs).T


def _positions(start: float, end: float, n: int, scale: int) -> np.ndarray:
  """Centres of the n output pixels of [start, end), in mask samples."""
  centres = start + (np.arange(n) + 0.5) * ((end - start) / n)
  return (centres - 0.5) / scale


def _interpolated(image: np.ndarray, at: np.ndarray) -> np.ndarray:
  at = np.clip(at, 0, image.shape[0] - 1)
  below = np.minimum(at.astype(np.int64), max(image.shape[0] - 2, 0))
  above = np.minimum(below + 1, image.shape[0] - 1)
  weight = (at - below).astype(np.float32)[:, None]
  return (1 - weight) * image[below] + weight * image[above]
