"""Submissions, and pictures that models are judged on, that resemble one.

Measured on 2,707 real images in 640x640, masked as an upload is: of 3,662,171
pairs of different breasts or views none is within `DISTANCE`, the least being
59, and that of the two breasts of one patient as well; of 400 pairs of one view
of one breast, taken again or stored again, 12 are. Of 300 altered copies each
were found: flipped, JPEG quality 50 and 20, noise of 3 grey levels, gamma 0.85:
all; half and a third of the size, squeezed to 400x640: 99.7 %; without 4 to 6
pixels at the edges: 99.3 %; contrast and offset: 99.0 %; gamma 1.2: 98.7 %; as
a standard image of 512x256 and 256x128: 99.3 %, of 64x32: 95.0 %.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax.serve.store import fingerprint, tables

DISTANCE = 54  # of 255 bits
Fingerprints = fingerprint.Fingerprints
fingerprints = fingerprint.fingerprints


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
      fingerprint.bits([one.phash for one in found]),
    )

  def holds(self, one: Fingerprints, distance: int | None = None) -> bool:
    """Whether a picture is a copy of one of them."""
    distance = DISTANCE if distance is None else distance
    if one.pixel_sha256 in self.pixel_sha256s:
      return True
    return bool(
      (fingerprint.distances(one.phash, self.phashes) <= distance).any()
    )


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


def distance(a: str, b: str) -> int:
  """Bits in which two perceptual hashes differ, whichever way they are held."""
  return int(fingerprint.distances(a, fingerprint.bits([b]))[0])


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
  apart = fingerprint.distances(
    one.phash, fingerprint.bits([phash for _, _, phash in rows])
  )
  found = []
  for (id, pixel_sha256, _), bits in zip(rows, apart, strict=True):
    exact = pixel_sha256 == one.pixel_sha256
    if exact or bits <= distance:
      found.append((id, int(bits), exact))
  return sorted(found, key=lambda hit: (not hit[2], hit[1], hit[0]))
