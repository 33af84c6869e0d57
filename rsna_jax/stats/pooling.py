"""A learned way from the images of a breast to the breast.

A logistic regression over the order statistics of its images' log odds: it may
weigh the most suspicious image, the others, and how many there are.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rsna_jax import errors
from rsna_jax.stats import logistic, thresholds

COLUMNS = ('max', 'second', 'mean', 'min', 'count')
PARTS = 5
_RIDGE = 1.0  # of coefficients of standardised columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooling:
  """A fitted pooling.

  Attributes:
    weights: name of `COLUMNS`, or 'intercept' -> coefficient, of columns as
      `columns_of` makes them.
    n: breasts it was fitted on.
  """

  weights: Mapping[str, float]
  n: int = 0

  def __call__(self, columns: np.ndarray) -> np.ndarray:
    """(B,) probabilities of (B, 5) columns."""
    given = np.array([self.weights[name] for name in COLUMNS])
    return logistic.sigmoid(columns @ given + self.weights['intercept'])

  def to_json(self) -> dict:
    """Plain values, from which `from_json` makes an equal pooling."""
    return {'weights': dict(self.weights), 'n': self.n}

  @classmethod
  def from_json(cls, found: Mapping, where: str = 'pooling'):
    """Reads what `to_json` gave.

    Raises:
      errors.DataError: it is not a pooling; `where` names its place.
    """
    try:
      names = (*COLUMNS, 'intercept')
      weights = {name: float(found['weights'][name]) for name in names}
      if not np.isfinite(list(weights.values())).all():
        raise ValueError('a weight is not finite')
      return cls(weights=weights, n=int(found.get('n', 0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
      raise errors.DataError(
        f'{where}: not a learned aggregation ({error}); evaluate the run again'
      ) from error


def columns_of(
  breast: np.ndarray, probabilities: np.ndarray, size: int
) -> np.ndarray:
  """Order statistics of the images of each breast.

  Args:
    breast: (N,) int, 0 to size - 1.
    probabilities: (N,) of the images.
    size: number of breasts.

  Returns:
    (size, 5): the highest log odds, the second (of one image, that image), the
    mean, the lowest, and the log of the number of images.
  """
  z = logistic.logit(probabilities)
  order = np.lexsort((-z, breast))
  ranked = z[order]
  count = np.bincount(breast, minlength=size)
  start = np.cumsum(count) - count
  mean = np.bincount(breast, weights=z, minlength=size) / count
  return np.stack(
    [
      ranked[start],
      ranked[start + np.minimum(count, 2) - 1],
      mean,
      ranked[start + count - 1],
      np.log(count),
    ],
    axis=1,
  )


def fit(labels: np.ndarray, columns: np.ndarray) -> Pooling:
  """Fits a pooling.

  Args:
    labels: (B,) 0 or 1, both present.
    columns: (B, 5) as `columns_of` makes them.

  Raises:
    errors.DataError: a class is missing.
  """
  labels = np.asarray(labels)
  positives = int((labels == 1).sum())
  if not 0 < positives < len(labels):
    raise errors.DataError(
      f'aggregate learned: {positives} of {len(labels)} breasts are positive; '
      'it needs both classes'
    )
  middle, scale = columns.mean(axis=0), columns.std(axis=0)
  # A column without spread, or so little that only rounding made it.
  scale = np.where(scale > 1e-9, scale, np.inf)
  x = np.column_stack([(columns - middle) / scale, np.ones(len(labels))])
  # The intercept is free: it alone sets the mean, which is far from a half.
  ridge = np.r_[np.full(len(COLUMNS), _RIDGE), 0.0]
  found = logistic.fit(x, logistic.smoothed(labels), ridge=ridge)
  slopes = found.coefficients[:-1] / scale
  weights = dict(zip(COLUMNS, slopes.tolist(), strict=True))
  weights['intercept'] = float(found.coefficients[-1] - middle @ slopes)
  return Pooling(weights=weights, n=len(labels))


def cross_fit(
  labels: np.ndarray,
  columns: np.ndarray,
  patients: np.ndarray,
  *,
  seed: int = 0,
  parts: int = PARTS,
) -> np.ndarray:
  """(B,) probabilities, each by a pooling that its patient had no part in.

  Args:
    labels: (B,) 0, 1, or -1 for unknown: those are pooled, not learned from.
    columns: (B, 5).
    patients: (B,), dealt to `parts` by `thresholds.divide`.
    seed: of the parts.
    parts: how many, fewer where fewer patients have a positive.

  Raises:
    errors.DataError: without a part a class is missing.
  """
  labels = np.asarray(labels)
  ill = len(np.unique(np.asarray(patients)[labels == 1]))
  if ill < 2:
    raise errors.DataError(
      f'aggregate learned: {ill} patient(s) with cancer: it takes two, to be '
      'judged on others than it learned from; choose another'
    )
  part = thresholds.divide(labels == 1, patients, seed, max(2, min(parts, ill)))
  found = np.empty(len(labels))
  for own in np.unique(part):
    mine = part == own
    others = ~mine & (labels >= 0)
    found[mine] = fit(labels[others], columns[others])(columns[mine])
  return found
