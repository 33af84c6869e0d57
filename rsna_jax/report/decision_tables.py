"""The rows of the report about yes or no: threshold, calibration, benefit."""

from collections.abc import Mapping, Sequence

from rsna_jax.report import tables

PER = 10_000  # women, of the sentence that says it in whole numbers
_RATES = {
  'sensitivity': ('Sensitivity', 'share of cancers that are called'),
  'specificity': ('Specificity', 'share of healthy cases that are not'),
  'ppv': ('PPV', 'share of cancers among those called'),
  'npv': ('NPV', 'share of healthy cases among those not called'),
  'recall_rate': ('Recall rate', 'share of all that are called'),
  'f1': ('F1', 'of precision and recall'),
}
_CALIBRATION = {
  'slope': ('Slope', 2, '1 is right; below 1, too extreme'),
  'intercept': ('Intercept', 2, '0 is right; above 0, too low'),
  'calibration_in_the_large': ('In the large', 4, 'observed less predicted'),
  'ece': ('Expected calibration error', 4, 'mean gap in ten equal bins'),
  'brier': ('Brier score', 4, 'mean squared error'),
  'log_loss': ('Log loss', 4, 'in nats'),
}
_FORMS = {
  'raw': 'Raw probabilities',
  'calibrated': 'Calibrated probabilities',
  'thresholded': 'Yes or no at the threshold',
}


def operating(metrics: Mapping) -> dict | None:
  """The operating point: counts, rates, and the same at screening's rate.

  Returns:
    {'rule', 'applied', 'chosen_on', 'calibration', 'counts', 'rows',
    'prevalence' and 'screening' (text), 'sentence'}; None where the data define
    no decision.
  """
  section = metrics.get('decision') or {}
  figures, counts = section.get('figures'), section.get('counts')
  if not figures or not counts:
    return None
  elsewhere = dict(section.get('at_screening_prevalence') or {})
  prevalence = elsewhere.get('prevalence')
  sensitivity = figures['sensitivity']['value']
  specificity = figures['specificity']['value']
  sentence = ''
  if None not in (prevalence, sensitivity, specificity):
    elsewhere |= {
      'sensitivity': sensitivity,
      'specificity': specificity,
      'recall_rate': sensitivity * prevalence
      + (1 - specificity) * (1 - prevalence),
    }
    sentence = _sentence(prevalence, sensitivity, specificity)
  return {
    'rule': section['rule'],
    'applied': _applied(section['applied'] or []),
    'chosen_on': section['chosen_on'],
    'calibration': section['calibration'],
    'per_site': section['per_site'],
    'counts': counts,
    'rows': [
      {
        'title': title,
        'meaning': meaning,
        'here': tables.cell(figures.get(name), 3),
        'screening': tables.number(elsewhere.get(name), 4),
      }
      for name, (title, meaning) in _RATES.items()
    ],
    'prevalence': tables.percent((metrics.get('breast') or {})['prevalence']),
    'screening': tables.percent(prevalence),
    'sentence': sentence,
  }


def point(metrics: Mapping) -> tuple[dict[str, float], list[float]]:
  """Values of the figures at the operating point, and raw thresholds if any.

  The thresholds are of raw probabilities only where there is no calibration.
  """
  section = metrics.get('decision') or {}
  values = {
    name: figure['value']
    for name, figure in (section.get('figures') or {}).items()
    if figure and figure['value'] is not None
  }
  raw = section.get('calibration') == 'none'
  return values, list(section.get('applied') or []) if raw else []


def calibration(metrics: Mapping) -> dict | None:
  """Before and after, figure by figure."""
  found = metrics.get('calibration')
  if not found:
    return None
  return {
    'method': found['method'],
    'rows': [
      {
        'title': title,
        'meaning': meaning,
        'before': tables.cell(found['before'].get(name), digits),
        'after': tables.cell(found['after'].get(name), digits),
      }
      for name, (title, digits, meaning) in _CALIBRATION.items()
    ],
  }


def expected_pf1(metrics: Mapping) -> list[dict]:
  """pF1 that each form of a submission may expect."""
  found = metrics.get('expected_pf1') or {}
  return [
    {'title': title} | tables.cell(found[name], 3)
    for name, title in _FORMS.items()
    if name in found
  ]


def heterogeneity(metrics: Mapping) -> list[dict]:
  """Whether groups differ, column by column."""
  return [
    {
      'column': tables.COLUMNS.get(x['column'], x['column']),
      'level': x['level'],
      'groups': len(x['groups']),
      'q': f'{x["q"]:.2f} ({x["freedom"]})',
      'p': '<0.001' if x['p'] < 0.001 else f'{x["p"]:.3f}',
      'i_squared': tables.percent(x['i_squared'], 0),
      'lowest': tables.group_name(x['column'], x['lowest']['value']),
      'gap': tables.cell(x['lowest'] | {'value': x['lowest'].get('gap')}, 3),
    }
    for x in metrics.get('heterogeneity') or []
  ]


def _sentence(prevalence: float, sensitivity: float, specificity: float) -> str:
  ill = PER * prevalence
  found, alarms = ill * sensitivity, (PER - ill) * (1 - specificity)
  return (
    f'Of {PER:,} breasts in screening, about {ill:.0f} have cancer. At this '
    f'point {found:.0f} of them would be called and {ill - found:.0f} missed, '
    f'and {alarms:,.0f} of the others would be called as well.'
  )


def _applied(values: Sequence[float]) -> str:
  """The thresholds: one, or the range of those of several parts."""
  if not values:
    return '–'
  shown = [tables.number(x, 4) for x in (min(values), max(values))]
  if shown[0] == shown[1]:
    return shown[0]
  return f'{shown[0]} to {shown[1]}'
