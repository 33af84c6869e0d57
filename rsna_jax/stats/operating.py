"""The operating point: from which probability on a breast is called positive.

It is chosen by a rule on calibrated probabilities, and stored with the model;
`decision` judges it on patients that had no part in choosing it.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rsna_jax import errors, metrics, schema
from rsna_jax.stats import bootstrap, rules

# Fewer positives of a site than this, and it takes the pooled threshold.
FEWEST_CASES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatingPoint:
  """A chosen threshold.

  Attributes:
    rule: by which it was chosen, as in `rules.parse`.
    threshold: {'value', 'low', 'high'}.
    reached: what the rule reached on the data it was chosen on: the expected F1
      (F*) of pf1, the F1 of best_f1, else a share; None of a fixed number.
    sites: site_id as text -> {'value', 'low', 'high'} of sites with their own.
  """

  rule: str
  threshold: Mapping[str, float | None]
  reached: float | None = None
  sites: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)

  def at(self, n: int, sites=None) -> np.ndarray:
    """(n,) the threshold of each example, by its (n,) site_id if given."""
    found = np.full(n, self.threshold['value'], np.float64)
    if sites is not None:
      names = np.asarray(sites).astype(str)
      for site, own in self.sites.items():
        found[names == site] = own['value']
    return found

  def call(self, calibrated, sites=None) -> np.ndarray:
    """(N,) bool: the calibrated probability is at least the threshold."""
    p = np.asarray(calibrated, np.float64)
    return p >= self.at(len(p), sites)

  def to_json(self) -> dict:
    """Plain values, from which `from_json` makes an equal one."""
    return {
      'rule': self.rule,
      'threshold': dict(self.threshold),
      'reached': self.reached,
      'sites': {site: dict(own) for site, own in self.sites.items()},
    }

  @classmethod
  def from_json(cls, found: Mapping, where: str = 'operating point'):
    """Reads what `to_json` gave.

    Raises:
      errors.InputError: it is not one, or a threshold is not from 0 to 1.
    """
    try:
      rules.parse(found['rule'])
      sites = dict(found.get('sites') or {})
      for own in (found['threshold'], *sites.values()):
        metrics.inside(np.array([float(own['value'])]), 'threshold')
      return cls(
        rule=str(found['rule']),
        threshold=dict(found['threshold']),
        reached=found.get('reached'),
        sites=sites,
      )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
      raise errors.DataError(
        f'{where}: not an operating point ({error}); evaluate the run again'
      ) from error


def choose(
  rule: str | float,
  labels,
  calibrated,
  *,
  patients=None,
  sites=None,
  resamples: bootstrap.Resamples | None = None,
  fewest: int = FEWEST_CASES,
) -> OperatingPoint:
  """Chooses a threshold.

  Args:
    rule: pf1, half of the highest expected F1 of the posterior, from which on
      a yes raises pF1; best_f1, on these labels; recall_rate=R, sensitivity=S
      or specificity=S, the threshold with the highest sensitivity, or for
      sensitivity specificity, that keeps it; or a fixed probability.
    labels: (N,) 0 or 1; None for the rules that need none.
    calibrated: (N,) probabilities.
    patients: (N,), for the interval.
    sites: (N,) site_id, for a threshold of each site; None: pooled alone.
    resamples: of the patients, for the interval; None: without. The calibration
      is held as it is, so the interval of pf1 is that of the case mix alone.
    fewest: positives that a site needs for its own.

  Raises:
    errors.DataError: the data do not define the threshold; says why.
    errors.ConfigError: no such rule.

  Source: of pf1, Lipton et al., "Optimal thresholding of classifiers to
  maximize F1 measure", 2014.
  """
  p = np.asarray(calibrated, np.float64)
  if labels is None and rules.needs_labels(rule):
    raise errors.DataError(f'rule {rule} needs labels')
  y = np.zeros(len(p), np.int64) if labels is None else np.asarray(labels)
  metrics.inside(p)
  threshold, reached = _choose(rule, y, p, patients, resamples)
  apart = {}
  if sites is not None:
    sites = np.asarray(sites)
    for site in np.unique(sites[sites != schema.MISSING]).tolist():
      rows = sites == site
      if min((y[rows] == 1).sum(), (y[rows] == 0).sum()) >= fewest:
        of_site = None if patients is None else np.asarray(patients)[rows]
        apart[str(site)], _ = _choose(
          rule, y[rows], p[rows], of_site, resamples
        )
  return OperatingPoint(
    rule=str(rule), threshold=threshold, reached=reached, sites=apart
  )


def _choose(rule, y, p, patients, resamples):
  """{'value', 'low', 'high'} of one threshold, and what it reached."""
  ranked = rules.Sorted(y, p)
  (value,), (reached,) = ranked.thresholds(rule)
  if not np.isfinite(value):
    raise errors.DataError(rules.failure(rule, y, p))
  samples = None
  if resamples is not None and rules.parse(rule)[0] != 'fixed':
    place = resamples.members(patients)[ranked.order]
    samples = np.empty(len(resamples))

    def work(rows: slice) -> None:
      weights = np.take(resamples.counts[rows], place, axis=1)
      samples[rows], _ = ranked.thresholds(rule, weights)

    resamples.each_block(len(p), work)
  return bootstrap.figure(value, samples), bootstrap.number(reached)
