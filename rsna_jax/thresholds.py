"""Thresholds that are chosen on other data than they are applied to."""

import numpy as np

from rsna_jax import metrics


def cross_fit(
  labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[np.ndarray, list[float]]:
  """Calls each example by a threshold that its patient had no part in.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,); they are halved, those with a positive by themselves.
    seed: of the halves.

  Returns:
    (N,) bool, and the thresholds applied to the two halves; NaN, which calls
    nothing positive, where the other half has no positive.
  """
  unique, member = np.unique(patients, return_inverse=True)
  ill = np.bincount(member, weights=labels, minlength=len(unique)) > 0
  shuffled = np.random.Generator(np.random.Philox(seed)).permutation(
    len(unique)
  )
  by_label = shuffled[np.argsort(ill[shuffled], kind='stable')]
  half = np.empty(len(unique), np.int64)
  half[by_label] = np.arange(len(unique)) % 2
  side = half[member]
  called = np.zeros(len(labels), bool)
  applied = []
  for own in (0, 1):
    other, mine = side != own, side == own
    best, _ = metrics.best_threshold(labels[other], probabilities[other])
    called[mine] = probabilities[mine] >= best
    applied.append(best)
  return called, applied
