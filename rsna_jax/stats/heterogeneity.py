"""Whether the groups of a column differ by more than chance.

Groups may share patients (the two sides, the views) or cases (all negatives),
so that their figures are not independent: the test takes their covariance.
"""

from collections.abc import Sequence

import numpy as np

from rsna_jax.stats import delong, distributions


def test(values: np.ndarray, covariance: np.ndarray) -> dict[str, float]:
  """Cochran's Q of K figures, for dependent ones too.

  Args:
    values: (K,).
    covariance: (K, K); a diagonal one gives Cochran's Q itself.

  Returns:
    {'q', 'freedom', 'p', 'i_squared'}: the squared distance of the figures from
    their common value, in units of their errors; `freedom` is the number of
    independent differences; I squared the share of it beyond chance.
  """
  values = np.asarray(values, np.float64)
  apart = np.eye(len(values))[1:] - np.eye(len(values))[:1]
  differences = apart @ values
  spread = apart @ np.asarray(covariance, np.float64) @ apart.T
  inverse = np.linalg.pinv(spread, rcond=1e-12, hermitian=True)
  q = float(differences @ inverse @ differences)
  freedom = int(np.linalg.matrix_rank(spread, hermitian=True))
  return {
    'q': q,
    'freedom': freedom,
    'p': distributions.chi_square_p(q, freedom),
    'i_squared': max(0.0, 1 - freedom / q) if q > 0 else 0.0,
  }


def of_aucs(
  labels: np.ndarray,
  probabilities: np.ndarray,
  patients: np.ndarray,
  groups: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
  """Areas under the ROC curve of groups of rows, and their covariance.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,); those of several groups make them depend on one another.
    groups: K arrays (N,) bool, each with both classes.

  Returns:
    (K,) and (K, K), by the influence of each patient.
  """
  unique, member = np.unique(patients, return_inverse=True)
  size = len(unique)
  moved = np.stack(
    [
      delong.influence(labels[x], probabilities[x], member[x], size)
      for x in groups
    ]
  )
  areas = [delong.placements(labels[x], probabilities[x]).auc for x in groups]
  return np.array(areas), moved @ moved.T * (size / max(size - 1, 1))


def gap(
  labels: np.ndarray,
  probabilities: np.ndarray,
  patients: np.ndarray,
  first: np.ndarray,
  second: np.ndarray,
) -> dict[str, float]:
  """How much the area of one group of rows exceeds that of another.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,).
    first: (N,) bool.
    second: (N,) bool.

  Returns:
    {'gap', 'low', 'high'} at 95 %.
  """
  areas, found = of_aucs(labels, probabilities, patients, [first, second])
  value = float(areas[0] - areas[1])
  variance = max(found[0, 0] + found[1, 1] - 2 * found[0, 1], 0.0)
  half = distributions.normal_quantile(0.95) * float(np.sqrt(variance))
  return {'gap': value, 'low': value - half, 'high': value + half}
