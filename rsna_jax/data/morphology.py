"""Growing and shrinking masks by squares, at a cost that no radius changes."""

import numpy as np


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
  """A mask grown by `radius` pixels in rows and columns.

  Args:
    mask: (rows, cols) bool; nothing lies outside of it.
    radius: in pixels, 0 or more.
  """
  for axis in (0, 1):
    pad = [(0, 0), (0, 0)]
    pad[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(mask, pad), axis=axis, dtype=np.int32)
    last = sums.shape[axis] - 1
    ends = np.take(sums, np.arange(2 * radius + 1, last + 1), axis=axis)
    starts = np.take(sums, np.arange(last - 2 * radius), axis=axis)
    mask = ends > starts
  return mask


def eroded(mask: np.ndarray, radius: int) -> np.ndarray:
  """A mask shrunk by `radius` pixels, but not from the picture's edge."""
  return ~dilated(~mask, radius)


def opened(mask: np.ndarray, radius: int) -> np.ndarray:
  """The mask without what is narrower than 2 * `radius` + 1 pixels."""
  return dilated(eroded(mask, radius), radius)
