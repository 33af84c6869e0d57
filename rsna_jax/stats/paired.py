"""Two sets of predictions of the same patients, held against each other.

The difference has an interval of its own, far narrower than the two intervals
would suggest, because a hard patient is hard for both.
"""

from collections.abc import Sequence

import numpy as np

from rsna_jax import errors, metrics
from rsna_jax.stats import bootstrap as bootstrap_lib
from rsna_jax.stats import delong, distributions, sums

FIGURES = (
  'roc_auc',
  'average_precision',
  'pf1',
  'sensitivity_at_90_specificity',
  'partial_auc_10',
  'brier',
  'log_loss',
)
LEVEL = 0.95


def align(first_ids, second_ids) -> np.ndarray:
  """Rows of the second set in the order of the first.

  Args:
    first_ids: (N,) of the first set, image_id or prediction_id.
    second_ids: (N,) of the second.

  Returns:
    (N,) int64.

  Raises:
    errors.DataError: an id occurs twice, or in one of the sets alone.
  """
  sets = []
  for which, ids in (('first', first_ids), ('second', second_ids)):
    ids = np.asarray(ids).astype(str)
    unique, counts = np.unique(ids, return_counts=True)
    twice = unique[counts > 1]
    if len(twice):
      raise errors.DataError(
        f'{which} predictions: id {twice[0]} occurs more than once '
        f'({len(twice)} ids do); give each once'
      )
    sets.append(ids)
  first, second = sets
  for which, lacking in (
    ('second', np.setdiff1d(first, second)),
    ('first', np.setdiff1d(second, first)),
  ):
    if len(lacking):
      raise errors.DataError(
        f'{which} predictions: id {lacking[0]} is missing ({len(lacking)} '
        'are); compare predictions of the same split'
      )
  order = np.argsort(second)
  return order[np.searchsorted(second[order], first)]


def compare(
  labels,
  first,
  second,
  patients,
  *,
  called: tuple[np.ndarray, np.ndarray] | None = None,
  names: Sequence[str] = FIGURES,
  bootstrap: int = 2_000,
  seed: int = 0,
  titles: tuple[str, str] = ('first', 'second'),
) -> dict:
  """Compares two sets of probabilities of the same examples.

  Args:
    labels: (N,) 0 or 1.
    first: (N,) probabilities.
    second: (N,) probabilities.
    patients: (N,), resampled as a whole.
    called: (N,) bool decisions of the two, for McNemar's test; or None.
    names: figures to compare, as in `bootstrap.binary`.
    bootstrap: resamples; 0: DeLong's and McNemar's tests alone.
    seed: of them.
    titles: what the verdict calls the two.

  Returns:
    {'n', 'positives', 'patients',
    'figures': {name: {'first', 'second' (numbers), 'difference' (first less
    second: value, low, high), 'p', 'within_noise'}},
    'delong', 'delong_by_patient': as `delong.difference`, the latter with the
    examples of a patient taken together; None with one class,
    'mcnemar': as `mcnemar`, or None, 'verdict': text}. A difference is within
    noise where its 95 % interval holds 0; what is not defined is None.

  Raises:
    errors.DataError: no example, or arrays that do not fit.
  """
  y, p = metrics.checked(labels, first)
  _, q = metrics.checked(labels, second)
  patients = np.asarray(patients)
  if not len(y):
    raise errors.DataError('nothing to compare: there is no labelled example')
  if patients.shape != y.shape:
    raise errors.DataError(
      f'patients {patients.shape} and labels {y.shape} differ in shape'
    )
  found = {
    'n': len(y),
    'positives': int(y.sum()),
    'patients': len(np.unique(patients)),
    'figures': {},
    'delong': None,
    'delong_by_patient': None,
    'mcnemar': None,
  }
  both = 0 < y.sum() < len(y)
  if both:
    for key, unit in (('delong', None), ('delong_by_patient', patients)):
      tested = delong.difference(y, p, q, unit, LEVEL)
      found[key] = {k: bootstrap_lib.number(x) for k, x in tested.items()}
  resamples = None
  if bootstrap:
    resamples = bootstrap_lib.Resamples(patients, n=bootstrap, seed=seed)
  pairs = [
    _figures(y, x, patients, names, resamples, None if called is None else z)
    for x, z in zip((p, q), called or (None, None), strict=True)
  ]
  for name in pairs[0]:
    (a, of_a), (b, of_b) = (pair[name] for pair in pairs)
    found['figures'][name] = _difference(a, b, of_a, of_b)
  if called is not None:
    found['mcnemar'] = mcnemar(y, *called)
  found['verdict'] = _verdict(found, titles)
  return found


def mcnemar(labels, first, second) -> dict:
  """The exact test of two sets of decisions on the same examples.

  It takes examples as independent: with several of a patient, trust the
  bootstrap of sensitivity and specificity more.

  Args:
    labels: (N,) 0 or 1.
    first: (N,) bool.
    second: (N,) bool.

  Returns:
    {'all', 'positives', 'negatives'}: {'first_alone' (right where the other is
    wrong), 'second_alone', 'p'} each.

  Source: McNemar, "Sampling error of the difference between correlated
  proportions", 1947.
  """
  y = np.asarray(labels) == 1
  right = [np.asarray(x, bool) == y for x in (first, second)]
  found = {}
  for name, rows in (
    ('all', np.ones(len(y), bool)),
    ('positives', y),
    ('negatives', ~y),
  ):
    one = int((right[0] & ~right[1] & rows).sum())
    other = int((right[1] & ~right[0] & rows).sum())
    found[name] = {
      'first_alone': one,
      'second_alone': other,
      'p': distributions.coin_p(one, one + other),
    }
  return found


def _figures(y, p, patients, names, resamples, called) -> dict:
  """name -> (value, (n,) samples or None)."""
  of_calls = ('sensitivity', 'specificity', 'f1')
  names = (*names, *(of_calls if called is not None else ()))
  counts = metrics.counts(y, p)
  of_sums = sums.figures(y, p, called)
  values = {}
  for name in names:
    if name in bootstrap_lib.OF_COUNTS:
      values[name] = float(bootstrap_lib.OF_COUNTS[name](counts))
    elif name in of_sums:
      values[name] = sums.value(of_sums[name])
  samples = {}
  if resamples is not None:  # names that are unknown are refused here
    samples = bootstrap_lib.binary(
      y, p, patients, resamples, predicted=called, names=names
    )
  return {name: (value, samples.get(name)) for name, value in values.items()}


def _difference(a: float, b: float, of_a, of_b) -> dict:
  number = bootstrap_lib.number
  samples = p = None
  if of_a is not None:
    samples = of_a - of_b
    fine = samples[np.isfinite(samples)]
    # One is added for the data as they are, so that no p is 0.
    tail = min((fine <= 0).sum(), (fine >= 0).sum())
    p = min(1.0, 2 * (float(tail) + 1) / (len(fine) + 1)) if len(fine) else None
  difference = bootstrap_lib.figure(a - b, samples)
  within = None
  if difference['low'] is not None:
    within = difference['low'] <= 0 <= difference['high']
  return {
    'first': number(a),
    'second': number(b),
    'difference': difference,
    'p': p,
    'within_noise': within,
  }


def _verdict(found: dict, titles: tuple[str, str]) -> str:
  """One sentence for each figure whose difference has an interval."""
  said = []
  for name, x in found['figures'].items():
    gap = x['difference']
    if x['within_noise'] is None or gap['value'] is None:
      continue
    shown = f'{gap["value"]:+.4f} ({gap["low"]:+.4f} to {gap["high"]:+.4f})'
    if x['within_noise']:
      said.append(
        f'{name}: {titles[0]} less {titles[1]} is {shown}, within noise.'
      )
    else:
      higher = titles[0] if gap['value'] > 0 else titles[1]
      said.append(
        f'{name}: {titles[0]} less {titles[1]} is {shown}, beyond noise: '
        f'{higher} is higher.'
      )
  return ' '.join(said) or 'no difference has an interval.'
