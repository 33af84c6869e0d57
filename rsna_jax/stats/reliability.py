"""How far probabilities can be taken at their word.

The bins are the data of a reliability plot; slope and intercept say the same
in two numbers, whose intervals take the examples of a patient together.
"""

import math

import numpy as np

from rsna_jax import metrics
from rsna_jax.stats import bootstrap, distributions, logistic

LEVEL = 0.95


def slope(labels, probabilities, patients=None) -> dict[str, dict]:
  """Calibration slope and intercept.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,) whose examples depend on one another; None: none do.

  Returns:
    {'slope', 'intercept'}: {'value', 'low', 'high'} each. A slope below 1 says
    too extreme; the intercept, with the slope held at 1, is the log odds that
    are lacking, so above 0 says too low. None where it is not defined: one
    class, or labels that the probabilities separate.

  Source: Cox, "Two further applications of a model for binary regression",
  1958; the intervals are by the sandwich of White.
  """
  y, p = metrics.checked(labels, probabilities)
  z = logistic.logit(p)
  unit = np.arange(len(y)) if patients is None else np.asarray(patients)
  _, member = np.unique(unit, return_inverse=True)
  ones = np.ones((len(y), 1))
  return {
    'slope': _coefficient(np.column_stack([z, ones]), y, member),
    'intercept': _coefficient(ones, y, member, offset=z),
  }


def bins(
  labels, probabilities, *, count: int = 10, equal: str = 'number'
) -> list[dict]:
  """The points of a reliability plot.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    count: of bins, at most.
    equal: in 'number' of examples, or in 'width'.

  Returns:
    For each bin that holds something {'n', 'positives', 'predicted' (mean),
    'low_edge', 'high_edge', 'observed': {'value', 'low', 'high'}}, the interval
    being Wilson's.
  """
  y, p = metrics.checked(labels, probabilities)
  if not len(y):
    return []
  if equal == 'width':
    index = metrics.calibration_bins(p, count)
  else:
    # Equal probabilities share a bin, or a tie would be split by file order.
    edges = np.unique(np.quantile(p, np.linspace(0, 1, count + 1)[1:-1]))
    index = np.searchsorted(edges, p, side='left')
  found = []
  for k in np.unique(index):
    rows = index == k
    n, positives = int(rows.sum()), int(y[rows].sum())
    low, high = distributions.wilson(positives, n, LEVEL)
    found.append(
      {
        'n': n,
        'positives': positives,
        'predicted': float(p[rows].mean()),
        'low_edge': float(p[rows].min()),
        'high_edge': float(p[rows].max()),
        'observed': {
          'value': positives / n,
          'low': float(low),
          'high': float(high),
        },
      }
    )
  return found


def _coefficient(columns, y, member, offset=0.0) -> dict | None:
  """The first coefficient and its interval."""
  if not 0 < y.sum() < len(y):
    return None
  # Probabilities all alike have no slope.
  if np.linalg.matrix_rank(columns) < columns.shape[1]:
    return None
  found = logistic.fit(columns, y, offset=offset)
  if not found.converged:
    return None
  residual = y - logistic.sigmoid(columns @ found.coefficients + offset)
  scores = np.stack(
    [np.bincount(member, weights=residual * x) for x in columns.T]
  )
  clusters = scores.shape[1]
  bread = np.linalg.inv(found.hessian)
  spread = bread @ (scores @ scores.T) @ bread * clusters / max(clusters - 1, 1)
  half = distributions.normal_quantile(LEVEL) * math.sqrt(spread[0, 0])
  value = float(found.coefficients[0])
  return {
    'value': bootstrap.number(value),
    'low': bootstrap.number(value - half),
    'high': bootstrap.number(value + half),
  }
