"""Fingerprints of pictures, by which copies are recognised.

The exact one is a hash of the pixels; the perceptual one is the signs of cosine
coefficients of the breast alone, so it outlives scaling, re-saving and slight
changes of grey. A flip turns the signs of the odd frequencies and nothing else,
so flipped copies are found by comparing with four versions of one hash.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax.data import breast, resize
from rsna_jax.serve import tables

_GRID = 64  # pixels of the breast's box, either way
_FREQUENCIES = 16  # of cosines, either way
DISTANCE = 40  # of 255 bits


@dataclasses.dataclass(frozen=True)
class Fingerprints:
  """What a picture is recognised by.

  Attributes:
    pixel_sha256: of the pixels, the same for flipped ones; hex.
    phash: perceptual, 256 bits of which the first is 0; hex.
  """

  pixel_sha256: str
  phash: str


@dataclasses.dataclass(frozen=True)
class Frozen:
  """Pictures that models are judged on, and that must not be learned from.

  Attributes:
    pixel_sha256s: of the pictures.
    phashes: (N, 32) uint8.
  """

  pixel_sha256s: frozenset[str]
  phashes: np.ndarray

  @classmethod
  def of(cls, pictures: Iterable[np.ndarray]) -> 'Frozen':
    """The index of pictures as `fingerprints` takes them."""
    return cls._of([fingerprints(pixels) for pixels in pictures])

  @classmethod
  def load(cls, session: orm.Session, source: str) -> 'Frozen | None':
    """What `save` has stored under a name; None: nothing."""
    rows = session.scalars(
      sa.select(tables.FrozenImage).where(tables.FrozenImage.source == source)
    ).all()
    if not rows:
      return None
    return cls._of([Fingerprints(row.pixel_sha256, row.phash) for row in rows])

  @classmethod
  def _of(cls, found: Sequence[Fingerprints]) -> 'Frozen':
    return cls(
      frozenset(one.pixel_sha256 for one in found),
      _bits([one.phash for one in found]),
    )

  def holds(self, one: Fingerprints, distance: int | None = None) -> bool:
    """Whether a picture is a copy of one of them."""
    distance = DISTANCE if distance is None else distance
    if one.pixel_sha256 in self.pixel_sha256s:
      return True
    return bool((_distances(one.phash, self.phashes) <= distance).any())


def save_frozen(
  session: orm.Session, source: str, found: Iterable[Fingerprints]
) -> None:
  """Stores the index of a set under a name, as the set's fingerprint.

  Args:
    session: one that writes.
    source: the name; what was stored under it before is replaced.
    found: of each picture.
  """
  session.execute(
    sa.delete(tables.FrozenImage).where(tables.FrozenImage.source == source)
  )
  session.add_all(
    tables.FrozenImage(
      source=source, pixel_sha256=one.pixel_sha256, phash=one.phash
    )
    for one in found
  )


def fingerprints(pixels: np.ndarray) -> Fingerprints:
  """Both fingerprints of a picture.

  Args:
    pixels: (H, W) uint8 or uint16, bright breast on black.
  """
  return Fingerprints(_pixel_sha256(pixels), _phash(pixels))


def distance(a: str, b: str) -> int:
  """Bits in which two perceptual hashes differ, whichever way they are held."""
  return int(_distances(a, _bits([b]))[0])


def find(
  session: orm.Session,
  one: Fingerprints,
  distance: int | None = None,
  statuses: Sequence[str] = ('pending', 'accepted', 'quarantined'),
) -> list[tuple[str, int, bool]]:
  """Submissions whose picture is the same or nearly the same.

  Args:
    session: any.
    one: of the picture.
    distance: the most bits that may differ; None: `DISTANCE`.
    statuses: which submissions count.

  Returns:
    For each its id, the bits that differ, and whether the pixels are equal;
    the nearest first.
  """
  distance = DISTANCE if distance is None else distance
  rows = session.execute(
    sa.select(
      tables.Submission.id, tables.Image.pixel_sha256, tables.Image.phash
    )
    .join(tables.Image, tables.Image.sha256 == tables.Submission.image_sha256)
    .where(tables.Submission.status.in_(statuses))
  ).all()
  if not rows:
    return []
  apart = _distances(one.phash, _bits([phash for _, _, phash in rows]))
  found = []
  for (id, pixel_sha256, _), bits in zip(rows, apart, strict=True):
    exact = pixel_sha256 == one.pixel_sha256
    if exact or bits <= distance:
      found.append((id, int(bits), exact))
  return sorted(found, key=lambda hit: (not hit[2], hit[1], hit[0]))


def _pixel_sha256(pixels: np.ndarray) -> str:
  """The least of the hashes of the four ways to hold a picture."""
  digests = []
  shape = f'{pixels.shape[0]} {pixels.shape[1]} {pixels.dtype.itemsize} '
  for held in (pixels, pixels[::-1], pixels[:, ::-1], pixels[::-1, ::-1]):
    held = np.ascontiguousarray(held, pixels.dtype.newbyteorder('<'))
    digests.append(hashlib.sha256(shape.encode() + held.data).hexdigest())
  return min(digests)


def _cosines() -> np.ndarray:
  k = np.arange(_FREQUENCIES)[:, None]
  x = np.arange(_GRID)[None]
  return np.cos(np.pi * k * (x + 0.5) / _GRID)


def _phash(pixels: np.ndarray) -> str:
  try:
    box = breast.find(pixels).box
  except breast.BreastError:
    box = None
  small = resize.area(pixels, (_GRID, _GRID), box).astype(np.float64)
  waves = _cosines()
  signs = waves @ small @ waves.T > 0
  signs[0, 0] = False  # the mean, which is always positive
  return np.packbits(signs.ravel()).tobytes().hex()


def _flips() -> np.ndarray:
  """(4, 32) uint8: the bits that turn with the picture."""
  k = np.arange(_FREQUENCIES)
  odd = k % 2 == 1
  rows, columns = np.meshgrid(odd, odd, indexing='ij')
  masks = [np.zeros_like(rows), rows, columns, rows ^ columns]
  return np.stack([np.packbits(mask.ravel()) for mask in masks])


def _bits(phashes: Sequence[str]) -> np.ndarray:
  raw = b''.join(bytes.fromhex(one) for one in phashes)
  return np.frombuffer(raw, np.uint8).reshape(len(phashes), -1)


def _distances(phash: str, others: np.ndarray) -> np.ndarray:
  """(N,) bits that differ, the least over the four ways to hold a picture."""
  if not len(others):
    return np.zeros(0, np.int64)
  versions = _bits([phash]) ^ _flips()
  apart = np.bitwise_count(versions[:, None] ^ others[None])
  return apart.sum(axis=2, dtype=np.int64).min(axis=0)
