"""The variance of the area under the ROC curve without resampling.

It stands beside the bootstrap as a second opinion that costs one sort, and it
gives the covariance of several areas, of which tests are made.

Sources: DeLong et al., "Comparing the areas under two or more correlated ROC
curves", 1988; the midranks of Sun and Xu, 2014; for several examples of one
patient Obuchowski, "Nonparametric analysis of clustered ROC curve data", 1997.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rsna_jax import metrics
from rsna_jax.stats import distributions


class Placements(NamedTuple):
  """`auc`, and where each of (N,) examples stands among the other class.

  `values` holds for a positive the share of negatives below it, and for a
  negative the share of positives above it; a tie counts half.
  """

  auc: float
  values: np.ndarray
  labels: np.ndarray


def placements(labels, scores) -> Placements:
  """The placements of labelled scores; NaN where a class is missing."""
  labels, scores = metrics.checked(labels, scores)
  positive = labels == 1
  m, n = int(positive.sum()), int((~positive).sum())
  if not m or not n:
    return Placements(math.nan, np.full(len(labels), math.nan), labels)
  values = np.empty(len(labels))
  together = _midranks(scores)
  for side, others in ((positive, n), (~positive, m)):
    values[side] = (together[side] - _midranks(scores[side])) / others
  values[~positive] = 1 - values[~positive]
  return Placements(float(values[positive].mean()), values, labels)


def covariance(
  labels, scores: Sequence[np.ndarray], patients=None
) -> tuple[np.ndarray, np.ndarray]:
  """Areas of K sets of scores of the same examples, and their covariance.

  Args:
    labels: (N,) 0 or 1.
    scores: K arrays (N,).
    patients: (N,) whose examples depend on one another (Obuchowski); None:
      each example is independent (DeLong).

  Returns:
    (K,) areas and (K, K); NaN where a class has fewer than two examples, or
    two patients.
  """
  found = [placements(labels, one) for one in scores]
  y = found[0].labels
  areas = np.array([one.auc for one in found])
  if patients is None:
    member, size = np.arange(len(y)), len(y)
  else:
    unique, member = np.unique(np.asarray(patients), return_inverse=True)
    size = len(unique)
  m, n = int(y.sum()), int((1 - y).sum())
  sick = len(np.unique(member[y == 1]))
  well = len(np.unique(member[y == 0]))
  if sick < 2 or well < 2:
    return areas, np.full((len(areas), len(areas)), math.nan)
  of_sick, of_well = (
    np.stack(
      [
        np.bincount(
          member, weights=(one.values - one.auc) * (y == kind), minlength=size
        )
        for one in found
      ]
    )
    for kind in (1, 0)
  )
  both = of_sick @ of_well.T
  return areas, (
    sick / (sick - 1) * (of_sick @ of_sick.T) / m**2
    + well / (well - 1) * (of_well @ of_well.T) / n**2
    + size / (size - 1) * (both + both.T) / (m * n)
  )


def interval(
  labels, scores, patients=None, level: float = 0.95
) -> dict[str, float]:
  """The area with its standard error and interval.

  Args:
    labels: (N,) 0 or 1.
    scores: (N,).
    patients: as in `covariance`.
    level: of the interval.

  Returns:
    {'value', 'low', 'high', 'se'}; the ends stay in [0, 1], and are NaN where
    `covariance` is, and where the classes are separated, whose error is 0.
  """
  areas, found = covariance(labels, [scores], patients)
  error = math.sqrt(max(found[0, 0], 0.0)) if not _nan(found) else math.nan
  half = distributions.normal_quantile(level) * error
  area = float(areas[0])
  if not error and area in (0.0, 1.0):  # complete separation is no certainty
    half = math.nan
  return {
    'value': area,
    'low': max(area - half, 0.0) if not _nan(half) else math.nan,
    'high': min(area + half, 1.0) if not _nan(half) else math.nan,
    'se': error,
  }


def difference(
  labels, first, second, patients=None, level: float = 0.95
) -> dict[str, float]:
  """The paired test of two sets of scores of the same examples.

  Args:
    labels: (N,) 0 or 1.
    first: (N,) scores.
    second: (N,) scores.
    patients: as in `covariance`.
    level: of the interval.

  Returns:
    {'value' (area of the first less that of the second), 'low', 'high', 'se',
    'z', 'p'}; equal rankings have p 1.
  """
  areas, found = covariance(labels, [first, second], patients)
  value = float(areas[0] - areas[1])
  variance = float(found[0, 0] + found[1, 1] - 2 * found[0, 1])
  # Equal rankings leave a rounding error, of either sign.
  if abs(value) < 1e-15 and variance < 1e-20:
    variance = value = 0.0
  error = math.sqrt(max(variance, 0.0)) if not _nan(variance) else math.nan
  if _nan(error):
    z = p = math.nan
  elif not error:
    z = math.copysign(math.inf, value) if value else 0.0
    p = 0.0 if value else 1.0
  else:
    z = value / error
    p = distributions.normal_p(z)
  half = distributions.normal_quantile(level) * error
  return {
    'value': value,
    'low': value - half,
    'high': value + half,
    'se': error,
    'z': z,
    'p': p,
  }


def influence(labels, scores, member: np.ndarray, size: int) -> np.ndarray:
  """(size,) how far each patient moves the area; their squares add to a
  variance, and their products to a covariance of areas of different groups.

  Args:
    labels: (N,) 0 or 1, both present.
    scores: (N,).
    member: (N,) int, 0 to size - 1, the patient.
    size: number of patients.
  """
  auc, values, y = placements(labels, scores)
  weight = np.where(y == 1, 1 / y.sum(), 1 / (1 - y).sum())
  return np.bincount(member, weights=(values - auc) * weight, minlength=size)


def _midranks(scores: np.ndarray) -> np.ndarray:
  """(N,) ranks from 1, tied scores sharing their mean."""
  _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts - 1) / 2)[group]


def _nan(value) -> bool:
  return bool(np.isnan(value).any())
