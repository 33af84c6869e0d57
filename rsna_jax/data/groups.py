"""Which images stand in the slots of an example that is a breast.

An example is a breast, whichever of its images are seen: orders run over
breasts, and what is seen of one is a pure function of seed, step and breast.
Numpy only.
"""

from collections.abc import Sequence

import numpy as np

from rsna_jax import schema

# Of a slot: view code, side, laterality code.
VIEW, SIDE, LATERALITY = 0, 1, 2
THIS, OTHER, EMPTY = 0, 1, -1  # sides
UNKNOWN_VIEW = len(schema.VIEWS)
UNKNOWN_LATERALITY = len(schema.LATERALITIES)
_STREAM = 64  # of random numbers; those of `order` lie below


class Groups:
  """Images by breast.

  Breasts are numbered in the order in which their first images come. An image
  of unknown laterality is a breast of its own, as nobody can say whose it is.

  Attributes:
    of_image: (N,) int64, the breast of each image.
    first: (G,) int64, the first image of each breast.
    other: (G,) int64, the other breast of the exam; -1 where there is none.
    slots: images of an example.
  """

  def __init__(
    self,
    exam: Sequence[int] | np.ndarray,
    laterality: Sequence[str] | np.ndarray,
    view: Sequence[str] | np.ndarray,
    *,
    views: int,
    compare: bool,
    seed: int | None = None,
  ):
    """Groups images.

    Args:
      exam: (N,) int64, equal for the images of one person; -1: of nobody else.
      laterality: (N,) 'L', 'R', or '' for unknown.
      view: (N,) of `schema.VIEWS`; others are unknown.
      views: images of a breast that an example has at most.
      compare: whether an example has those of the other breast, too.
      seed: of what is drawn where there are more; None: the first of each
        view, then the second of each, and so on; the rest is left out.
    """
    exam = np.asarray(exam, np.int64)
    side = _codes(laterality, schema.LATERALITIES)
    view_code = _codes(view, schema.VIEWS)
    n = len(exam)
    self._codes = np.stack([view_code, np.zeros(n, np.int32), side], axis=1)
    self._views, self._compare, self._seed = views, compare, seed
    self.slots = views * (1 + compare)
    alone = (exam == -1) | (side == UNKNOWN_LATERALITY)
    # Rows of (exam, side, which of those that stand alone).
    keys = np.stack(
      [np.where(alone, -1, exam), side, np.where(alone, np.arange(n), -1)],
      axis=1,
    )
    _, first, found = np.unique(
      keys, axis=0, return_index=True, return_inverse=True
    )
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    self.of_image = rank[found.ravel()] if n else np.zeros(0, np.int64)
    self.first = np.sort(first).astype(np.int64)
    self._members = np.argsort(self.of_image, kind='stable')
    self._starts = np.searchsorted(
      self.of_image[self._members], np.arange(len(self) + 1)
    )
    self.other = self._find_others(exam[self.first], side[self.first])

  def _find_others(self, exam: np.ndarray, side: np.ndarray) -> np.ndarray:
    known = (exam != -1) & (side != UNKNOWN_LATERALITY)
    number = {
      key: i
      for i, key in enumerate(zip(exam.tolist(), side.tolist(), strict=True))
      if known[i]
    }
    found = np.full(len(exam), -1, np.int64)
    for (one, laterality), i in number.items():
      found[i] = number.get((one, 1 - laterality), -1)
    return found

  def __len__(self) -> int:
    return len(self.first)

  def members(self, breast: int) -> np.ndarray:
    """(n,) int64, the images of a breast in their order."""
    return self._members[self._starts[breast] : self._starts[breast + 1]]

  def lead(self, known: np.ndarray) -> np.ndarray:
    """The image that speaks for each breast.

    Args:
      known: (N,) bool, which images say something.

    Returns:
      (G,) int64, the first one that does, or else the first.
    """
    found = self.first.copy()
    places = np.flatnonzero(known)[::-1]
    found[self.of_image[places]] = places
    return found

  def choose(
    self, breasts: np.ndarray, step: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """The images of examples, and what they are.

    Args:
      breasts: (B,) numbers.
      step: of the batch; of no concern without a seed.

    Returns:
      (B, slots) int64 images, -1 in an empty slot, those of the breast itself
      first; and (B, slots, 3) int32 codes: view (`UNKNOWN_VIEW` where it is
      not known), side (`THIS`, `OTHER`, `EMPTY`), laterality.
    """
    images = np.full((len(breasts), self.slots), -1, np.int64)
    side = np.full(images.shape, EMPTY, np.int32)
    for row, breast in enumerate(np.asarray(breasts).tolist()):
      for which in (THIS, OTHER)[: 1 + self._compare]:
        of = breast if which == THIS else int(self.other[breast])
        if of < 0:
          continue
        found = self._some(of, step)
        start = which * self._views
        images[row, start : start + len(found)] = found
        side[row, start : start + len(found)] = which
    empty = np.array([UNKNOWN_VIEW, EMPTY, UNKNOWN_LATERALITY], np.int32)
    codes = np.broadcast_to(empty, (*images.shape, 3)).copy()
    there = images >= 0
    codes[there] = self._codes[images[there]]
    codes[..., SIDE] = side
    return images, codes

  def _some(self, breast: int, step: int) -> np.ndarray:
    """Up to `views` images of a breast, of as many views as there are."""
    images = self.members(breast)
    if len(images) <= self._views:
      return images
    if self._seed is not None:
      generator = np.random.Philox(
        key=np.array([self._seed % 2**64, (_STREAM << 56) + step], np.uint64),
        counter=np.array([0, 0, breast, 0], np.uint64),
      )
      images = np.random.Generator(generator).permutation(images)
    views = self._codes[images, VIEW]
    # How many of its view come before each.
    before = np.triu(views[:, None] == views[None, :], 1).sum(axis=0)
    return images[np.argsort(before, kind='stable')][: self._views]


def of_rows(
  data, rows: np.ndarray, *, views: int, compare: bool, seed: int | None = None
) -> Groups:
  """The groups of rows of a data set; people of joined sets stay apart.

  Args:
    data: a `dataset.Dataset`, or one of several that are joined.
    rows: (N,) row numbers.
    views: as in `Groups`.
    compare: likewise.
    seed: likewise.
  """
  rows = np.asarray(rows, np.int64)
  patients = data.table['patient_id'][rows].astype(np.int64)
  starts = np.cumsum([0, *map(len, getattr(data, 'sets', ()))])
  which = np.searchsorted(starts, rows, 'right')
  _, exam = np.unique(
    np.stack([which, patients], axis=1), axis=0, return_inverse=True
  )
  return Groups(
    np.where(patients == schema.MISSING, -1, exam.ravel()),
    data.table['laterality'][rows],
    data.table['view'][rows],
    views=views,
    compare=compare,
    seed=seed,
  )


def _codes(values, names: Sequence[str]) -> np.ndarray:
  """(N,) int32 places in `names`; their number for all else."""
  values = np.asarray(values, np.str_)
  found = np.full(len(values), len(names), np.int32)
  for i, name in enumerate(names):
    found[values == name] = i
  return found
