"""Maps over standard images: the breast they count in, and the way back.

Numpy alone. Coordinates are continuous, pixel i covering [i, i + 1).
"""

import numpy as np

from rsna_jax.data import components

_AIR = 0.02  # of white; what is darker cannot speak for anything


def breast_mask(pixels: np.ndarray) -> np.ndarray:
  """Where a standard image shows breast.

  All else is black by its making, but for a faint rim where the outline fades;
  black within the breast is filled in, at the chest wall, which is on the left,
  too.

  Args:
    pixels: (H, W) floats in [0, 1].

  Returns:
    (H, W) bool; all False of a black image.
  """
  mask = np.asarray(pixels) > _AIR
  labels, _ = components.label(~mask)
  edges = np.concatenate([labels[0], labels[-1], labels[:, -1]])
  air = np.isin(labels, np.unique(edges[edges > 0]))
  return ~air if mask.any() else mask


def smoothed(values: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
  """A map smoothed by a Gaussian within a mask.

  Args:
    values: (H, W) float32, 0 outside the mask.
    mask: (H, W) bool.
    sigma: in pixels; 0 changes nothing.

  Returns:
    (H, W) float32, 0 outside the mask. Beyond the breast lies nothing, so that
    a value at the skin line counts no more than the same one within.
  """
  if not sigma:
    return values
  reach = max(1, round(3 * sigma))
  weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
  weights /= weights.sum()
  found = values.astype(np.float64)
  for axis in (0, 1):
    found = np.apply_along_axis(np.convolve, axis, found, weights, 'full')
    found = np.take(found, np.arange(reach, found.shape[axis] - reach), axis)
  return np.where(mask, found, 0).astype(np.float32)


def peak(
  values: np.ndarray, to_original: np.ndarray
) -> tuple[float, float] | None:
  """(x, y) in original pixels of a map's highest value; None if not above 0.

  Of equal values the one nearest to the middle of them counts.
  """
  highest = values.max(initial=0)
  if not highest > 0:
    return None
  rows, columns = np.nonzero(values == highest)
  away = np.hypot(rows - rows.mean(), columns - columns.mean())
  middle = int(np.argmin(away))
  x, y = to_original @ (columns[middle] + 0.5, rows[middle] + 0.5, 1.0)
  return float(x), float(y)


def map_back(
  values: np.ndarray,
  to_original: np.ndarray,
  original_shape: tuple[int, int],
  shape: tuple[int, int] | None = None,
  mask: np.ndarray | None = None,
) -> np.ndarray:
  """A map over a standard image as one over the original.

  Args:
    values: (H, W) float32.
    to_original: (2, 3) as in `preprocess.StandardImage`; it scales, shifts and
      exchanges left and right, and does no more.
    original_shape: rows and columns.
    shape: (h, w) of a smaller copy of the original; None: its own.
    mask: (H, W) bool, the pixels that count; None: all.

  Returns:
    (h, w) float32, linear between the centres of the map's pixels; 0 where the
    standard image does not reach, and in pixels that do not count.
  """
  h, w = original_shape if shape is None else shape
  rows, cols = original_shape
  ys = (np.arange(h) + 0.5) * (rows / h)
  xs = (np.arange(w) + 0.5) * (cols / w)
  ys = (ys - to_original[1, 2]) / to_original[1, 1]
  xs = (xs - to_original[0, 2]) / to_original[0, 0]
  found = _taken(values.astype(np.float32), ys)
  found = np.ascontiguousarray(_taken(found.T, xs).T)
  if mask is not None:
    # The outline between the centres of pixels, rather than their corners:
    # one of them is ten or more pixels of an original.
    counts = _taken(_taken(mask.astype(np.float32), ys).T, xs).T
    found[counts < 0.5] = 0
  return found


def _taken(values: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Rows of `values` at continuous places; zeros outside."""
  n = len(values)
  place = np.clip(at - 0.5, 0, n - 1)
  below = np.minimum(place.astype(np.int64), max(n - 2, 0))
  above = np.minimum(below + 1, n - 1)
  weight = (place - below).astype(np.float32)[:, None]
  found = (1 - weight) * values[below] + weight * values[above]
  found[(at < 0) | (at >= n)] = 0
  return found
