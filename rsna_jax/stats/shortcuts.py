"""How well columns predict the label before anyone has looked at a pixel.

A column that does is a leak, where a test row lacks it, or a shortcut that a
network may take in place of the disease. Numpy only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsna_jax import metrics
from rsna_jax.stats import bootstrap

FOLDS = 5
# Fewer patients of either class than this say too little for a figure.
FEWEST_PATIENTS = 20
_BINS = 10
_PRIOR = 20.0  # images of the mean rate that every value is given
_MOST_VALUES = 50  # categories of a column; the rarest share one


class Labelled:
  """Labelled images, and the folds of their patients.

  Attributes:
    labels: (N,) 0 or 1.
    patients: (N,) running number of each image's patient.
    enough: whether there are patients enough of either class.
  """

  def __init__(
    self,
    labels: np.ndarray,
    patients: np.ndarray,
    *,
    resamples: int = 200,
    seed: int = 0,
  ):
    """Draws the folds and the resamples.

    Args:
      labels: (N,) 0 or 1.
      patients: (N,) identifiers.
      resamples: of the patients, for intervals.
      seed: of both.
    """
    self.labels = np.asarray(labels, np.int64)
    _, self.patients = np.unique(np.asarray(patients), return_inverse=True)
    count = int(self.patients.max(initial=-1)) + 1
    positive = np.zeros(count, bool)
    positive[self.patients[self.labels == 1]] = True
    fewest = min(int(positive.sum()), int(count - positive.sum()))
    self.enough = fewest >= FEWEST_PATIENTS
    # Positive patients are dealt out apart, so that no fold is without.
    fold = np.zeros(count, np.int64)
    chance = np.random.default_rng(seed)
    for kind in (positive, ~positive):
      members = chance.permutation(np.flatnonzero(kind))
      fold[members] = np.arange(len(members)) % FOLDS
    self.fold = fold[self.patients]
    self._resamples = (
      bootstrap.Resamples(self.patients, n=resamples, seed=seed)
      if self.enough
      else None
    )

  def auc(self, scores: np.ndarray) -> dict[str, float | None]:
    """ROC AUC within the folds, with a 95 % interval by patient.

    Scores of different folds come from different fits and are not compared:
    pooled, a column that says nothing would seem to say the opposite.

    Args:
      scores: (N,), those of a fold fitted on the others.
    """
    value, samples, total = 0.0, 0.0, 0.0
    for fold in range(FOLDS):
      rows = self.fold == fold
      y, p = self.labels[rows], scores[rows]
      pairs = float(y.sum() * (1 - y).sum())
      value += pairs * metrics.roc_auc(y, p)
      samples = (
        samples
        + pairs
        * (
          bootstrap.binary(
            y, p, self.patients[rows], self._resamples, names=('roc_auc',)
          )['roc_auc']
        )
      )
      total += pairs
    return bootstrap.figure(value / total, samples / total)


def single(found: Labelled, values: Sequence) -> dict[str, float | None] | None:
  """ROC AUC of one column alone: the rate of its value in the other folds.

  Args:
    found: the labelled images.
    values: (N,) plain values; None is a value of its own. Numbers of many
      values are cut into ten parts of equal size.

  Returns:
    {'value', 'low', 'high'}; None where there are too few patients.
  """
  if not found.enough:
    return None
  codes = _codes(values)
  scores = np.zeros(len(codes))
  for fold in range(FOLDS):
    train = found.fold != fold
    mean = found.labels[train].mean()
    size = int(codes.max()) + 1
    n = np.bincount(codes[train], minlength=size)
    hits = np.bincount(
      codes[train], weights=found.labels[train], minlength=size
    )
    rates = (hits + _PRIOR * mean) / (n + _PRIOR)
    scores[~train] = rates[codes[~train]]
  return found.auc(scores)


def together(
  found: Labelled, columns: Mapping[str, Sequence]
) -> dict[str, float | None] | None:
  """ROC AUC of several columns in a logistic regression, fold by fold.

  Args:
    found: the labelled images.
    columns: name -> (N,) values, as `single` takes them; at least one.
  """
  if not found.enough:
    return None
  codes = np.stack([_codes(values) for values in columns.values()])
  # Each column has slots of its own.
  sizes = codes.max(axis=1) + 1
  slots = codes + (np.cumsum(sizes) - sizes)[:, None]
  scores = np.zeros(codes.shape[1])
  for fold in range(FOLDS):
    train = found.fold != fold
    weights = _logistic(slots[:, train], found.labels[train], int(sizes.sum()))
    scores[~train] = weights[slots[:, ~train]].sum(axis=0)
  return found.auc(scores)


def _logistic(
  slots: np.ndarray, labels: np.ndarray, size: int, ridge: float = 3.0
) -> np.ndarray:
  """Weights of a logistic regression with a ridge, by Newton's method.

  Args:
    slots: (K, N) which K of the inputs are 1; the others are 0.
    labels: (N,) 0 or 1.
    size: number of inputs.
    ridge: of each weight; the bias has none, and is left out of the answer.
  """
  penalty = np.append(np.full(size, ridge), 1e-6)
  rate = np.clip(labels.mean(), 1e-6, 1 - 1e-6)
  weights = np.append(np.zeros(size), np.log(rate / (1 - rate)))
  slots = np.concatenate([slots, np.full((1, len(labels)), size)])
  for _ in range(20):
    p = 1 / (1 + np.exp(-np.clip(weights[slots].sum(axis=0), -30, 30)))
    slope = penalty * weights
    curve = np.diag(penalty)
    for i, first in enumerate(slots):
      slope += np.bincount(first, p - labels, size + 1)
      # Sums over pairs of slots: far less work than a product of matrices.
      for j, second in enumerate(slots[: i + 1]):
        part = np.bincount(
          first * (size + 1) + second, p * (1 - p), (size + 1) ** 2
        ).reshape(size + 1, size + 1)
        curve += part if i == j else part + part.T
    step = np.linalg.solve(curve, slope)
    weights -= step
    if np.abs(step).max() < 1e-6:
      break
  return weights[:-1]


def _codes(values: Sequence) -> np.ndarray:
  """(N,) int64 category of each value, those of numbers by size."""
  kept: list[Any] = [None if _is_nan(value) else value for value in values]
  known = [value for value in kept if value is not None]
  numbers = all(isinstance(value, int | float) for value in known)
  if numbers and len(set(known)) > 2 * _BINS:
    steps = np.arange(1, _BINS) / _BINS
    edges = np.unique(np.quantile(np.array(known, np.float64), steps))
    return np.array(
      [
        0 if value is None else 1 + int(np.searchsorted(edges, value, 'right'))
        for value in kept
      ],
      np.int64,
    )
  counts: dict[Any, int] = {}
  for value in kept:
    counts[value] = counts.get(value, 0) + 1
  ranked = sorted(counts, key=lambda value: (-counts[value], str(value)))
  place = {value: min(i, _MOST_VALUES - 1) for i, value in enumerate(ranked)}
  return np.array([place[value] for value in kept], np.int64)


def _is_nan(value: Any) -> bool:
  return isinstance(value, float) and value != value
