"""The rows of the report's tables, as text, from the dict of metrics.json."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

# Name in metrics.json -> title, digits, what it means.
FIGURES = {
  'roc_auc': (
    'ROC AUC',
    3,
    'chance that a case with cancer scores above a case without',
  ),
  'average_precision': (
    'Average precision',
    3,
    'mean precision over all recalls; the prevalence is the floor',
  ),
  'pf1': (
    'pF1',
    3,
    'probabilistic F1 of the RSNA 2022 challenge, at the probabilities',
  ),
  'pf1_best_threshold': (
    'F1 at a threshold',
    3,
    'F1 of yes or no, by a threshold from other patients',
  ),
  'sensitivity_at_90_specificity': (
    'Sensitivity at 90 % specificity',
    3,
    'share of cancers recalled when 1 healthy case in 10 is',
  ),
  'specificity_at_90_sensitivity': (
    'Specificity at 90 % sensitivity',
    3,
    'share of healthy cases not recalled when 9 cancers in 10 are',
  ),
  'brier': ('Brier score', 4, 'mean squared error of the probabilities'),
  'log_loss': ('Log loss', 4, 'mean negative log-likelihood, in nats'),
  'ece': (
    'Expected calibration error',
    4,
    'mean gap of predicted and observed rate in ten equal bins',
  ),
}
_CARDS = ('roc_auc', 'average_precision', 'pf1', 'pf1_best_threshold')
_CLASS_FIGURES = {
  'accuracy': 'Accuracy',
  'macro_f1': 'Macro F1',
  'quadratic_kappa': 'Quadratic kappa of density',
}
_COLUMNS = {
  'site_id': 'Site',
  'machine_id': 'Machine',
  'laterality': 'Side',
  'age': 'Age',
  'density': 'Density',
  'implant': 'Implant',
  'view': 'View',
}


def title(name: str) -> str:
  """'roc_auc' as 'ROC AUC', and an unknown name without underscores."""
  if name in FIGURES:
    return FIGURES[name][0]
  text = name.replace('_', ' ')
  return text[:1].upper() + text[1:]


def entry(metrics: Mapping, level: str, name: str) -> Mapping | None:
  """A figure of a level, or None."""
  return (metrics.get(level) or {}).get(name)


def _number(value: float | None, digits: int) -> str:
  return '–' if value is None else f'{value:.{digits}f}'


def interval(figure: Mapping | None, digits: int) -> str:
  """As in '0.889 (0.873 to 0.902)'."""
  if not figure or figure['value'] is None:
    return 'not defined'
  shown = _number(figure['value'], digits)
  if figure.get('low') is not None:
    shown += f' ({_range(figure, digits)})'
  return shown


def _range(figure: Mapping, digits: int) -> str:
  low, high = figure.get('low'), figure.get('high')
  if low is None or high is None:
    return ''
  return f'{low:.{digits}f} to {high:.{digits}f}'


def _cell(figure: Mapping | None, digits: int) -> dict:
  if not figure or figure['value'] is None:
    return {'value': '–', 'range': ''}
  return {
    'value': _number(figure['value'], digits),
    'range': _range(figure, digits),
  }


def cards(metrics: Mapping) -> list[dict]:
  """The few figures that stand on top."""
  if 'breast' in metrics:
    return [
      {'title': FIGURES[name][0]} | _cell(entry(metrics, 'breast', name), 3)
      for name in _CARDS
    ]
  found = metrics.get('classes') or {}
  return [
    {'title': title} | _cell(found[name], 3)
    for name, title in _CLASS_FIGURES.items()
    if name in found
  ]


def figures(metrics: Mapping) -> list[dict]:
  """All figures of breasts and images."""
  if 'breast' not in metrics:
    return []
  return [
    {
      'title': title,
      'meaning': meaning,
      'breast': _cell(entry(metrics, 'breast', name), digits),
      'image': _cell(entry(metrics, 'image', name), digits),
    }
    for name, (title, digits, meaning) in FIGURES.items()
  ]


def operating(metrics: Mapping) -> dict | None:
  """The thresholds that were applied to breasts."""
  best = entry(metrics, 'breast', 'pf1_best_threshold')
  if not best:
    return None
  return {
    'applied': ' and '.join(_number(x, 3) for x in best['applied']),
    'chosen_on': best['chosen_on'],
  }


def classes(found: Mapping | None) -> dict | None:
  """The figures of classes, and the shaded confusion matrix."""
  if not found:
    return None
  confusion = np.asarray(found['confusion'])
  share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
  return {
    'n': found['n'],
    'figures': [
      {'title': title} | _cell(found[name], 3)
      for name, title in _CLASS_FIGURES.items()
    ],
    'names': found['names'],
    # Density1Malignant may break before the second capital letter.
    'heads': [re.findall('[^A-Z]+|[A-Z][^A-Z]*', x) for x in found['names']],
    'rows': [
      {
        'name': name,
        'recall': _number(recall, 2),
        'cells': [
          {'count': int(n), 'shade': round(0.55 * float(part), 3)}
          for n, part in zip(row, parts, strict=True)
        ],
      }
      for name, recall, row, parts in zip(
        found['names'], found['recall'], confusion, share, strict=True
      )
    ],
  }


def subgroups(groups: Sequence[Mapping]) -> list[dict]:
  """Rows of the table; the interval's ends in per cent of the axis 0.4 to 1."""
  rows, before = [], None
  for group in groups:
    figure = group['roc_auc']
    bar = None
    if figure and figure.get('low') is not None:
      bar = {
        key: round(100 * min(max((figure[key] - 0.4) / 0.6, 0), 1), 2)
        for key in ('low', 'value', 'high')
      }
    column = _COLUMNS.get(group['column'], group['column'])
    rows.append(
      {
        'column': column,
        'first': column != before,
        'value': group['value'],
        'level': group.get('level', 'breast'),
        'n': group['n'],
        'positives': group['positives'],
        'auc': _cell(figure, 3),
        'bar': bar,
        'note': group['note'],
      }
    )
    before = column
  return rows


def flat(values: Mapping, prefix: str = '') -> list[tuple[str, str]]:
  """Nested values as ('data.size', '512, 256')."""
  rows = []
  for key, value in values.items():
    if isinstance(value, Mapping):
      rows += flat(value, f'{prefix}{key}.')
    elif isinstance(value, (list, tuple)):
      rows.append((f'{prefix}{key}', ', '.join(map(str, value)) or '–'))
    else:
      rows.append(
        (f'{prefix}{key}', '–' if value in (None, '') else str(value))
      )
  return rows
