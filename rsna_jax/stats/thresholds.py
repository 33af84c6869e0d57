"""Thresholds that are chosen on other data than they are applied to."""

import numpy as np

from rsna_jax import metrics


def divide(
  labels: np.ndarray, patients: np.ndarray, seed: int, parts: int = 2
) -> np.ndarray:
  """Deals patients out to parts, those with a positive by themselves.

  Args:
    labels: (N,) 0 or 1.
    patients: (N,).
    seed: of the deal.
    parts: how many.

  Returns:
    (N,) int64, 0 to parts - 1.
  """
  unique, member = np.unique(patients, return_inverse=True)
  ill = np.bincount(member, weights=labels, minlength=len(unique)) > 0
  shuffled = np.random.Generator(np.random.Philox(seed)).permutation(
    len(unique)
  )
  by_label = shuffled[np.argsort(ill[shuffled], kind='stable')]
  part = np.empty(len(unique), np.int64)
  part[by_label] = np.arange(len(unique)) % parts
  return part[member]


def cross_fit(
  labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[np.ndarray, list[float]]:
  """Calls each example by a threshold that its patient had no part in.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,); they are halved as `divide` does.
    seed: of the halves.

  Returns:
    (N,) bool, and the thresholds applied to the two halves; NaN, which calls
    nothing positive, where the other half has no positive.
  """
  side = divide(labels, patients, seed)
  called = np.zeros(len(labels), bool)
  applied = []
  for own in (0, 1):
    other, mine = side != own, side == own
    best, _ = metrics.best_threshold(labels[other], probabilities[other])
    called[mine] = probabilities[mine] >= best
    applied.append(best)
  return called, applied
