"""Connected components of a small mask, in numpy and a few lines of Python."""

import numpy as np


def label(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Labels the 4-connected components of a mask.

  Args:
    mask: (rows, cols) bool.

  Returns:
    (rows, cols) int32, 0 outside, 1 to n inside; and (n,) int64, the number of
    pixels of each component.
  """
  rows, cols = mask.shape
  padded = np.zeros((rows, cols + 2), np.int8)
  padded[:, 1:-1] = mask
  steps = np.diff(padded, axis=1)
  # Runs of a row, in reading order: start, and one past the end.
  run_rows, starts = np.nonzero(steps == 1)
  ends = np.nonzero(steps == -1)[1]
  first = np.searchsorted(run_rows, np.arange(rows + 1))
  parent = list(range(len(starts)))

  def root(run: int) -> int:
    while parent[run] != run:
      parent[run] = parent[parent[run]]
      run = parent[run]
    return run

  starts_list, ends_list = starts.tolist(), ends.tolist()
  for row in range(1, rows):
    above, here = int(first[row - 1]), int(first[row])
    stop_above, stop_here = here, int(first[row + 1])
    while above < stop_above and here < stop_here:
      if (
        starts_list[above] < ends_list[here]
        and starts_list[here] < ends_list[above]
      ):
        a, b = root(above), root(here)
        parent[max(a, b)] = min(a, b)
      if ends_list[above] < ends_list[here]:
        above += 1
      else:
        here += 1
  roots = np.array([root(run) for run in range(len(parent))], np.int64)
  kinds, run_labels = np.unique(roots, return_inverse=True)
  lengths = ends - starts
  sizes = np.bincount(run_labels, weights=lengths, minlength=len(kinds))
  labels = np.zeros(rows * cols, np.int32)
  # A run's label is added where it starts and taken away where it ends.
  flat = np.zeros(rows * cols + 1, np.int64)
  np.add.at(flat, run_rows * cols + starts, run_labels + 1)
  np.subtract.at(flat, run_rows * cols + ends, run_labels + 1)
  labels[:] = np.cumsum(flat[:-1])
  return labels.reshape(rows, cols), sizes.astype(np.int64)
