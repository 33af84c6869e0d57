"""What metrics.json says of one level: of breasts, of images or of patients."""

from collections.abc import Mapping

import numpy as np

from rsna_jax import errors, metrics
from rsna_jax.stats import bootstrap as bootstrap_lib
from rsna_jax.stats import (
  boundary,
  decision,
  delong,
  reliability,
  sums,
  thresholds,
)

CROSS_FITTED = (
  'cross-fitted: each half of the patients has the best one of the other half'
)
GIVEN = 'given: it was chosen on other data'
OUT_OF_FOLD = (
  'out of fold: the patients of each part by a decision of the other parts'
)
# Cancers among screened women; the data sets here have several times as many.
SCREENING_PREVALENCE = 0.005
_OF_ANY = ('brier', 'log_loss', 'ece', 'calibration_in_the_large')
_OF_CALLS = ('f1', 'sensitivity', 'specificity', 'ppv', 'npv', 'recall_rate')


def figures(
  labels, probabilities, patients, resamples, *, seed: int, threshold
) -> dict:
  """The figures of one level.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,).
    resamples: of the patients; None: no intervals.
    seed: of the halves that choose the threshold of F1.
    threshold: of F1, chosen on other data; None: cross-fitted.

  Returns:
    {'n', 'positives', 'patients', 'prevalence', 'pf1_all_ones', figures,
    'roc_auc_delong', 'pf1_best_threshold'} as `score.score` says.
  """
  n, positives = len(labels), int(labels.sum())
  prevalence = positives / n if n else float('nan')
  level = {
    'n': n,
    'positives': positives,
    'patients': len(np.unique(patients)),
    'prevalence': bootstrap_lib.number(prevalence),
    # What answering 1 everywhere scores: the floor that pF1 starts from.
    'pf1_all_ones': bootstrap_lib.number(2 * prevalence / (1 + prevalence)),
  }
  if threshold is None:
    called, applied = thresholds.cross_fit(
      labels, probabilities, patients, seed
    )
    for_others, _ = metrics.best_threshold(labels, probabilities)
    chosen_on = CROSS_FITTED
  else:
    called, applied = probabilities >= threshold, [threshold]
    for_others, chosen_on = threshold, GIVEN
  of_sums = sums.figures(labels, probabilities)
  of_sums['f1'] = sums.decided(labels, called)['f1']
  samples = {}
  if resamples is not None and n:
    samples = bootstrap_lib.binary(
      labels,
      probabilities,
      patients,
      resamples,
      predicted=called,
      names=(*bootstrap_lib.OF_COUNTS, *of_sums),
    )
  behind = boundary.patients_behind(labels, patients)
  counts = metrics.counts(labels, probabilities)
  values = {
    **{x: float(of(counts)) for x, of in bootstrap_lib.OF_COUNTS.items()},
    **({x: sums.value(of) for x, of in of_sums.items()} if n else {}),
  }
  for name in (*bootstrap_lib.OF_COUNTS, 'pf1', *_OF_ANY):
    # By definition some are 0 without positives, which would look measured.
    defined = n > 0 if name in _OF_ANY else positives > 0
    level[name] = None
    if defined and bootstrap_lib.number(values[name]) is not None:
      level[name] = boundary.mended(
        bootstrap_lib.figure(values[name], samples.get(name)), behind.get(name)
      )
  level['roc_auc_delong'] = None
  if level['roc_auc'] is not None:
    level['roc_auc_delong'] = {
      unit: {
        key: bootstrap_lib.number(x)
        for key, x in delong.interval(labels, probabilities, of).items()
      }
      for unit, of in (('by_example', None), ('by_patient', patients))
    }
  level['pf1_best_threshold'] = None
  if positives:
    level['pf1_best_threshold'] = {
      **boundary.mended(
        bootstrap_lib.figure(values['f1'], samples.get('f1')), behind['f1']
      ),
      'threshold': bootstrap_lib.number(for_others),
      'applied': [bootstrap_lib.number(value) for value in applied],
      'chosen_on': chosen_on,
    }
  return level


def decide(
  labels,
  probabilities,
  patients,
  resamples,
  *,
  method: str,
  rule: str | float,
  sites,
  seed: int,
  given: decision.Decision | None,
) -> tuple[np.ndarray, np.ndarray, dict]:
  """Calibrates and calls each example by a decision that had no part in it.

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,) raw.
    patients: (N,).
    resamples: or None.
    method: of the calibration.
    rule: of the threshold.
    sites: (N,) site_id, or None.
    seed: of the parts.
    given: made on other data: it is applied, and method, rule and seed are not
      used; None: cross-fitted.

  Returns:
    (N,) calibrated or None, (N,) bool calls or None, and what metrics.json says
    under 'decision'. They are None, and its `note` says why, where the data do
    not define a decision.
  """
  section = {
    'calibration': method if given is None else given.calibration.method,
    'rule': str(rule) if given is None else given.point.rule,
    'per_site': sites is not None,
    'chosen_on': OUT_OF_FOLD if given is None else GIVEN,
    'applied': None,
    'counts': None,
    'figures': None,
    'at_screening_prevalence': None,
    'for_others': None,
    'note': '',
  }
  try:
    if given is None:
      calibrated, called, applied = decision.cross_fit(
        labels,
        probabilities,
        patients,
        method=method,
        rule=rule,
        sites=sites,
        seed=seed,
      )
      given = decision.fit(
        labels,
        probabilities,
        method=method,
        rule=rule,
        patients=patients,
        sites=sites,
        resamples=resamples,
      )
    else:
      calibrated, called = given.apply(probabilities, sites)
      applied = [given.point.threshold['value']]
  except errors.DataError as error:
    return None, None, section | {'note': str(error)}
  found = called_figures(labels, called, patients, resamples)
  return (
    calibrated,
    called,
    section
    | {
      'applied': applied,
      'counts': {
        'tp': int((called & (labels == 1)).sum()),
        'fp': int((called & (labels == 0)).sum()),
        'fn': int((~called & (labels == 1)).sum()),
        'tn': int((~called & (labels == 0)).sum()),
      },
      'figures': found,
      'at_screening_prevalence': _at_prevalence(found, SCREENING_PREVALENCE),
      'for_others': given.to_json(),
    },
  )


def called_figures(labels, called, patients, resamples) -> dict[str, dict]:
  """Figures of (N,) bool decisions, each {'value', 'low', 'high'}."""
  of_sums = sums.decided(labels, called)
  samples = {}
  if resamples is not None and len(labels):
    samples = bootstrap_lib.binary(
      labels,
      np.asarray(called, np.float64),
      patients,
      resamples,
      predicted=called,
      names=_OF_CALLS,
    )
  behind = boundary.patients_behind(labels, patients, called)
  return {
    name: boundary.mended(
      bootstrap_lib.figure(sums.value(of_sums[name]), samples.get(name)),
      behind[name],
    )
    for name in _OF_CALLS
  }


def calibrated_figures(labels, probabilities, patients, resamples) -> dict:
  """How far (N,) probabilities can be taken at their word.

  Returns:
    {'slope', 'intercept', 'brier', 'log_loss', 'ece',
    'calibration_in_the_large', 'bins'}; see `reliability`.
  """
  of_sums = sums.figures(labels, probabilities)
  samples = {}
  if resamples is not None and len(labels):
    samples = bootstrap_lib.binary(
      labels, probabilities, patients, resamples, names=_OF_ANY
    )
  return {
    **reliability.slope(labels, probabilities, patients),
    **{
      x: bootstrap_lib.figure(sums.value(of_sums[x]), samples.get(x))
      for x in _OF_ANY
    },
    'bins': reliability.bins(labels, probabilities),
  }


def whole(level: Mapping, section: Mapping) -> dict[str, float]:
  """The figures of all that a group is held against."""
  figures = {'roc_auc': level['roc_auc'], **(section['figures'] or {})}
  return {
    name: figures[name]['value']
    for name in ('roc_auc', 'sensitivity', 'specificity')
    if figures.get(name) and figures[name]['value'] is not None
  }


def of_decision(group, calibrated, called, section, resamples) -> dict:
  """'calibration' and 'expected_pf1' of breasts, None without a decision."""
  if calibrated is None or not len(calibrated):
    return {'calibration': None, 'expected_pf1': None}
  label, raw, patient = group
  before = calibrated_figures(label, raw, patient, resamples)
  after = before
  if section['calibration'] != 'none':
    after = calibrated_figures(label, calibrated, patient, resamples)
  return {
    'calibration': {
      'method': section['calibration'],
      'before': before,
      'after': after,
    },
    'expected_pf1': decision.forms(
      label, raw, calibrated, called, patient, resamples
    )
    if label.any()
    else None,
  }


def _at_prevalence(found: dict, prevalence: float) -> dict:
  """Predictive values where so many of the examined are ill."""
  sensitivity = found['sensitivity']['value']
  specificity = found['specificity']['value']
  if sensitivity is None or specificity is None:
    return {'prevalence': prevalence, 'ppv': None, 'npv': None}
  ill, well = prevalence, 1 - prevalence
  alarms = sensitivity * ill + (1 - specificity) * well
  quiet = (1 - sensitivity) * ill + specificity * well
  return {
    'prevalence': prevalence,
    'ppv': sensitivity * ill / alarms if alarms else None,
    'npv': specificity * well / quiet if quiet else None,
  }
