"""Finds the breast by its content: box, outline, and the side of the chest.

Labels, bars and film frames are brighter than air as well, but thin or small;
laterality is no help, since whole patients face the other way.
"""

import dataclasses

import numpy as np

from rsna_jax import errors
from rsna_jax.data import components, morphology, resize

THUMBNAIL = 320  # pixels of the longer side in which the breast is sought
_THRESHOLD = 0.045  # between air (0) and the brightest per cent (1)
_LEAST_AREA = 0.01  # of the picture


class BreastError(errors.InputError):
  """There is no breast in a picture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Breast:
  """Where the breast is.

  Attributes:
    box: top, left, bottom, right, in pixels of the picture; pixel i covers
      [i, i + 1).
    chest_side: 'left' or 'right'.
    mask: (h, w) bool, a thumbnail of the whole picture: breast or not.
  """

  box: tuple[float, float, float, float]
  chest_side: str
  mask: np.ndarray


def find(image: np.ndarray) -> Breast:
  """Finds the breast.

  Args:
    image: (rows, cols) numbers, bright breast on black.

  Raises:
    BreastError: the picture is blank, or nothing in it is as big as a breast.
  """
  rows, cols = image.shape
  scale = max(1.0, max(rows, cols) / THUMBNAIL)
  small = resize.area(
    image, (max(1, round(rows / scale)), max(1, round(cols / scale)))
  )
  mask = _outline(small)
  if mask is None:
    raise BreastError(
      'no breast found: the picture is blank or has none', about='breast'
    )
  ys = np.flatnonzero(mask.any(axis=1))
  xs = np.flatnonzero(mask.any(axis=0))
  # One thumbnail pixel of margin: an edge may lie anywhere in a pixel.
  height, width = rows / mask.shape[0], cols / mask.shape[1]
  box = (
    max(0.0, (ys[0] - 1) * height),
    max(0.0, (xs[0] - 1) * width),
    min(float(rows), (ys[-1] + 2) * height),
    min(float(cols), (xs[-1] + 2) * width),
  )
  return Breast(box=box, chest_side=_chest_side(mask), mask=mask)


def _outline(small: np.ndarray) -> np.ndarray | None:
  """The largest compact piece that is brighter than air, with its skin."""
  air, bright = np.percentile(small, (5, 99))
  if not bright > air:
    return None
  mask = small > air + _THRESHOLD * (bright - air)
  radius = max(1, max(small.shape) // 64)
  core = morphology.dilated(morphology.eroded(mask, radius), radius)
  labels, sizes = components.label(core)
  if not len(sizes) or sizes.max() < _LEAST_AREA * mask.size:
    return None
  core = labels == 1 + int(np.argmax(sizes))
  # The nipple is thinner than the opening: regain what hangs on the core, but
  # not the labels beside it.
  near = core | (mask & morphology.dilated(core, 2 * radius))
  labels, _ = components.label(near)
  core = np.isin(labels, np.unique(labels[core]))
  # Fat at the skin line is as dark as air on some films.
  return _filled(morphology.dilated(core, max(1, radius // 2)))


def _filled(mask: np.ndarray) -> np.ndarray:
  """The mask without the holes that do not reach the picture's edge."""
  labels, _ = components.label(~mask)
  edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
  outside = np.unique(np.concatenate(edges))
  return mask | ~np.isin(labels, outside[outside > 0])


def _chest_side(mask: np.ndarray) -> str:
  weights = mask.sum(axis=0)
  xs = np.flatnonzero(weights)
  middle = (xs[0] + xs[-1]) / 2
  centre = np.average(np.arange(mask.shape[1]), weights=weights)
  return 'left' if centre < middle else 'right'
