"""The closest rising function of a variable, by pooling adjacent violators."""

import numpy as np


def fit(x, y) -> tuple[np.ndarray, np.ndarray]:
  """Least squares under the constraint that y rises with x.

  Args:
    x: (N,) float, repeats allowed, at least one.
    y: (N,) float.

  Returns:
    (K,) x and (K,) y, both rising: the corners of the function, straight
    between them and level outside.

  Source: Barlow et al., "Statistical inference under order restrictions", 1972.
  """
  points, group = np.unique(np.asarray(x, np.float64), return_inverse=True)
  weight = np.bincount(group).astype(np.float64)
  total = np.bincount(group, weights=np.asarray(y, np.float64))
  sums, weights, ends = [], [], []
  for k, (value, size) in enumerate(
    zip(total.tolist(), weight.tolist(), strict=True)
  ):
    # Means are compared by products, which for counts are exact.
    while sums and sums[-1] * size >= value * weights[-1]:
      value += sums.pop()
      size += weights.pop()
      ends.pop()
    sums.append(value)
    weights.append(size)
    ends.append(k)
  ends = np.array(ends)
  starts = np.r_[0, ends[:-1] + 1]
  level = np.array(sums) / np.array(weights)
  # Both ends of each level stretch; one where they are the same point.
  places = np.stack([starts, ends], axis=1).ravel()
  keep = np.r_[True, places[1:] != places[:-1]]
  return points[places[keep]], np.repeat(level, 2)[keep]
