"""From a raw probability to yes or no: a calibration and an operating point.

The two belong together, because the threshold is one of calibrated numbers.
They are judged out of fold, and made of all data for use on others.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rsna_jax import errors
from rsna_jax.stats import (
  bootstrap,
  calibration,
  operating,
  rules,
  sums,
  thresholds,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
  """What a model's raw probabilities become: calibrated, then yes or no.

  Attributes:
    calibration: applied first.
    point: applied to what it gives.
  """

  calibration: calibration.Calibration
  point: operating.OperatingPoint

  def apply(self, probabilities, sites=None) -> tuple[np.ndarray, np.ndarray]:
    """(N,) calibrated probabilities and (N,) bool calls."""
    found = calibration.apply(self.calibration, probabilities, sites)
    return found, self.point.call(found, sites)

  def to_json(self) -> dict:
    """Plain values, from which `from_json` makes an equal one."""
    return {
      'calibration': self.calibration.to_json(),
      'operating_point': self.point.to_json(),
    }

  @classmethod
  def from_json(cls, found: Mapping, where: str = 'decision'):
    """Reads what `to_json` gave, or raises an `errors.InputError`."""
    if not isinstance(found, Mapping):
      raise errors.DataError(f'{where}: not a decision; evaluate the run again')
    return cls(
      calibration=calibration.Calibration.from_json(
        found.get('calibration'), f'{where}: calibration'
      ),
      point=operating.OperatingPoint.from_json(
        found.get('operating_point'), f'{where}: operating_point'
      ),
    )


def fixed(threshold: float) -> Decision:
  """The decision that leaves probabilities alone and calls from a number on."""
  return Decision(
    calibration=calibration.Calibration(),
    point=operating.choose(threshold, None, []),
  )


def fit(
  labels,
  probabilities,
  *,
  method: str = 'none',
  rule: str | float = 'best_f1',
  patients=None,
  sites=None,
  resamples: bootstrap.Resamples | None = None,
) -> Decision:
  """The decision of all these data, for use on others.

  Takes what `calibration.fit` and `operating.choose` take.
  """
  fitted = calibration.fit(labels, probabilities, method=method, sites=sites)
  return Decision(
    calibration=fitted,
    point=operating.choose(
      rule,
      labels,
      calibration.apply(fitted, probabilities, sites),
      patients=patients,
      sites=sites,
      resamples=resamples,
    ),
  )


def cross_fit(
  labels,
  probabilities,
  patients,
  *,
  method: str = 'none',
  rule: str | float = 'best_f1',
  sites=None,
  seed: int = 0,
  parts: int = calibration.PARTS,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
  """Judges each example by a decision that its patient had no part in.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,) raw.
    patients: (N,), dealt to `parts` by `thresholds.divide`.
    method: of the calibration.
    rule: of the threshold.
    sites: (N,) site_id for a decision of each site; None: pooled alone.
    seed: of the parts.
    parts: how many, fewer where fewer patients have a positive.

  Returns:
    (N,) calibrated, (N,) bool calls, and the pooled thresholds of the parts.

  Raises:
    errors.DataError: without a part the data do not define the decision.
  """
  y = np.asarray(labels)
  p = np.asarray(probabilities, np.float64)
  ill = len(np.unique(np.asarray(patients)[y == 1]))
  if ill == 1 and (method != 'none' or rules.needs_labels(rule)):
    raise errors.DataError(
      f'calibration {method}, rule {rule}: one patient with cancer: they '
      'take two, to be judged on others than they were chosen on'
    )
  part = thresholds.divide(y, patients, seed, max(2, min(parts, ill)))
  calibrated, called, applied = np.empty(len(p)), np.zeros(len(p), bool), []
  for own in np.unique(part):
    mine = part == own
    of = (lambda rows: None) if sites is None else np.asarray(sites).__getitem__
    made = fit(y[~mine], p[~mine], method=method, rule=rule, sites=of(~mine))
    calibrated[mine], called[mine] = made.apply(p[mine], of(mine))
    applied.append(float(made.point.threshold['value']))
  return calibrated, called, applied


def expected_pf1(
  labels,
  probabilities,
  patients,
  *,
  method: str = 'platt',
  rule: str | float = 'pf1',
  sites=None,
  resamples: bootstrap.Resamples | None = None,
  seed: int = 0,
) -> dict[str, dict]:
  """What pF1 each form of a submission may expect, by out-of-fold data.

  Args:
    labels: (N,) 0 or 1, of breasts.
    probabilities: (N,) raw, of a model that did not see the breast.
    patients: (N,).
    method: of the calibration.
    rule: of the threshold.
    sites: (N,) site_id, or None.
    resamples: of the patients; None: no intervals.
    seed: of the parts that calibrate and choose for one another.

  Returns:
    {'raw', 'calibrated', 'thresholded'}: {'value', 'low', 'high'} each.

  Raises:
    errors.DataError: as `cross_fit`.
  """
  calibrated, called, _ = cross_fit(
    labels,
    probabilities,
    patients,
    method=method,
    rule=rule,
    sites=sites,
    seed=seed,
  )
  return forms(labels, probabilities, calibrated, called, patients, resamples)


def forms(
  labels, raw, calibrated, called, patients, resamples=None
) -> dict[str, dict]:
  """pF1 of the three forms of a submission, with intervals."""
  found = {}
  for name, values in (
    ('raw', raw),
    ('calibrated', calibrated),
    ('thresholded', called),
  ):
    columns, of_sums = figure = sums.figures(labels, values)['pf1']
    samples = None
    if resamples is not None:
      samples = of_sums(bootstrap.totals(columns, patients, resamples))
    found[name] = bootstrap.figure(sums.value(figure), samples)
  return found
