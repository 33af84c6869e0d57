"""Area resizing with exact pixel shares, of integers without a float copy.

Pillow's BOX filter gives a pixel wholly or not at all, which shifts edges by up
to half a pixel; here output pixel i is the mean over [i, i + 1) * scale.
"""

import numpy as np


def area(
  image: np.ndarray,
  size: tuple[int, int],
  box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
  """Resizes by area means, and linearly along an axis that grows.

  Args:
    image: (rows, cols) numbers.
    size: rows and columns of the result, at least 1 each.
    box: top, left, bottom, right of the part to resize, in pixels, pixel i
      covering [i, i + 1); the edges of the image are repeated beyond it. None:
      all of it.

  Returns:
    size float32.
  """
  top, left, bottom, right = box or (0.0, 0.0, *map(float, image.shape))
  # Rows first: they lie in one piece in memory, so this is the cheap axis.
  shorter = _along_rows(image, size[0], top, bottom)
  return np.ascontiguousarray(
    _along_rows(np.ascontiguousarray(shorter.T), size[1], left, right).T
  )


def _along_rows(
  image: np.ndarray, n: int, start: float, end: float
) -> np.ndarray:
  rows = image.shape[0]
  if n == rows and start == 0 and end == rows:
    return image.astype(np.float32)
  scale = (end - start) / n
  if scale < 1:
    return _linear(image, n, start, scale)
  edges = start + np.arange(n + 1) * scale
  edges[-1] = end
  # Beyond the image an edge's share of the last pixel passes 0 or 1.
  whole = np.clip(edges.astype(np.int64), 0, rows - 1)
  share = (edges - whole).astype(np.float32)[:, None]
  # Sums from the pixel that holds an edge up to the next such pixel.
  sums = np.add.reduceat(
    image[: whole[-1] + 1], whole[:-1], axis=0, dtype=_sum_dtype(image.dtype)
  ).astype(np.float32)
  sums[-1] -= image[whole[-1]]
  # Of no pixels, reduceat takes the first one after them.
  sums[:-1][whole[1:-1] == whole[:-2]] = 0
  edge_rows = image[whole].astype(np.float32) * share
  sums += edge_rows[1:]
  sums -= edge_rows[:-1]
  sums *= np.float32(1 / scale)
  return sums


def _sum_dtype(dtype: np.dtype) -> np.dtype:
  if dtype.kind == 'f':
    return np.dtype(np.float32)
  # A row of 2 ** 16 pixels of 16 bits still fits, and same-width sums are fast.
  return np.dtype(np.uint32 if dtype.kind in 'ub' else np.int32)


def _linear(
  image: np.ndarray, n: int, start: float, scale: float
) -> np.ndarray:
  rows = image.shape[0]
  centres = start + (np.arange(n) + 0.5) * scale - 0.5
  centres = np.clip(centres, 0, rows - 1)
  below = np.minimum(centres.astype(np.int64), max(rows - 2, 0))
  weight = (centres - below).astype(np.float32)[:, None]
  above = np.minimum(below + 1, rows - 1)
  return (1 - weight) * image[below] + weight * image[above].astype(np.float32)
