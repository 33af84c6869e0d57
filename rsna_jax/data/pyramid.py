"""Images that can be had smaller, or in part, without being decoded in full.

Level r is the low-pass band that a JPEG 2000 file keeps of an image after r
steps of the reversible 5-3 wavelet (ITU-T T.800 F.4). Files of other codecs
are brought to the same band by the same integer arithmetic, so that the codec,
which is the hospital's, cannot show in a standard image.
"""

import abc
import functools

import numpy as np

from rsna_jax.data import fused

Box = tuple[int, int, int, int]
THUMBNAIL = 160  # pixels of a thumbnail's longer side, at least


class Pyramid(abc.ABC):
  """The stored values of one image at 1, 1/2, 1/4, ... of its size.

  Attributes:
    shape: rows and columns of the whole image.
    dtype: of the stored values.
  """

  shape: tuple[int, int]
  dtype: np.dtype

  @abc.abstractmethod
  def level(self, level: int, box: Box | None = None) -> np.ndarray:
    """The image, or a part of it, at 1 / 2 ** level.

    Sample i of a level lies at the pixel 2 ** level * i of the image. Values
    may overshoot the range of the stored values.

    Args:
      level: 0 for the stored values themselves.
      box: top, left, bottom, right of the part, in samples of the level; None:
        all of it.

    Returns:
      (bottom - top, right - left) integers.
    """

  def level_shape(self, level: int) -> tuple[int, int]:
    """Rows and columns of a level."""
    rows, cols = self.shape
    return -(-rows >> level), -(-cols >> level)


class Array(Pyramid):
  """The pyramid of an image that is in memory."""

  def __init__(self, pixels: np.ndarray):
    """Computes nothing yet.

    Args:
      pixels: (rows, cols) integers.
    """
    self.shape = pixels.shape
    self.dtype = pixels.dtype
    self._pixels = pixels

  def level(self, level: int, box: Box | None = None) -> np.ndarray:
    """See `Pyramid.level`."""
    if level:
      return self._half.level(level - 1, box)
    if box is None:
      return self._pixels
    top, left, bottom, right = box
    return self._pixels[top:bottom, left:right]

  @functools.cached_property
  def _half(self) -> 'Array':
    return Array(fused.halved(self._pixels))


def thumbnail_level(shape: tuple[int, int]) -> int:
  """The level in which things are looked for: 160 to 320 pixels long.

  It depends on the size alone, so that every codec leads to the same picture.
  """
  level = 0
  while max(shape) >> (level + 1) >= THUMBNAIL:
    level += 1
  return level


def of(pixels: np.ndarray | Pyramid) -> Pyramid:
  """The pyramid of a mammogram's pixels."""
  return pixels if isinstance(pixels, Pyramid) else Array(pixels)
