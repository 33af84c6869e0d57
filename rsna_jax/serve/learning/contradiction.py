"""Whether labels of some contributors contradict the model beyond chance.

One who flips labels, or several who agree to, leave a trace that AUC on their
own submissions hides: within each label, their pictures look to the model like
those of the other label. Numpy only.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

PERMUTATIONS = 1_999
_CLIP = 0.005  # of probabilities, so that no single case decides
_LEAST_CASES = 20
_LEAST_SPREAD = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suspicion:
  """The contributors who together contradict the model most.

  Attributes:
    contributors: of the group, the worst first.
    cases: of the group.
    p: chance of a group so far off, were all contributors alike.
    agreement: share of the group's patients whose label the model leans to.
    others: the same of all others; None: there are none.
  """

  contributors: tuple
  cases: int
  p: float
  agreement: float
  others: float | None

  def to_json(self) -> dict:
    """Plain values."""
    return {
      **dataclasses.asdict(self),
      'contributors': list(self.contributors),
    }


def leanings(labels, probabilities) -> np.ndarray:
  """(N,) how far the model leans to each label: the log odds, its sign turned.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,) of 1, by a model that has not learned these labels.
  """
  p = np.clip(np.asarray(probabilities, np.float64), _CLIP, 1 - _CLIP)
  return np.where(np.asarray(labels) == 1, 1, -1) * np.log(p / (1 - p))


def scan(
  contributors: Sequence,
  labels,
  probabilities,
  *,
  strata=None,
  patients=None,
  permutations: int = PERMUTATIONS,
  seed: int = 0,
) -> Suspicion | None:
  """Looks for the group of contributors that contradicts the model most.

  Contributors are ranked by how their labels agree with the model, compared
  with labels of the same kind alone; of the worst one, the worst two, and so
  on up to half of the cases, the group that is furthest off is taken, and
  judged by how far such a group gets when cases are dealt out at random.

  Args:
    contributors: (N,) of each case.
    labels: (N,) 0 or 1.
    probabilities: (N,), as `leanings`.
    strata: (N,) of further kinds of case that are not to be compared with one
      another, as the two models that spoke.
    patients: (N,) of each case; those of one contributor with one label are a
      case together, for a hard patient is hard in every picture. None: each
      case is a patient.
    permutations: random deals.
    seed: of them.

  Returns:
    The group; None where there are fewer than two contributors, or too few
    cases to tell.
  """
  names, who = np.unique(np.asarray(contributors), return_inverse=True)
  y = np.asarray(labels).astype(np.int64)
  lean = leanings(y, probabilities)
  _, kind = np.unique(
    np.stack([y, _numbers(strata, np.zeros(len(y)))], axis=1),
    axis=0,
    return_inverse=True,
  )
  who, kind, lean, size = _of_patients(
    who, kind.ravel(), lean, _numbers(patients, np.arange(len(y)))
  )
  if len(names) < 2 or len(who) < _LEAST_CASES:
    return None
  scaled = _scaled(lean, kind)
  counts = np.bincount(who, minlength=len(names))
  found = _worst(scaled, who, counts)
  if found is None:
    return None
  lowest, group = found
  generator = np.random.Generator(np.random.Philox(seed))
  parts = [np.flatnonzero(kind == k) for k in np.unique(kind)]
  below = 0
  for _ in range(permutations):
    dealt = np.empty_like(scaled)
    for part in parts:
      dealt[part] = scaled[generator.permutation(part)]
    below += _worst(dealt, who, counts)[0] <= lowest
  inside = np.isin(who, group)
  agrees = lean > 0
  return Suspicion(
    contributors=tuple(names[group].tolist()),
    cases=int(size[inside].sum()),
    p=(below + 1) / (permutations + 1),
    agreement=float(agrees[inside].mean()),
    others=float(agrees[~inside].mean()) if (~inside).any() else None,
  )


def _numbers(values, default: np.ndarray) -> np.ndarray:
  if values is None:
    return default.astype(np.int64)
  return np.unique(np.asarray(values), return_inverse=True)[1].astype(np.int64)


def _of_patients(
  who: np.ndarray, kind: np.ndarray, lean: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, ...]:
  """Contributor, kind, mean leaning and number of cases of each patient."""
  units, which, size = np.unique(
    np.stack([who, kind, patients], axis=1),
    axis=0,
    return_inverse=True,
    return_counts=True,
  )
  means = np.bincount(which.ravel(), lean, minlength=len(units)) / size
  return units[:, 0], units[:, 1], means, size


def _scaled(lean: np.ndarray, kind: np.ndarray) -> np.ndarray:
  """Mean 0 and spread 1 within each kind."""
  scaled = np.zeros_like(lean)
  for k in np.unique(kind):
    of = kind == k
    spread = lean[of].std()
    if spread > _LEAST_SPREAD:
      scaled[of] = (lean[of] - lean[of].mean()) / spread
  return scaled


def _worst(
  scaled: np.ndarray, who: np.ndarray, counts: np.ndarray
) -> tuple[float, np.ndarray] | None:
  """The lowest standard score of the worst contributors, and who they are."""
  sums = np.bincount(who, scaled, minlength=len(counts))
  order = np.argsort(sums / np.sqrt(counts), kind='stable')
  n = np.cumsum(counts[order])
  # Half of the cases are no exception any more; the worst one is looked at
  # however many it has, short of all.
  last = max(1, int(np.searchsorted(n, len(who) / 2, 'right')))
  n = n[:last].astype(np.float64)
  spread = np.sqrt(n * np.maximum(1 - n / len(who), 1e-12))
  scores = np.cumsum(sums[order])[:last] / spread
  best = int(np.argmin(scores))
  return float(scores[best]), order[: best + 1]
