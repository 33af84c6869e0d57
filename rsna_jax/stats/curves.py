"""Parts of the ROC curve, and the sweep over every threshold.

What a reader of screening mammograms asks of a curve: not all of its area, but
the part at few false alarms, or at the share of women that can be recalled.
"""

from typing import NamedTuple

import numpy as np

from rsna_jax import errors, metrics


class Sweep(NamedTuple):
  """Counts and figures at every distinct score, from the highest: (K,) each."""

  thresholds: np.ndarray
  tp: np.ndarray
  fp: np.ndarray
  sensitivity: np.ndarray
  specificity: np.ndarray
  precision: np.ndarray
  recall_rate: np.ndarray
  f1: np.ndarray


def sweep(labels, probabilities) -> Sweep:
  """Everything that a threshold decides, at each of the K distinct scores.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,); one on the threshold is called positive.

  Returns:
    Arrays of float64; NaN where a class that a figure needs is missing.
  """
  labels, p = metrics.checked(labels, probabilities)
  values, group = np.unique(-p, return_inverse=True)
  size = len(values)
  called = np.cumsum(np.bincount(group, minlength=size)).astype(np.float64)
  tp = np.cumsum(np.bincount(group, weights=labels, minlength=size))
  fp = called - tp
  positives, n = labels.sum(), len(labels)
  return Sweep(
    thresholds=-values,
    tp=tp,
    fp=fp,
    sensitivity=metrics.ratio(tp, positives, np.nan),
    specificity=1 - metrics.ratio(fp, n - positives, np.nan),
    precision=metrics.ratio(tp, called, np.nan),
    recall_rate=metrics.ratio(called, n, np.nan),
    f1=metrics.f_score_of(tp, called, positives),
  )


def partial_auc_of(c: metrics.Counts, max_fpr: float) -> np.ndarray:
  """(...,) `partial_auc` of counts."""
  if not 0 < max_fpr <= 1:
    raise errors.InputError(f'max_fpr={max_fpr}: give a rate above 0, up to 1')
  end = (max_fpr * c.negatives)[..., None]
  # Each group of ties lifts the curve by its positives, along a ramp over its
  # negatives; what counts is the area below, left of the end.
  width = c.fp - c.fp_before
  into = np.clip(end - c.fp_before, 0.0, width)
  on_ramp = into * into / 2 / np.where(width > 0, width, 1.0)
  area = (c.tp - c.tp_before) * (on_ramp + np.maximum(end - c.fp, 0.0))
  total = metrics.ratio(
    area.sum(axis=-1), c.positives * c.negatives, np.nan, also=c.positives
  )
  if max_fpr == 1:
    return total
  least, most = max_fpr * max_fpr / 2, max_fpr
  return (1 + (total - least) / (most - least)) / 2


def partial_auc(
  labels, probabilities, max_fpr: float = 0.1, weights=None
) -> float:
  """Area under the ROC curve up to a false-positive rate, from 0.5 to 1.

  Takes what `metrics.roc_auc` takes. 0.5 is chance and 1 perfect; NaN where a
  class is missing.

  Source: McClish, "Analyzing a portion of the ROC curve", 1989; the area is
  scikit-learn's `roc_auc_score(max_fpr=...)`.
  """
  c = metrics.counts(labels, probabilities, weights)
  return float(partial_auc_of(c, max_fpr))


def sensitivity_at_recall_rate_of(c: metrics.Counts, rate: float) -> np.ndarray:
  """(...,) `sensitivity_at_recall_rate` of counts."""
  allowed = (rate + 1e-12) * (c.positives + c.negatives)
  hits = np.where(c.tp + c.fp <= allowed[..., None], c.tp, 0.0)
  return metrics.ratio(hits.max(axis=-1, initial=0.0), c.positives, np.nan)


def sensitivity_at_recall_rate(
  labels, probabilities, rate: float = 0.1, weights=None
) -> float:
  """Highest sensitivity of a threshold that calls no more than a share.

  Radiologists call that share the recall rate: of all examined women, those
  who are asked to come back. NaN without positives.
  """
  c = metrics.counts(labels, probabilities, weights)
  return float(sensitivity_at_recall_rate_of(c, rate))
