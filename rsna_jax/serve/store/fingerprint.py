"""Fingerprints of a picture: an exact one, and a perceptual one.

The exact one is a hash of the pixels. The perceptual one is the signs of cosine
coefficients of the breast, after its grey was levelled: the mean around each
point is taken from it, and the rest divided by the spread around. So it counts
where something is brighter than its surroundings, not the outline, which all
breasts share, and not the window. The frame follows the centre and the spread
of the grey, which change little where an outline would jump. A flip turns the
signs of the odd frequencies and nothing else, so one hash serves four ways to
hold a picture.

Numpy only: it runs in the child processes that decode.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from rsna_jax.data import resize

BITS = 255
_THUMBNAIL = 160  # pixels of the longer side
_GRID = 64  # points of the frame, either way
_SPAN = 2.0  # spreads from the centre of the frame to its edge
_FREQUENCIES = 16  # of cosines, either way
_AROUND = 4.0  # points, of the Gaussian that levels the grey
_INSIDE = 8.0  # grey of 255 that is surely breast
_NOISE = 2.0  # grey of 255


@dataclasses.dataclass(frozen=True)
class Fingerprints:
  """What a picture is recognised by.

  Attributes:
    pixel_sha256: of the pixels, the same for flipped ones; hex.
    phash: perceptual, 256 bits of which the first is 0; hex.
  """

  pixel_sha256: str
  phash: str


def fingerprints(pixels: np.ndarray) -> Fingerprints:
  """Both fingerprints of a picture.

  Args:
    pixels: (H, W) uint8 or uint16, bright breast on black, best with nothing
      outside the breast.
  """
  white = np.iinfo(pixels.dtype).max
  scale = min(1.0, _THUMBNAIL / max(pixels.shape))
  size = tuple(max(1, round(n * scale)) for n in pixels.shape)
  small = resize.area(pixels, size).astype(np.float64) * (255 / white)
  return Fingerprints(_pixel_sha256(pixels), perceptual(small))


def perceptual(small: np.ndarray) -> str:
  """The perceptual hash of a thumbnail.

  Args:
    small: (h, w) float, 0 to 255.
  """
  waves = np.cos(
    np.pi
    * np.arange(_FREQUENCIES)[:, None]
    * (np.arange(_GRID)[None] + 0.5)
    / _GRID
  )
  signs = waves @ _levelled(_framed(small)) @ waves.T > 0
  signs[0, 0] = False  # of the mean, which says nothing
  return np.packbits(signs.ravel()).tobytes().hex()


def bits(phashes: Sequence[str]) -> np.ndarray:
  """(N, 32) uint8 of perceptual hashes."""
  raw = b''.join(bytes.fromhex(one) for one in phashes)
  return np.frombuffer(raw, np.uint8).reshape(-1, (BITS + 1) // 8)


def distances(phash: str, others: np.ndarray) -> np.ndarray:
  """(N,) bits that differ, the least over the four ways to hold a picture.

  Args:
    phash: of one picture.
    others: as `bits` returns them.
  """
  if not len(others):
    return np.zeros(0, np.int64)
  versions = bits([phash]) ^ _flips()
  apart = np.bitwise_count(versions[:, None] ^ others[None])
  return apart.sum(axis=2, dtype=np.int64).min(axis=0)


def _pixel_sha256(pixels: np.ndarray) -> str:
  """The least of the hashes of the four ways to hold a picture."""
  digests = []
  shape = f'{pixels.shape[0]} {pixels.shape[1]} {pixels.dtype.itemsize} '
  for held in (pixels, pixels[::-1], pixels[:, ::-1], pixels[::-1, ::-1]):
    held = np.ascontiguousarray(held, pixels.dtype.newbyteorder('<'))
    digests.append(hashlib.sha256(shape.encode() + held.data).hexdigest())
  return min(digests)


def _framed(small: np.ndarray) -> np.ndarray:
  """(_GRID, _GRID) points around the centre of the grey; 0 beyond the edge."""
  weights = np.sqrt(small)
  total = weights.sum()
  if not total > 0:
    return np.zeros((_GRID, _GRID))
  points = small
  for axis in (0, 1):
    share = weights.sum(axis=1 - axis) / total
    at = np.arange(small.shape[axis]) + 0.5
    centre = share @ at
    spread = np.sqrt(share @ (at - centre) ** 2)
    steps = (np.arange(_GRID) + 0.5) / _GRID * 2 - 1
    points = _sampled(points, centre + _SPAN * spread * steps, axis)
  return points


def _sampled(values: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
  """Linear between the centres of pixels along an axis, 0 outside."""
  n = values.shape[axis]
  edge = [(0, 0), (0, 0)]
  edge[axis] = (1, 1)
  padded = np.pad(values, edge)
  place = np.clip(at + 0.5, 0, n + 1 - 1e-6)
  first = np.floor(place).astype(np.int64)
  share = np.expand_dims(place - first, 1 - axis)
  return (
    np.take(padded, first, axis) * (1 - share)
    + np.take(padded, first + 1, axis) * share
  )


def _levelled(points: np.ndarray) -> np.ndarray:
  """Difference from the mean around, in units of the spread around."""
  inside = np.minimum(points / _INSIDE, 1.0)
  apart = np.arange(_GRID)[:, None] - np.arange(_GRID)[None]
  gauss = np.exp(-0.5 * (apart / _AROUND) ** 2)
  gauss /= _AROUND * np.sqrt(2 * np.pi)
  weight = np.maximum(gauss @ inside @ gauss, 1e-2)
  differences = (points - gauss @ points @ gauss / weight) * inside
  spread = np.sqrt(gauss @ differences**2 @ gauss / weight)
  return differences / (spread + _NOISE)


def _flips() -> np.ndarray:
  """(4, 32) uint8: the bits that turn with the picture."""
  odd = np.arange(_FREQUENCIES) % 2 == 1
  rows, columns = np.meshgrid(odd, odd, indexing='ij')
  masks = [np.zeros_like(rows), rows, columns, rows ^ columns]
  return np.stack([np.packbits(mask.ravel()) for mask in masks])
