"""Intervals by resampling whole patients, for thousands of resamples at once.

A resample is a count for each patient, so a figure of it is a weighted figure
of the examples as they are: sorted once, summed per resample, in blocks that
bound the memory. Numpy only.
"""

import concurrent.futures
import math
import os
from collections.abc import Callable

import numpy as np

from rsna_jax import errors, metrics
from rsna_jax.stats import curves, multiclass, sums

# Figures of a ranking, by their names in metrics.json.
OF_COUNTS = {
  'roc_auc': metrics.roc_auc_of,
  'average_precision': metrics.average_precision_of,
  'sensitivity_at_90_specificity': (
    lambda c: metrics.sensitivity_at_specificity_of(c, 0.9)
  ),
  'specificity_at_90_sensitivity': (
    lambda c: metrics.specificity_at_sensitivity_of(c, 0.9)
  ),
  'sensitivity_at_10_recall_rate': (
    lambda c: curves.sensitivity_at_recall_rate_of(c, 0.1)
  ),
  'partial_auc_10': lambda c: curves.partial_auc_of(c, 0.1),
}

_BLOCK_WEIGHTS = 2_000_000  # weights held by a thread, in a few arrays
_MOST_THREADS = 4
_MOST_RESAMPLES = 100_000  # far more than the ends of an interval need


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
      errors.ConfigError: more resamples than any memory holds.
    """
    if n > _MOST_RESAMPLES:
      raise errors.ConfigError(
        f'bootstrap={n}: give at most {_MOST_RESAMPLES} resamples'
      )
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

  def each_block(self, width: int, work: Callable[[slice], None]) -> None:
    """Calls `work` with slices that bound the memory of `width` weights.

    The blocks share the cores, because numpy lets go of the interpreter; work
    has to write its rows and nothing else.
    """
    rows = max(1, _BLOCK_WEIGHTS // max(width, 1))
    blocks = [slice(i, i + rows) for i in range(0, len(self), rows)]
    blocks = [slice(x.start, min(x.stop, len(self))) for x in blocks]
    workers = min(_MOST_THREADS, os.cpu_count() or 1, len(blocks))
    if workers < 2:
      for rows in blocks:
        work(rows)
      return
    with concurrent.futures.ThreadPoolExecutor(max(workers, 1)) as pool:
      for _ in pool.map(work, blocks):
        pass


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
    predicted: (N,) bool decisions, or None.
    names: which figures, None for all of: roc_auc, average_precision,
      sensitivity_at_90_specificity, specificity_at_90_sensitivity,
      sensitivity_at_10_recall_rate, partial_auc_10, and those of
      `sums.figures`.

  Returns:
    name -> (n,) float64, NaN where a resample does not define the figure.
  """
  labels = np.asarray(labels)
  probabilities = np.asarray(probabilities, np.float64)
  member = resamples.members(patients)
  ranking = metrics.Ranking(labels, probabilities)
  of_counts = OF_COUNTS
  of_sums = sums.figures(labels, probabilities, predicted)
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
  values = {x: np.empty(len(resamples)) for x in names}
  if summed:  # one product for all of them
    per_patient = _by_patient(np.concatenate(columns, 1), member, resamples)
    drawn = _products(per_patient, resamples)
    for x, (part, of_sums_of) in summed.items():
      values[x] = of_sums_of(drawn[:, part])
  place = member[ranking.order]

  def work(rows: slice) -> None:
    weights = np.take(resamples.counts[rows], place, axis=1)
    counts = ranking.counts(weights)
    for x in ranked:
      values[x][rows] = of_counts[x](counts)

  if ranked:
    resamples.each_block(len(labels), work)
  return values


def classes(
  labels, predicted, patients, resamples: Resamples, *, classes: int
) -> dict[str, np.ndarray]:
  """Figures of a confusion matrix for each resample of the patients.

  Args:
    labels: (N,) int, 0 to classes - 1.
    predicted: (N,) int, 0 to classes - 1.
    patients: (N,) patient of each example.
    resamples: of these patients, or of more.
    classes: number of classes.

  Returns:
    name -> (n,) float64, or (n, K) where the figure has one for each class:
    what `multiclass.figures` gives.
  """
  member = resamples.members(patients)
  cell = np.asarray(labels) * classes + np.asarray(predicted)
  size, cells = len(resamples.patients), classes * classes
  table = np.bincount(member * cells + cell, minlength=size * cells)
  table = table.reshape(size, cells).astype(np.float64)
  stack = _products(table, resamples).reshape(-1, classes, classes)
  return multiclass.figures(stack)


def totals(
  columns: np.ndarray, patients, resamples: Resamples, dtype=np.float64
) -> np.ndarray:
  """(n, S) sums of (N, S) columns over the rows of each resample.

  In float32 counts stay exact and take half the time.
  """
  member = resamples.members(patients)
  per_patient = _by_patient(columns, member, resamples)
  return _products(per_patient.astype(dtype), resamples)


def lone(labels, patients) -> bool:
  """Whether a class has one patient alone.

  A resample then holds this patient or none of the class, and would pass for
  certainty about patients of its kind.
  """
  labels, patients = np.asarray(labels), np.asarray(patients)
  return any(len(np.unique(patients[labels == k])) == 1 for k in (0, 1))


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


def _by_patient(
  columns: np.ndarray, member: np.ndarray, resamples: Resamples
) -> np.ndarray:
  """(G, S) sums of the rows of each patient."""
  size = len(resamples.patients)
  sums = [np.bincount(member, column, minlength=size) for column in columns.T]
  return np.stack(sums, axis=1)


def _products(per_patient: np.ndarray, resamples: Resamples) -> np.ndarray:
  """(n, S) sums of (G, S) over each resample, in their dtype."""
  found = np.empty((len(resamples), per_patient.shape[1]), per_patient.dtype)

  def work(rows: slice) -> None:
    drawn = resamples.counts[rows].astype(per_patient.dtype)
    found[rows] = drawn @ per_patient

  resamples.each_block(len(resamples.patients), work)
  return found
