"""From probabilities to calibrated ones, by few parameters or by steps.

A fitted calibration is plain numbers, so it is stored with the model. It is
judged on patients that it was not fitted on: `cross_fit`.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.stats import isotonic, logistic, thresholds

METHODS = ('none', 'temperature', 'platt', 'beta', 'isotonic')
# Fewer positives or negatives of a site than this, and it takes the pooled fit.
FEWEST_CASES = 20
PARTS = 5
_PARAMETERS = {
  'none': (),
  'temperature': ('slope',),
  'platt': ('slope', 'intercept'),
  'beta': ('a', 'b', 'c'),
  'isotonic': ('x', 'y'),
}
_RIDGE = 1e-6  # towards the identity; decides only what the data leave open


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
  """A fitted calibration.

  Attributes:
    method: one of `METHODS`.
    pooled: parameter -> number, or list of numbers for isotonic.
    sites: site_id as text -> parameters of sites that have their own.
    n: examples it was fitted on.
    positives: of these.
  """

  method: str = 'none'
  pooled: Mapping = dataclasses.field(default_factory=dict)
  sites: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
  n: int = 0
  positives: int = 0

  def to_json(self) -> dict:
    """Plain values, from which `from_json` makes an equal calibration."""
    return {
      'method': self.method,
      'pooled': dict(self.pooled),
      'sites': {site: dict(x) for site, x in self.sites.items()},
      'n': self.n,
      'positives': self.positives,
    }

  @classmethod
  def from_json(cls, found: Mapping, where: str = 'calibration'):
    """Reads what `to_json` gave.

    Raises:
      errors.DataError: it is not a calibration; `where` names its place.
    """
    try:
      method = found['method']
      sites = dict(found.get('sites') or {})
      for values in (found['pooled'], *sites.values()):
        _check(method, values)
      return cls(
        method=method,
        pooled=dict(found['pooled']),
        sites=sites,
        n=int(found.get('n', 0)),
        positives=int(found.get('positives', 0)),
      )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
      raise errors.DataError(
        f'{where}: not a calibration ({error}); evaluate the run again'
      ) from error


def fit(
  labels,
  probabilities,
  *,
  method: str,
  sites=None,
  fewest: int = FEWEST_CASES,
) -> Calibration:
  """Fits a calibration.

  Args:
    labels: (N,) 0 or 1, both present.
    probabilities: (N,) from 0 to 1.
    method: temperature (the logits times a number), platt (and a shift), beta
      (powers of p and of 1 - p apart, and a shift), isotonic (steps), or none.
      The targets are Platt's, a little inside 0 and 1, so that separable data
      have a finite fit.
    sites: (N,) site_id, for a fit of each site besides the pooled one; None:
      pooled alone.
    fewest: cases of either class that a site needs for its own.

  Raises:
    errors.DataError: a class is missing, a probability is NaN.
    errors.ConfigError: no such method.

  Source of beta: Kull et al., "Beta calibration", 2017.
  """
  if method not in METHODS:
    raise errors.ConfigError(
      f'calibration={method!r}: choose {", ".join(METHODS)}'
    )
  y = np.asarray(labels)
  p = np.asarray(probabilities, np.float64)
  positives = int((y == 1).sum())
  if np.isnan(p).any():
    raise errors.DataError(
      f'{int(np.isnan(p).sum())} probabilities are NaN: predict them again'
    )
  counts = {'n': len(y), 'positives': positives}
  if method == 'none':
    return Calibration(**counts)
  if not positives or positives == len(y):
    raise errors.DataError(
      f'calibration {method}: {positives} of {len(y)} labels are positive; it '
      'needs both classes'
    )
  apart = {}
  if sites is not None:
    sites = np.asarray(sites)
    for site in np.unique(sites[sites != schema.MISSING]).tolist():
      rows = sites == site
      if min((y[rows] == 1).sum(), (y[rows] == 0).sum()) >= fewest:
        apart[str(site)] = _fit(method, y[rows], p[rows])
  return Calibration(
    method=method, pooled=_fit(method, y, p), sites=apart, **counts
  )


def apply(fitted: Calibration, probabilities, sites=None) -> np.ndarray:
  """(N,) calibrated probabilities.

  Args:
    fitted: as `fit` gave it.
    probabilities: (N,) from 0 to 1.
    sites: (N,) site_id; None, and a site without its own fit: the pooled one.
  """
  p = np.asarray(probabilities, np.float64)
  found = _apply(fitted.method, fitted.pooled, p)
  if sites is not None:
    names = np.asarray(sites).astype(str)
    for site, values in fitted.sites.items():
      rows = names == site
      found[rows] = _apply(fitted.method, values, p[rows])
  return found


def cross_fit(
  labels,
  probabilities,
  patients,
  *,
  method: str,
  sites=None,
  seed: int = 0,
  parts: int = PARTS,
  fewest: int = FEWEST_CASES,
) -> np.ndarray:
  """(N,) probabilities, each calibrated on other patients.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,); dealt to `parts` by `thresholds.divide`.
    method: as in `fit`, like sites and fewest.
    sites: or None.
    seed: of the parts.
    parts: how many.
    fewest: cases of a site.

  Raises:
    errors.DataError: without the patients of a part a class is missing.
  """
  y = np.asarray(labels)
  p = np.asarray(probabilities, np.float64)
  part = thresholds.divide(y, patients, seed, parts)
  found = np.empty(len(p))
  for own in range(parts):
    mine = part == own
    fitted = fit(
      y[~mine],
      p[~mine],
      method=method,
      sites=None if sites is None else np.asarray(sites)[~mine],
      fewest=fewest,
    )
    found[mine] = apply(
      fitted, p[mine], None if sites is None else np.asarray(sites)[mine]
    )
  return found


def _fit(method: str, labels: np.ndarray, p: np.ndarray) -> dict:
  if method == 'isotonic':
    x, y = isotonic.fit(p, labels)
    # A rate of exactly 0 or 1 is more than n examples can say.
    edge = 1 / (len(labels) + 2)
    return {'x': x.tolist(), 'y': np.clip(y, edge, 1 - edge).tolist()}
  targets = logistic.smoothed(labels)
  z = logistic.logit(p)
  if method == 'beta':
    return _fit_beta(targets, p)
  columns, identity = z[:, None], [1.0]
  if method == 'platt':
    columns, identity = np.stack([z, np.ones(len(z))], axis=1), [1.0, 0.0]
  found = logistic.fit(
    columns, targets, ridge=_RIDGE, towards=np.array(identity)
  )
  return dict(
    zip(_PARAMETERS[method], found.coefficients.tolist(), strict=True)
  )


def _fit_beta(targets: np.ndarray, p: np.ndarray) -> dict:
  """a and b are not negative, so that the map never turns round."""
  columns = _beta_columns(p)
  free = [0, 1, 2]
  while True:
    identity = np.array([1.0, 1.0, 0.0])[free]
    found = logistic.fit(
      columns[:, free], targets, ridge=_RIDGE, towards=identity
    )
    values = dict(zip(free, found.coefficients.tolist(), strict=True))
    wrong = [k for k in free[:-1] if values[k] < 0]
    if not wrong:
      a, b, c = (values.get(k, 0.0) for k in range(3))
      return {'a': a, 'b': b, 'c': c}
    free.remove(min(wrong, key=values.get))


def _beta_columns(p: np.ndarray) -> np.ndarray:
  p = np.clip(p, logistic.EDGE, 1 - logistic.EDGE)
  return np.stack([np.log(p), -np.log1p(-p), np.ones(len(p))], axis=1)


def _apply(method: str, values: Mapping, p: np.ndarray) -> np.ndarray:
  if method == 'none':
    return p.copy()
  if method == 'isotonic':
    return np.interp(p, values['x'], values['y'])
  if method == 'beta':
    given = np.array([values[name] for name in 'abc'])
    return logistic.sigmoid(_beta_columns(p) @ given)
  return logistic.sigmoid(
    values['slope'] * logistic.logit(p) + values.get('intercept', 0.0)
  )


def _check(method: str, values: Mapping) -> None:
  if method not in METHODS:
    raise ValueError(f'method {method!r}')
  for name in _PARAMETERS[method]:
    numbers = np.asarray(values[name], np.float64)
    if numbers.ndim != (method == 'isotonic') or not np.isfinite(numbers).all():
      raise ValueError(f'{name}={values[name]!r}')
  if method == 'isotonic':
    x, y = (np.asarray(values[name], np.float64) for name in 'xy')
    ordered = (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    if not len(x) or x.shape != y.shape or not ordered:
      raise ValueError('x and y do not rise together')
