"""Area resizing with exact pixel shares, of integers without a float copy.

Pillow's BOX filter gives a pixel wholly or not at all, which shifts edges by up
to half a pixel; here output pixel i is the mean over [i, i + 1) * scale.
"""

import numpy as np


def area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes by area means, and linearly along an axis that grows.

  Args:
    image: (rows, cols) numbers.
    size: rows and columns of the result, at least 1 each.

  Returns:
    size float32.
  """
  # Rows first: they lie in one piece in memory, so this is the cheap axis.
  shorter = _along_rows(image, size[0])
  return np.ascontiguousarray(
    _along_rows(np.ascontiguousarray(shorter.T), size[1]).T
  )


def _along_rows(image: np.ndarray, n: int) -> np.ndarray:
  rows = image.shape[0]
  if n == rows:
    return image.astype(np.float32)
  if n > rows:
    return _linear(image, n)
  edges = np.arange(n + 1) * (rows / n)
  edges[-1] = rows
  whole = np.minimum(edges.astype(np.int64), rows - 1)
  share = (edges - whole).astype(np.float32)[:, None]
  # Sums from the pixel that holds an edge up to the next such pixel; the last
  # one ends before the last pixel, whose share is then 1.
  sums = np.add.reduceat(
    image, whole[:-1], axis=0, dtype=_sum_dtype(image.dtype)
  ).astype(np.float32)
  sums[-1] -= image[-1]
  edge_rows = image[whole].astype(np.float32) * share
  sums += edge_rows[1:]
  sums -= edge_rows[:-1]
  sums *= np.float32(n / rows)
  return sums


def _sum_dtype(dtype: np.dtype) -> np.dtype:
  if dtype.kind == 'f':
    return np.dtype(np.float32)
  # A row of 2 ** 16 pixels of 16 bits still fits, and same-width sums are fast.
  return np.dtype(np.uint32 if dtype.kind in 'ub' else np.int32)


def _linear(image: np.ndarray, n: int) -> np.ndarray:
  rows = image.shape[0]
  centres = np.clip((np.arange(n) + 0.5) * (rows / n) - 0.5, 0, rows - 1)
  below = np.minimum(centres.astype(np.int64), max(rows - 2, 0))
  weight = (centres - below).astype(np.float32)[:, None]
  above = np.minimum(below + 1, rows - 1)
  return (1 - weight) * image[below] + weight * image[above].astype(np.float32)
