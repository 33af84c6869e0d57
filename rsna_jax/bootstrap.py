"""Intervals by resampling whole patients, for thousands of resamples at once.

A resample is a count for each patient, so a figure of it is a weighted figure
of the examples as they are: sorted once, summed per resample, in blocks that
bound the memory. Numpy only.
"""

import math
from collections.abc import Iterator

import numpy as np

from rsna_jax import errors, metrics, multiclass

_BLOCK_WEIGHTS = 2_000_000  # weights held at a time, in a few arrays


class Resamples:
  """How often each patient is drawn, in each of `n` resamples.

  One object serves breasts, images and subgroups, so that their figures come
  from the same draws.

  Attributes:
    patients: (G,) the different patients, sorted.
    counts: (n, G) uint8; each row adds up to G.
  """

  def __init__(self, patients: np.ndarray, *, n: int, seed: int):
    """Draws whole patients with replacement.

    Args:
      patients: (N,) ids, repeats allowed.
      n: number of resamples.
      seed: of a Philox stream.

    Raises:
      errors.DataError: there is no patient.
    """
    self.patients = np.unique(np.asarray(patients))
    size = len(self.patients)
    if not size:
      raise errors.DataError(
        'nothing to resample: no example has a known label'
      )
    generator = np.random.Generator(np.random.Philox(seed))
    # A patient is drawn about once: 256 times has a chance below 1e-500.
    dtype = np.uint8
    self.counts = np.empty((n, size), dtype)
    for row in self.counts:  # one at a time, because a row stays in the cache
      row[:] = np.bincount(generator.integers(0, size, size), minlength=size)

  def __len__(self) -> int:
    return len(self.counts)

  def members(self, patients: np.ndarray) -> np.ndarray:
    """(N,) int64 columns of `counts` that belong to (N,) ids."""
    patients = np.asarray(patients)
    found = np.searchsorted(self.patients, patients)
    found = np.minimum(found, len(self.patients) - 1)
    strange = patients[self.patients[found] != patients]
    if len(strange):
      raise errors.DataError(
        f'patient {strange[0]} is not among the resampled ones'
      )
    return found

  def blocks(self, width: int) -> Iterator[slice]:
    """Slices of the resamples that bound the memory of `width` weights."""
    rows = max(1, _BLOCK_WEIGHTS // max(width, 1))
    for start in range(0, len(self), rows):
      yield slice(start, min(start + rows, len(self)))


def binary(
  labels,
  probabilities,
  patients,
  resamples: Resamples,
  *,
  predicted=None,
  names: tuple[str, ...] | None = None,
) -> dict[str, np.ndarray]:
  """Figures of each resample of the patients.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,) patient of each example; a patient is drawn as a whole.
    resamples: of these patients, or of more.
    predicted: (N,) bool decisions, behind the figure `f1`, or None.
    names: which figures, None for all of: roc_auc, average_precision,
      sensitivity_at_90_specificity, specificity_at_90_sensitivity, pf1, brier,
      log_loss, ece, and f1 where `predicted` is given.

  Returns:
    name -> (n,) float64, NaN where a resample does not define the figure.
  """
  labels = np.asarray(labels)
  probabilities = np.asarray(probabilities, np.float64)
  member = resamples.members(patients)
  ranking = metrics.Ranking(labels, probabilities)
  of_counts = {
    'roc_auc': metrics.roc_auc_of,
    'average_precision': metrics.average_precision_of,
    'sensitivity_at_90_specificity': (
      lambda c: metrics.sensitivity_at_specificity_of(c, 0.9)
    ),
    'specificity_at_90_sensitivity': (
      lambda c: metrics.specificity_at_sensitivity_of(c, 0.9)
    ),
  }
  of_sums = _sum_figures(labels, probabilities, predicted)
  names = (*of_counts, *of_sums) if names is None else tuple(names)
  unknown = [x for x in names if x not in of_counts and x not in of_sums]
  if unknown:
    choices = ', '.join([*of_counts, *of_sums])
    raise errors.InputError(f'no figure {unknown[0]!r}: choose from {choices}')
  ranked = [x for x in names if x in of_counts]
  summed, columns, width = {}, [], 0
  for x in (x for x in names if x in of_sums):
    table, of_block = of_sums[x]
    summed[x] = slice(width, width + table.shape[1]), of_block
    columns.append(table)
    width += table.shape[1]
  if summed:  # one product for all of them
    per_patient = _by_patient(np.concatenate(columns, 1), member, resamples)
  values = {x: np.empty(len(resamples)) for x in names}
  place = member[ranking.order]
  for rows in resamples.blocks(len(labels)):
    drawn = resamples.counts[rows]
    if ranked:
      weights = np.take(drawn, place, axis=1).astype(np.int32)
      counts = ranking.counts(weights)
      for x in ranked:
        values[x][rows] = of_counts[x](counts)
    if summed:
      sums = drawn.astype(np.float64) @ per_patient
      for x, (part, of_block) in summed.items():
        values[x][rows] = of_block(sums[:, part])
  return values


def classes(
  labels, predicted, patients, resamples: Resamples, *, classes: int
) -> dict[str, np.ndarray]:
  """Accuracy, macro_f1 and quadratic_kappa of each resample of the patients.

  Args:
    labels: (N,) int, 0 to classes - 1.
    predicted: (N,) int, 0 to classes - 1.
    patients: (N,) patient of each example.
    resamples: of these patients, or of more.
    classes: number of classes.

  Returns:
    name -> (n,) float64.
  """
  member = resamples.members(patients)
  cell = np.asarray(labels) * classes + np.asarray(predicted)
  size, cells = len(resamples.patients), classes * classes
  table = np.bincount(member * cells + cell, minlength=size * cells)
  table = table.reshape(size, cells).astype(np.float64)
  stack = np.concatenate(
    [
      resamples.counts[rows].astype(np.float64) @ table
      for rows in resamples.blocks(size)
    ]
  ).reshape(-1, classes, classes)
  return {
    'accuracy': multiclass.accuracy(stack),
    'macro_f1': multiclass.macro_f1(stack),
    'quadratic_kappa': multiclass.quadratic_kappa(stack),
  }


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
  """Percentile interval of the resamples that define the figure, else NaN."""
  values = values[np.isfinite(values)]
  if not len(values):
    return float('nan'), float('nan')
  tail = (1 - level) / 2
  low, high = np.quantile(values, [tail, 1 - tail])
  return float(low), float(high)


def figure(value: float, samples: np.ndarray | None) -> dict:
  """{'value', 'low', 'high'} for JSON; None where one is not defined."""
  low = high = float('nan')
  if samples is not None:
    low, high = interval(samples)
  return {'value': number(value), 'low': number(low), 'high': number(high)}


def number(value) -> float | None:
  """A finite float, or None: JSON knows neither NaN nor infinity."""
  value = float(value)
  return value if math.isfinite(value) else None


def _sum_figures(labels, probabilities, predicted) -> dict:
  """name -> ((N, S) columns to sum, figure of the (B, S) sums)."""
  ones = np.ones(len(labels))
  clipped = np.clip(probabilities, 0.0, 1.0)

  def mean(sums):
    return sums[:, 0] / sums[:, 1]

  def f_score(sums):
    return metrics.f_score_of(sums[:, 0], sums[:, 1], sums[:, 2])

  bins = 10
  gaps = np.zeros((len(labels), bins + 1))
  index = metrics.calibration_bins(probabilities, bins)
  gaps[np.arange(len(labels)), index] = labels - probabilities
  gaps[:, bins] = 1.0
  figures = {
    'pf1': (np.stack([clipped * labels, clipped, labels], axis=1), f_score),
    'brier': (
      np.stack([metrics.squared_errors(labels, probabilities), ones], axis=1),
      mean,
    ),
    'log_loss': (
      np.stack([metrics.log_losses(labels, probabilities), ones], axis=1),
      mean,
    ),
    'ece': (
      gaps,
      lambda sums: np.abs(sums[:, :bins]).sum(axis=1) / sums[:, bins],
    ),
  }
  if predicted is not None:
    chosen = np.asarray(predicted, np.float64)
    figures['f1'] = (
      np.stack([chosen * labels, chosen, labels], axis=1),
      f_score,
    )
  return figures


def _by_patient(
  columns: np.ndarray, member: np.ndarray, resamples: Resamples
) -> np.ndarray:
  """(G, S) sums of the rows of each patient."""
  size = len(resamples.patients)
  sums = [np.bincount(member, column, minlength=size) for column in columns.T]
  return np.stack(sums, axis=1)
