"""Figures that are a function of sums over examples, for the bootstrap.

A resample of patients then costs one product of matrices for all of them.
"""

from collections.abc import Callable

import numpy as np

from rsna_jax import metrics

Figure = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]

_BINS = 10  # of the calibration error


def figures(labels, probabilities, predicted=None) -> dict[str, Figure]:
  """The columns to sum and what to make of the sums, for each figure.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    predicted: (N,) bool decisions, or None for none.

  Returns:
    name -> ((N, S) float64 columns, function of (B, S) sums to (B,)). Of
    probabilities: pf1, brier, log_loss, ece and calibration_in_the_large, the
    observed rate less the predicted one. Of decisions: f1 and `decided`.
  """
  labels = np.asarray(labels, np.float64)
  p = np.asarray(probabilities, np.float64)
  ones = np.ones(len(labels))
  clipped = np.clip(p, 0.0, 1.0)
  gaps = np.zeros((len(labels), _BINS + 1))
  index = metrics.calibration_bins(p, _BINS)
  gaps[np.arange(len(labels)), index] = labels - p
  gaps[:, _BINS] = 1.0

  def mean_of(column) -> Figure:
    return np.stack([column, ones], axis=1), share

  found = {
    'pf1': (np.stack([clipped * labels, clipped, labels], axis=1), f_score),
    'brier': mean_of(metrics.squared_errors(labels, p)),
    'log_loss': mean_of(metrics.log_losses(labels, p)),
    'ece': (
      gaps,
      lambda s: metrics.ratio(
        np.abs(s[:, :_BINS]).sum(axis=1), s[:, _BINS], np.nan
      ),
    ),
    'calibration_in_the_large': mean_of(labels - p),
  }
  if predicted is not None:
    found |= decided(labels, predicted)
  return found


def decided(labels, predicted) -> dict[str, Figure]:
  """The columns and functions of figures of yes or no, as in `figures`.

  They are f1, sensitivity, specificity, ppv, npv and recall_rate, the share
  that is called positive; NaN where there is nothing to divide by, but f1 is 0.
  """
  y = np.asarray(labels, np.float64)
  called = np.asarray(predicted, np.float64)
  ones = np.ones(len(y))

  def pair(top, bottom) -> Figure:
    return np.stack([top, bottom], axis=1), share

  return {
    'f1': (np.stack([called * y, called, y], axis=1), f_score),
    'sensitivity': pair(called * y, y),
    'specificity': pair((1 - called) * (1 - y), 1 - y),
    'ppv': pair(called * y, called),
    'npv': pair((1 - called) * (1 - y), 1 - called),
    'recall_rate': pair(called, ones),
  }


def share(sums: np.ndarray) -> np.ndarray:
  """(B,) the first of (B, 2) sums over the second, NaN of nothing."""
  return metrics.ratio(sums[:, 0], sums[:, 1], np.nan)


def f_score(sums: np.ndarray) -> np.ndarray:
  """(B,) F1 of (B, 3) sums: hits, called, actual."""
  return metrics.f_score_of(sums[:, 0], sums[:, 1], sums[:, 2])


def value(figure: Figure) -> float:
  """The figure of the examples as they are."""
  columns, of_sums = figure
  return float(of_sums(columns.sum(axis=0, keepdims=True))[0])
