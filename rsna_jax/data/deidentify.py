"""What may leave: the columns that are allowed, and pixels without labels.

An allow-list rather than a list of what to remove (DICOM PS3.15 annex E): of a
header nothing goes along but pixel values, and of those not the labels burned
into the air. BurnedInAnnotation is not asked: it is often absent or wrong.
"""

from collections.abc import Iterable

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.data import breast, components, morphology

# Of a picture made of several frames: which they are, and how they were joined.
SLAB_COLUMNS = ('source_image_id', 'slab', 'projection')
COLUMNS = (*schema.COLUMNS, *SLAB_COLUMNS)

_SIDE = 1024  # pixels of the longer side in which letters are sought
_CONTRAST = 0.04  # between air (0) and the bright of the breast (1)
_NOISES = 6.0  # above air is no longer air
_BUMP = 32  # a label stands out of the outline by less than the side / this
_MARGIN = 3  # pixels around a letter, of the longer side's `_SIDE`
_SPECK = 12  # pixels, at the most
_SOLID = 100  # a piece of the body is thicker than 2 sides / this
_RECTANGLE = 0.85  # of its box is filled by a label's plate
_PLATE = 0.02  # of the picture, at the most, is a plate


def allowed(columns: Iterable[str]) -> list[str]:
  """Those of the columns that may leave, in their order."""
  return [name for name in columns if name in COLUMNS]


def check(columns: Iterable[str]) -> None:
  """Refuses columns that may not leave.

  Raises:
    errors.DataError: names them.
  """
  wrong = [ascii(name[:40]) for name in columns if name not in COLUMNS]
  if wrong:
    raise errors.DataError(
      f'columns {", ".join(wrong)} may not leave: drop them; allowed are '
      + ', '.join(COLUMNS)
    )


def labels(image: np.ndarray) -> np.ndarray:
  """Finds the breast, and what is burned into the air around it.

  Args:
    image: (rows, cols) numbers, bright breast on black.

  Returns:
    (rows, cols) bool, as `text_regions`.

  Raises:
    breast.BreastError: no breast, so that nothing tells labels from the image.
  """
  if image.min() == image.max():
    return np.zeros(image.shape, bool)
  return text_regions(image, breast.find(image).mask)


def text_regions(image: np.ndarray, breast_mask: np.ndarray) -> np.ndarray:
  """Finds labels, marks and bars outside the breast.

  What differs from the air and is not connected with the breast counts as
  text, whether it can be read or not; only thick, irregular pieces at the edge
  of the chest wall, which belong to the body, do not. Letters on the breast
  itself, or touching its skin, are not found.

  Args:
    image: (rows, cols) numbers, bright breast on black.
    breast_mask: (h, w) bool, the breast in a picture of any size.

  Returns:
    (rows, cols) bool.
  """
  rows, cols = image.shape
  step = max(1, -(-max(rows, cols) // _SIDE))
  # The brightest pixel of each block, so that the thinnest stroke stays.
  small = _pooled(image, step, np.maximum)
  inside = _nearest(breast_mask, small.shape)
  air = small[~inside]
  if not air.size:
    return np.zeros(image.shape, bool)
  level = np.median(air)
  noise = 1.4826 * np.median(np.abs(air - level))
  white = np.percentile(small[inside], 99) if inside.any() else small.max()
  least = max(_CONTRAST * max(float(white - level), 0), _NOISES * noise, 1e-6)

  lit = small > level + least
  pieces, sizes = components.label(lit)
  side = max(small.shape)
  # The outline takes in labels near the skin: bumps, which do not survive this.
  body = inside & morphology.opened(inside, max(1, side // _BUMP))
  keep = np.unique(pieces[body])
  keep = np.concatenate([keep, _at_the_chest(pieces, keep, body)])
  tissue = lit & np.isin(pieces, keep[keep > 0])
  # Specks beside the skin, such as JPEG leaves there, are no letters.
  specks = np.unique(pieces[morphology.dilated(tissue, 2)])
  specks = specks[(specks > 0) & (sizes[specks - 1] <= _SPECK)]
  tissue |= np.isin(pieces, specks)
  found = lit & ~tissue
  if level > least:
    found |= (_pooled(image, step, np.minimum) < level - least) & ~inside
  found = morphology.dilated(_without_small_holes(found), _MARGIN)
  found &= ~body & ~tissue
  return _repeated(found, step, (rows, cols))


def _at_the_chest(
  pieces: np.ndarray, keep: np.ndarray, body: np.ndarray
) -> np.ndarray:
  """Labels of pieces of the belly, the arm or the other breast.

  They lie where the film ends at the chest, are thick, and no rectangles.
  """
  found: list[int] = []
  half = body.shape[1] // 2
  on_the_left = body[:, :half].sum() >= body[:, -half:].sum()
  edge = pieces[:, 0 if on_the_left else -1]
  radius = max(1, max(pieces.shape) // _SOLID)
  for piece in np.setdiff1d(edge, [0, *keep]):
    part = _cut_out(pieces == piece)
    thick = morphology.opened(part, radius).sum() > 0.5 * part.sum()
    if thick and part.mean() < _RECTANGLE:
      found.append(piece)
  return np.array(found, pieces.dtype)


def _cut_out(mask: np.ndarray) -> np.ndarray:
  rows = np.flatnonzero(mask.any(axis=1))
  cols = np.flatnonzero(mask.any(axis=0))
  return mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _without_small_holes(mask: np.ndarray) -> np.ndarray:
  """Fills the holes that are no bigger than a plate with dark letters."""
  pieces, sizes = components.label(~mask)
  small = np.append(False, sizes < _PLATE * mask.size)
  return mask | small[pieces]


def _pooled(image: np.ndarray, step: int, join: np.ufunc) -> np.ndarray:
  """The greatest or least of each block of step x step pixels."""
  if step == 1:
    return image
  rows = np.arange(0, image.shape[0], step)
  cols = np.arange(0, image.shape[1], step)
  return join.reduceat(join.reduceat(image, rows, axis=0), cols, axis=1)


def _nearest(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  ys, xs = (
    ((np.arange(n) + 0.5) * (size / n)).astype(np.int64)
    for n, size in zip(shape, mask.shape, strict=True)
  )
  return mask[ys[:, None], xs]


def _repeated(
  mask: np.ndarray, step: int, shape: tuple[int, int]
) -> np.ndarray:
  whole = np.repeat(np.repeat(mask, step, axis=0), step, axis=1)
  return whole[: shape[0], : shape[1]]
