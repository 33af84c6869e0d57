"""The rules by which a threshold is found, for thousands of resamples at once.

Each takes the scores from the highest down, and may cut after any group of tied
scores, never within one.
"""

import numpy as np

from rsna_jax import errors, metrics

CHOICES = (
  'pf1, best_f1, recall_rate=R, sensitivity=S, specificity=S, or a probability'
)
_WITH_VALUE = ('recall_rate', 'sensitivity', 'specificity')
_NEED_POSITIVES = ('best_f1', 'sensitivity')
_SLACK = 1e-12


def parse(rule: str | float) -> tuple[str, float | None]:
  """('sensitivity', 0.9) of 'sensitivity=0.9', and ('fixed', 0.3) of 0.3.

  Raises:
    errors.ConfigError: it is none of `CHOICES`, or not from 0 to 1.
  """
  name, equals, text = str(rule).strip().partition('=')
  if name in ('pf1', 'best_f1') and not equals:
    return name, None
  if name not in _WITH_VALUE:
    name, text = 'fixed', str(rule)
  try:
    value = float(text)
  except ValueError as error:
    raise errors.ConfigError(f'rule {rule!r}: choose {CHOICES}') from error
  if name == 'fixed' and not 0 <= value <= 1:
    raise errors.ConfigError(
      f'threshold {value}: give a probability, from 0 to 1'
    )
  if name != 'fixed' and not 0 < value < 1:
    raise errors.ConfigError(f'rule {rule}: give a share between 0 and 1')
  return name, value


def needs_labels(rule: str | float) -> bool:
  """Whether the rule looks at the labels, or at the probabilities alone."""
  return parse(rule)[0] not in ('pf1', 'recall_rate', 'fixed')


class Sorted:
  """Labelled scores, sorted once for all resamples.

  Attributes:
    order: (N,) positions of the examples, highest score first.
  """

  def __init__(self, labels, scores):
    self._ranking = metrics.Ranking(labels, scores)
    self.order = self._ranking.order
    scores = np.asarray(scores, np.float64)
    self._scores = scores[self.order]
    self._labels = np.asarray(labels)[self.order]
    last = np.r_[self._scores[1:] != self._scores[:-1], True]
    self._ends = np.flatnonzero(last[: len(scores)])

  def thresholds(
    self, rule: str | float, weights: np.ndarray | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """The rule's thresholds, and what it reaches by its own measure.

    Args:
      rule: as in `parse`.
      weights: (B, N) whole numbers, not negative, that follow `order`; None:
        one row of ones.

    Returns:
      (B,) thresholds and (B,) values: the highest expected F1 of pf1 (F*), the
      F1 of best_f1, else the share reached. NaN where no threshold will do.
    """
    name, asked = parse(rule)
    if weights is None:
      weights = np.ones((1, len(self.order)), np.int32)
    if name == 'fixed':
      return np.full(len(weights), asked), np.full(len(weights), np.nan)
    if not len(self.order):
      return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    if name == 'pf1':
      expected = self._highest_expected_f1(weights)
      return expected / 2, expected
    if name in ('best_f1', 'sensitivity'):
      return self._of_positives(name, asked, weights)
    if name == 'recall_rate':
      return self._furthest(weights, asked)
    found, share = self._furthest(weights * (self._labels == 0), 1 - asked)
    return found, 1 - share

  def _of_positives(self, name, asked, weights):
    """Rules whose threshold is always the score of a positive."""
    c = self._ranking.counts(weights)
    if not c.tp.shape[1]:
      return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    if name == 'best_f1':
      reached = metrics.f_score_of(c.tp, c.tp + c.fp, c.positives[:, None])
      place = reached.argmax(axis=1)
    else:
      reached = metrics.ratio(c.tp, c.positives[:, None], np.nan)
      place = (c.tp >= (asked - _SLACK) * c.positives[:, None]).argmax(axis=1)
    found = self._ranking.thresholds[place]
    reached = reached[np.arange(len(place)), place]
    fine = c.positives > 0
    return np.where(fine, found, np.nan), np.where(fine, reached, np.nan)

  def _furthest(self, weights, allowed: float):
    """The lowest threshold that counts no more than a share of the total."""
    counted = np.cumsum(weights, axis=1, dtype=np.int32)
    total = counted[:, -1].astype(np.float64)
    if len(self._ends) < counted.shape[1]:
      counted = counted[:, self._ends]
    within = counted <= ((allowed + _SLACK) * total)[:, None]
    place = np.count_nonzero(within, axis=1) - 1
    fine = (place >= 0) & (total > 0)
    place = np.maximum(place, 0)
    share = metrics.ratio(counted[np.arange(len(place)), place], total, np.nan)
    found = self._scores[self._ends][place]
    return np.where(fine, found, np.nan), np.where(fine, share, np.nan)

  def _highest_expected_f1(self, weights) -> np.ndarray:
    """(B,) F*, NaN of a posterior that is 0 everywhere.

    Over the examples from the highest down the expected F1 rises and then
    falls, so that the few at the top are enough, unless it is still rising.
    """
    posterior = np.clip(self._scores, 0.0, 1.0)
    actual = weights.astype(np.float64) @ posterior
    best, todo, length = np.full(len(weights), np.nan), actual > 0, 256
    while todo.any():
      length = min(4 * length, len(posterior))
      part = weights[todo, :length]
      called = np.cumsum(part, axis=1, dtype=np.int32)
      hits = np.cumsum(part * posterior[:length], axis=1)
      f1 = 2 * hits / (called + actual[todo, None])
      top = f1.max(axis=1)
      best[todo] = top
      if length == len(posterior):
        break
      # Examples that are not drawn repeat the last value.
      todo[todo] = f1[:, -1] >= top
    return best


def failure(rule: str | float, labels, probabilities) -> str:
  """One line that says why a rule finds no threshold in these data."""
  labels, p = metrics.checked(labels, probabilities)
  name, _ = parse(rule)
  where = f'rule {rule}: '
  if not len(p):
    return f'{where}there is no labelled example to choose a threshold on'
  if name in _NEED_POSITIVES and not labels.any():
    return f'{where}none of {len(p)} examples is positive'
  if name == 'specificity' and labels.all():
    return f'{where}none of {len(p)} examples is negative'
  if name == 'pf1':
    return f'{where}all {len(p)} probabilities are 0'
  tied = int((p == p.max()).sum())
  return (
    f'{where}the highest probability, {p.max():.6g}, is shared by {tied} of '
    f'{len(p)} examples, which are already too many'
  )
