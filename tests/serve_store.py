"""A store with people in it, and pictures to submit."""

import dataclasses
import pathlib

import numpy as np

from rsna_jax.data import preprocess
from rsna_jax.serve.store import accounts, blobs, database, near, submissions

PASSWORD = 'correct horse 7'


@dataclasses.dataclass
class Store:
  """A migrated store and its people, one of each role, and one more."""

  db: database.Database
  blobs: blobs.Blobs
  folder: pathlib.Path
  contributor: accounts.User
  other: accounts.User
  reviewer: accounts.User
  administrator: accounts.User

  def add(self, pixels, user=None, answer=None, frozen=None, **fields):
    """Submits a picture."""
    return submissions.add(
      self.db,
      self.blobs,
      kept(pixels),
      labels(**fields),
      {},
      user or self.contributor,
      answer or {},
      frozen,
    )


def make(folder: pathlib.Path, url: str | None = None) -> Store:
  """A new store."""
  db = database.Database(url, folder)
  db.migrate()
  with db.session() as session:
    for name, role in (
      ('contributor', 'contributor'),
      ('other', 'contributor'),
      ('reviewer', 'reviewer'),
      ('administrator', 'administrator'),
    ):
      accounts.create(session, name, PASSWORD, role)
  return open_there(folder, url, db)


def open_there(
  folder: pathlib.Path, url: str | None, db: database.Database | None = None
) -> Store:
  """A store that `make` has made, or a copy of it."""
  db = db or database.Database(url, folder)
  with db.reading() as session:
    people = {user.name: user for user in accounts.all(session)}
  return Store(db, blobs.Blobs(folder / 'blobs'), folder, **people)


def picture(seed: int, shape=(256, 160)) -> np.ndarray:
  """Half an ellipse of smooth noise on black."""
  chance = np.random.default_rng(seed)
  rows, columns = shape
  y, x = np.mgrid[:rows, :columns]
  grey = np.full(shape, 120.0)
  for _ in range(40):
    row, column = chance.uniform(0, rows), chance.uniform(0, columns)
    width = chance.uniform(0.02, 0.12) * rows
    bump = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))
    grey += chance.uniform(-60, 60) * bump
  inside = (2 * y / rows - 1) ** 2 / 0.8 + (x / columns / 0.85) ** 2 < 1
  return np.where(inside, grey.clip(40, 255), 0).astype(np.uint8)


def kept(pixels: np.ndarray) -> submissions.Kept:
  return submissions.Kept(
    png=preprocess.encode_png(pixels),
    fingerprints=near.fingerprints(pixels),
    rows=pixels.shape[0],
    columns=pixels.shape[1],
  )


def labels(**fields) -> submissions.Labels:
  return submissions.Labels.parse(
    {
      'density': 'B',
      'cancer': '0',
      'evidence': 'biopsy',
      'confidence': '4',
      'text_checked': 'on',
    }
    | fields
  )
