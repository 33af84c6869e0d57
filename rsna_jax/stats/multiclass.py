"""Figures of a classifier of K classes, all from its confusion matrix.

Numpy only. A stack of confusion matrices gives a stack of figures, which is how
the bootstrap calls them.
"""

import numpy as np


def confusion(labels, predicted, classes: int) -> np.ndarray:
  """(K, K) int64: rows are true classes, columns predicted ones.

  Args:
    labels: (N,) int, 0 to classes - 1.
    predicted: (N,) int, 0 to classes - 1.
    classes: K.
  """
  cell = np.asarray(labels, np.int64) * classes + np.asarray(
    predicted, np.int64
  )
  counts = np.bincount(cell, minlength=classes * classes)
  return counts.reshape(classes, classes)


def accuracy(matrix: np.ndarray) -> np.ndarray:
  """(...,) share of examples on the diagonal of (..., K, K); NaN of nothing."""
  matrix = np.asarray(matrix, np.float64)
  total = matrix.sum(axis=(-2, -1))
  return _ratio(np.trace(matrix, axis1=-2, axis2=-1), total)


def macro_f1(matrix: np.ndarray) -> np.ndarray:
  """(...,) mean F1 of the classes that are true or predicted somewhere."""
  matrix = np.asarray(matrix, np.float64)
  hits = np.diagonal(matrix, axis1=-2, axis2=-1)
  size = matrix.sum(axis=-1) + matrix.sum(axis=-2)
  f1 = 2 * hits / np.where(size > 0, size, 1.0)
  return _ratio(f1.sum(axis=-1), (size > 0).sum(axis=-1))


def recalls(matrix: np.ndarray) -> np.ndarray:
  """(..., K) share of each true class that is found; NaN without a case."""
  matrix = np.asarray(matrix, np.float64)
  return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1))


def quadratic_kappa(matrix: np.ndarray) -> np.ndarray:
  """(...,) Cohen's kappa with quadratic weights, for ordered classes.

  NaN where no disagreement is possible: all labels and predictions of one
  class.
  """
  return kappa(matrix, 2.0)


def linear_kappa(matrix: np.ndarray) -> np.ndarray:
  """(...,) Cohen's kappa with linear weights; NaN as in `quadratic_kappa`."""
  return kappa(matrix, 1.0)


def kappa(matrix: np.ndarray, power: float) -> np.ndarray:
  """(...,) Cohen's kappa of (..., K, K); a miss costs its steps ** power.

  With power 0 every miss costs the same.
  """
  matrix = np.asarray(matrix, np.float64)
  steps = np.arange(matrix.shape[-1])
  apart = np.abs(steps[:, None] - steps[None, :])
  cost = np.where(apart > 0, np.maximum(apart, 1.0) ** power, 0.0)
  total = matrix.sum(axis=(-2, -1))
  by_chance = (
    matrix.sum(axis=-1)[..., :, None] * matrix.sum(axis=-2)[..., None, :]
  )
  expected = (cost * by_chance).sum(axis=(-2, -1))
  observed = (cost * matrix).sum(axis=(-2, -1)) * total
  return 1 - _ratio(observed, expected)


def dense_kappa(matrix: np.ndarray) -> np.ndarray:
  """(...,) kappa of the upper half of the classes against the lower.

  Of BI-RADS densities: dense (C and D) against not dense (A and B).
  """
  matrix = np.asarray(matrix, np.float64)
  half = matrix.shape[-1] // 2
  rows = np.stack(
    [matrix[..., :half, :].sum(-2), matrix[..., half:, :].sum(-2)], axis=-2
  )
  both = np.stack([rows[..., :half].sum(-1), rows[..., half:].sum(-1)], axis=-1)
  return kappa(both, 0.0)


def ordinal_mae(matrix: np.ndarray) -> np.ndarray:
  """(...,) mean distance in classes of the predicted from the true one."""
  matrix = np.asarray(matrix, np.float64)
  steps = np.arange(matrix.shape[-1])
  apart = np.abs(steps[:, None] - steps[None, :])
  return _ratio((apart * matrix).sum((-2, -1)), matrix.sum(axis=(-2, -1)))


def figures(matrix: np.ndarray) -> dict[str, np.ndarray]:
  """Every figure of (..., K, K): (...,) each, and `recall` (..., K)."""
  return {
    'accuracy': accuracy(matrix),
    'macro_f1': macro_f1(matrix),
    'quadratic_kappa': quadratic_kappa(matrix),
    'linear_kappa': linear_kappa(matrix),
    'dense_kappa': dense_kappa(matrix),
    'ordinal_mae': ordinal_mae(matrix),
    'recall': recalls(matrix),
  }


def _ratio(top, bottom) -> np.ndarray:
  fine = bottom > 0
  return np.where(fine, top / np.where(fine, bottom, 1), np.nan)
