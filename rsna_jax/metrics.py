"""Figures of a binary classifier: ranking, Kaggle's pF1, F1, calibration.

Numpy only. What depends on the order of the scores goes through `Ranking`,
which sorts once and then takes any number of weightings, because the bootstrap
needs thousands of them.
"""

from typing import NamedTuple

import numpy as np

from rsna_jax import errors


class Counts(NamedTuple):
  """Weighted counts at the K tie groups that hold a positive, best first.

  `tp` and `fp` count the examples at or above the group's score, `tp_before`
  and `fp_before` those strictly above: all (..., K) float64. `positives` and
  `negatives` are the totals, (...,) float64.
  """

  tp: np.ndarray
  fp: np.ndarray
  tp_before: np.ndarray
  fp_before: np.ndarray
  positives: np.ndarray
  negatives: np.ndarray


class Ranking:
  """Labelled scores, sorted once from high to low.

  Only tie groups with a positive are kept: every figure here either jumps at
  them or reaches its best value at one of them.

  Attributes:
    order: (N,) positions of the examples, highest score first.
    thresholds: (K,) float64, the scores of the tie groups that hold a positive.
  """

  def __init__(self, labels: np.ndarray, scores: np.ndarray):
    labels, scores = checked(labels, scores)
    self.order = np.argsort(-scores, kind='stable')
    ranked = scores[self.order]
    self._positive = np.flatnonzero(labels[self.order] == 1)
    starts = np.flatnonzero(np.r_[len(ranked) > 0, ranked[1:] != ranked[:-1]])
    ends = np.r_[starts[1:], len(ranked)]
    group = np.unique(np.searchsorted(starts, self._positive, side='right') - 1)
    self._start, self._end = starts[group], ends[group]
    # How many positives, counted as rows, stand at or above each group.
    self._upto = np.searchsorted(self._positive, self._end)
    self.thresholds = ranked[self._start]
    # Weights are summed between these, which takes a third of the time of a
    # running sum over all of them.
    self._cuts = np.unique(np.r_[0, self._start, self._end])
    self._starts_at = np.searchsorted(self._cuts, self._start)
    self._ends_at = np.searchsorted(self._cuts, self._end)

  def counts(self, weights: np.ndarray | None = None) -> Counts:
    """Counts under weights that follow `order`: (..., N), by default ones."""
    if weights is None:
      weights = np.ones(len(self.order), np.int64)
    whole = np.issubdtype(weights.dtype, np.integer)
    kind = np.result_type(weights, np.int32) if whole else np.float64
    cuts = self._cuts[self._cuts < len(self.order)]
    parts = np.zeros((*weights.shape[:-1], 1), kind)
    if len(cuts):
      sums = np.add.reduceat(weights, cuts, axis=-1, dtype=kind)
      parts = np.concatenate([parts, sums], axis=-1)
    above = np.cumsum(parts, axis=-1, dtype=kind)  # before each cut
    hits = np.cumsum(weights[..., self._positive], axis=-1, dtype=kind)
    tp = hits[..., self._upto - 1].astype(np.float64)
    tp_before = np.concatenate(
      [np.zeros((*tp.shape[:-1], 1)), tp[..., :-1]], axis=-1
    )[..., : tp.shape[-1]]
    # Of an empty set, too, the sum is 0.
    positives = hits[..., -1:].sum(axis=-1, dtype=np.float64)
    return Counts(
      tp=tp,
      fp=above[..., self._ends_at] - tp,
      tp_before=tp_before,
      fp_before=above[..., self._starts_at] - tp_before,
      positives=positives,
      negatives=above[..., -1] - positives,
    )


def roc_auc_of(c: Counts) -> np.ndarray:
  """(...,) area under the ROC curve; ties count half, NaN with one class."""
  beaten = c.negatives[..., None] - (c.fp + c.fp_before) / 2
  wins = ((c.tp - c.tp_before) * beaten).sum(axis=-1)
  return ratio(wins, c.positives * c.negatives, np.nan)


def average_precision_of(c: Counts) -> np.ndarray:
  """(...,) sum of precision times the step in recall; 0 with no positives."""
  precision = ratio(c.tp, c.tp + c.fp, 0.0)
  area = ((c.tp - c.tp_before) * precision).sum(axis=-1)
  return ratio(area, c.positives, 0.0)


def sensitivity_at_specificity_of(c: Counts, specificity: float) -> np.ndarray:
  """(...,) the highest sensitivity of a threshold with that specificity."""
  # A hair of slack, so that 0.9 of 10 negatives allows 1 false positive.
  allowed = (1 - specificity + 1e-12) * c.negatives
  hits = np.where(c.fp <= allowed[..., None], c.tp, 0.0)
  best = hits.max(axis=-1, initial=0.0)
  return ratio(best, c.positives, np.nan, also=c.negatives)


def specificity_at_sensitivity_of(c: Counts, sensitivity: float) -> np.ndarray:
  """(...,) the highest specificity of a threshold with that sensitivity."""
  asked = (sensitivity - 1e-12) * c.positives
  alarms = np.where(c.tp >= asked[..., None], c.fp, np.inf)
  fewest = np.minimum(alarms.min(axis=-1, initial=np.inf), c.negatives)
  return ratio(c.negatives - fewest, c.negatives, np.nan, also=c.positives)


def f_score_of(
  tp: np.ndarray, predicted: np.ndarray, actual: np.ndarray, beta: float = 1.0
) -> np.ndarray:
  """(...,) F-beta of counts or of sums of probabilities; 0 without a hit."""
  square = beta * beta
  return ratio((1 + square) * tp, square * actual + predicted, 0.0)


def roc_auc(labels, probabilities, weights=None) -> float:
  """Area under the ROC curve: the share of pairs in the right order.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,) scores, any monotone scale.
    weights: (N,) not negative, or None for ones.

  Returns:
    A tie counts half; NaN where a class is missing.
  """
  return float(roc_auc_of(counts(labels, probabilities, weights)))


def average_precision(labels, probabilities, weights=None) -> float:
  """Area under the precision-recall steps, not interpolated.

  Takes what `roc_auc` takes. The definition is scikit-learn's, and so is the
  0.0 of a set without positives.
  """
  return float(average_precision_of(counts(labels, probabilities, weights)))


def pf1(
  labels, probabilities, beta: float = 1.0, weights=None, *, clip: bool = True
) -> float:
  """The probabilistic F-score of the RSNA 2022 challenge.

  Every example counts as a positive to the degree of its probability.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    beta: weight of recall against precision.
    weights: (N,) not negative, or None for ones.
    clip: to [0, 1], as in the challenge; False: refuse what lies outside.

  Returns:
    0.0 without positives, and where every positive has probability 0.

  Raises:
    errors.DataError: a value lies outside [0, 1] and `clip` is False.

  Source: Yacouby and Axman, "Probabilistic Extension of Precision, Recall, and
  F1 Score for More Thorough Evaluation of Classification Models", 2020.
  """
  labels, probabilities = checked(labels, probabilities)
  if not clip:
    inside(probabilities)
  weight = np.ones(len(labels)) if weights is None else np.asarray(weights)
  clipped = np.clip(probabilities, 0.0, 1.0) * weight
  return float(
    f_score_of(
      (clipped * labels).sum(), clipped.sum(), (weight * labels).sum(), beta
    )
  )


def f1_at(labels, probabilities, threshold: float, weights=None) -> float:
  """F1 where a probability of at least `threshold` is a positive; or 0.0."""
  labels, probabilities = checked(labels, probabilities)
  return pf1(labels, probabilities >= threshold, weights=weights)


def best_threshold(labels, probabilities) -> tuple[float, float]:
  """The threshold with the highest F1 on these very data.

  Its F1 flatters: apply the threshold to other data for an honest figure.

  Returns:
    (threshold, F1). The threshold is one of the probabilities, and of several
    with the same F1 the highest; without positives (NaN, 0.0).
  """
  ranking = Ranking(labels, probabilities)
  c = ranking.counts()
  scores = f_score_of(c.tp, c.tp + c.fp, c.positives[..., None])
  if not len(scores):
    return float('nan'), 0.0
  best = int(np.argmax(scores))  # the first, thus the highest threshold
  return float(ranking.thresholds[best]), float(scores[best])


def sensitivity_at_specificity(
  labels, probabilities, specificity: float = 0.9, weights=None
) -> float:
  """Highest sensitivity at no less than a specificity; NaN with one class."""
  c = counts(labels, probabilities, weights)
  return float(sensitivity_at_specificity_of(c, specificity))


def specificity_at_sensitivity(
  labels, probabilities, sensitivity: float = 0.9, weights=None
) -> float:
  """Highest specificity at no less than a sensitivity; NaN with one class."""
  c = counts(labels, probabilities, weights)
  return float(specificity_at_sensitivity_of(c, sensitivity))


def squared_errors(labels, probabilities) -> np.ndarray:
  """(N,) float64 whose mean is the Brier score."""
  labels, probabilities = checked(labels, probabilities)
  return (probabilities - labels) ** 2


def log_losses(labels, probabilities) -> np.ndarray:
  """(N,) float64, natural log; a certain error costs 36, not infinity."""
  labels, probabilities = checked(labels, probabilities)
  epsilon = np.finfo(np.float64).eps
  right = np.where(labels == 1, probabilities, 1 - probabilities)
  return -np.log(np.clip(right, epsilon, 1 - epsilon))


def brier(labels, probabilities) -> float:
  """Mean squared difference of probability and label; NaN of nothing."""
  return _mean(squared_errors(labels, probabilities))


def log_loss(labels, probabilities) -> float:
  """Mean negative log-likelihood in nats; NaN of nothing."""
  return _mean(log_losses(labels, probabilities))


def calibration_bins(probabilities, bins: int = 10) -> np.ndarray:
  """(N,) int64, the equal-width bin of each probability, 1.0 in the last."""
  clipped = np.clip(np.asarray(probabilities, np.float64), 0.0, 1.0)
  return np.minimum((clipped * bins).astype(np.int64), bins - 1)


def expected_calibration_error(labels, probabilities, bins: int = 10) -> float:
  """Mean gap of observed and predicted rate over equal-width bins.

  Each bin counts by its share of the examples. With few positives nearly all
  examples share the first bin: read the reliability plot beside it.
  """
  labels, probabilities = checked(labels, probabilities)
  if not len(labels):
    return float('nan')
  index = calibration_bins(probabilities, bins)
  gaps = np.bincount(index, weights=labels - probabilities, minlength=bins)
  return float(np.abs(gaps).sum() / len(labels))


def inside(probabilities: np.ndarray, name: str = 'probability') -> None:
  """Refuses numbers that are no probabilities, naming the first of them."""
  wrong = probabilities[~((probabilities >= 0) & (probabilities <= 1))]
  if len(wrong):
    raise errors.DataError(
      f'{name} {wrong[0]} is not from 0 to 1 ({len(wrong)} are not): mend the '
      'predictions, or clip them'
    )


def checked(labels, scores) -> tuple[np.ndarray, np.ndarray]:
  """Labels as int64 and scores as float64, (N,) each, or a DataError."""
  labels = np.asarray(labels)
  scores = np.asarray(scores, np.float64)
  if labels.ndim != 1 or labels.shape != scores.shape:
    raise errors.DataError(
      f'labels {labels.shape} and probabilities {scores.shape} differ in '
      'shape: give two (N,) arrays'
    )
  strange = labels[(labels != 0) & (labels != 1)]
  if len(strange):
    raise errors.DataError(
      f'label {strange[0]} is neither 0 nor 1: leave unknown labels out'
    )
  if np.isnan(scores).any():
    raise errors.DataError(
      f'{int(np.isnan(scores).sum())} probabilities are NaN: no figure can be '
      'given'
    )
  return labels.astype(np.int64), scores


def counts(labels, scores, weights=None) -> Counts:
  """`Counts` of (N,) labels and scores, with (N,) weights or ones."""
  ranking = Ranking(labels, scores)
  if weights is not None:
    weights = np.asarray(weights)
    # bool and unsigned counts would overflow in sums.
    weights = weights.astype(np.float64)[ranking.order]
  return ranking.counts(weights)


def ratio(top, bottom, empty: float, also=1.0) -> np.ndarray:
  """top / bottom, and `empty` where the bottom, or `also`, is not above 0."""
  top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
  fine = (bottom > 0) & (np.asarray(also) > 0)
  return np.where(fine, top / np.where(fine, bottom, 1.0), empty)


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if len(values) else float('nan')
