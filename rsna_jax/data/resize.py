"""Area resizing with exact pixel shares.

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
  upper, lower = edges[:-1], edges[1:]
  first = np.floor(upper).astype(np.int64)
  total = np.zeros((n, image.shape[1]), np.float32)
  # The k-th pixel under each output pixel, and its share of it.
  for k in range(int((np.ceil(lower) - first).max())):
    at = first + k
    share = np.minimum(at + 1, lower) - np.maximum(at, upper)
    share = np.clip(share / scale, 0, None).astype(np.float32)
    part = image[np.clip(at, 0, rows - 1)].astype(np.float32)
    part *= share[:, None]
    total += part
  return total


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
