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
  'sensitivity_at_10_recall_rate': (
    'Sensitivity at 10 % recalled',
    3,
    'share of cancers found when 1 case in 10 of all is recalled',
  ),
  'partial_auc_10': (
    'Partial AUC to 10 % false positives',
    3,
    'that part of the ROC curve, scaled: 0.5 is chance, 1 perfect',
  ),
  'brier': ('Brier score', 4, 'mean squared error of the probabilities'),
  'log_loss': ('Log loss', 4, 'mean negative log-likelihood, in nats'),
  'ece': (
    'Expected calibration error',
    4,
    'mean gap of predicted and observed rate in ten equal bins',
  ),
  'calibration_in_the_large': (
    'Calibration in the large',
    4,
    'observed rate of cancer less the mean prediction; 0 is right',
  ),
}
LEVELS = {'breast': 'Breasts', 'image': 'Images', 'patient': 'Patients'}
_CARDS = ('roc_auc', 'average_precision', 'pf1', 'pf1_best_threshold')
_CLASS_FIGURES = {
  'accuracy': 'Accuracy',
  'macro_f1': 'Macro F1',
  'quadratic_kappa': 'Quadratic kappa of density',
  'linear_kappa': 'Linear kappa of density',
  'dense_kappa': 'Kappa of dense (C, D) against not (A, B)',
  'density_accuracy': 'Accuracy of density',
  'ordinal_mae': 'Mean error of density, in classes',
}
COLUMNS = {
  'site_id': 'Site',
  'machine_id': 'Machine',
  'laterality': 'Side',
  'age': 'Age',
  'density': 'Density',
  'implant': 'Implant',
  'view': 'View',
  'invasive': 'Invasive',
  'BIRADS': 'BI-RADS',
  'difficult_negative_case': 'Difficult negative',
}
_FLAGS = 'implant', 'invasive', 'difficult_negative_case'
_YES_NO = {'0': 'no', '1': 'yes'}
_AXIS = 0.4, 1.0  # of the small bars of ROC AUC


def title(name: str) -> str:
  """'roc_auc' as 'ROC AUC', and an unknown name without underscores."""
  if name in FIGURES:
    return FIGURES[name][0]
  if name == 'grad_norm':
    return 'Norm of the gradient'
  text = name.replace('_', ' ')
  return text[:1].upper() + text[1:]


def entry(metrics: Mapping, level: str, name: str) -> Mapping | None:
  """A figure of a level, or None."""
  return (metrics.get(level) or {}).get(name)


def number(value: float | None, digits: int) -> str:
  """A number, or a dash for what is not defined."""
  return '–' if value is None else _signed(value, digits)


def interval(figure: Mapping | None, digits: int) -> str:
  """As in '0.889 (0.873 to 0.902)'."""
  if not figure or figure['value'] is None:
    return 'not defined'
  shown = number(figure['value'], digits)
  if figure.get('low') is not None:
    shown += f' ({_range(figure, digits)})'
  return shown


def _range(figure: Mapping, digits: int) -> str:
  low, high = figure.get('low'), figure.get('high')
  if low is None or high is None:
    return ''
  return f'{_signed(low, digits)} to {_signed(high, digits)}'


def _signed(value: float, digits: int) -> str:
  # Adding 0 makes nothing of the -0 that rounding leaves.
  return f'{round(value, digits) + 0.0:.{digits}f}'


def cell(figure: Mapping | None, digits: int) -> dict:
  """A figure as {'value', 'range'}, as the page shows it."""
  if not figure or figure['value'] is None:
    return {'value': '–', 'range': ''}
  return {
    'value': number(figure['value'], digits),
    'range': _range(figure, digits),
  }


def cards(metrics: Mapping) -> list[dict]:
  """The few figures that stand on top."""
  if 'breast' in metrics:
    return [
      {'title': FIGURES[name][0]} | cell(entry(metrics, 'breast', name), 3)
      for name in _CARDS
    ]
  found = metrics.get('classes') or {}
  return [
    {'title': title} | cell(found[name], 3)
    for name, title in list(_CLASS_FIGURES.items())[:3]
    if name in found
  ]


def figures(metrics: Mapping) -> list[dict]:
  """All figures, with a cell for each level that metrics.json has."""
  if 'breast' not in metrics:
    return []
  return [
    {
      'title': title,
      'meaning': meaning,
      'cells': [
        cell(entry(metrics, level, name), digits) for level in levels(metrics)
      ],
    }
    for name, (title, digits, meaning) in FIGURES.items()
  ]


def levels(metrics: Mapping) -> list[str]:
  """breast, image and patient, as far as they are there."""
  return [name for name in LEVELS if metrics.get(name)]


def classes(found: Mapping | None) -> dict | None:
  """The figures of classes, and the shaded confusion matrix.

  None where no image has a known class.
  """
  if not found or not found['n']:
    return None
  confusion = np.asarray(found['confusion'])
  share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
  recalls = found.get('recall_intervals') or [
    {'value': value} for value in found['recall']
  ]
  return {
    'n': found['n'],
    'figures': [
      {'title': title} | cell(found[name], 3)
      for name, title in _CLASS_FIGURES.items()
      if name in found
    ]
    + [
      {
        'title': 'Accuracy of always saying the commonest class',
        'value': number(confusion.sum(axis=1).max() / confusion.sum(), 3),
        'range': '',
      }
    ],
    'names': found['names'],
    # Density1Malignant may break before the second capital letter.
    'heads': [re.findall('[^A-Z]+|[A-Z][^A-Z]*', x) for x in found['names']],
    'rows': [
      {
        'name': name,
        'recall': cell(recall, 2),
        'cells': [
          {'count': int(n), 'shade': round(0.55 * float(part), 3)}
          for n, part in zip(row, parts, strict=True)
        ],
      }
      for name, recall, row, parts in zip(
        found['names'], recalls, confusion, share, strict=True
      )
    ],
  }


def group_name(column: str, value: str) -> str:
  """A group's value as a reader knows it: '1' of a flag as 'yes'."""
  return _YES_NO.get(value, value) if column in _FLAGS else value


def subgroups(groups: Sequence[Mapping]) -> list[dict]:
  """Rows of the table; the interval's ends in per cent of the small axis."""
  rows, before = [], None
  low, high = _AXIS
  for group in groups:
    figure = group['roc_auc']
    bar = None
    if figure and figure.get('low') is not None:
      bar = {
        key: round(100 * min(max((figure[key] - low) / (high - low), 0), 1), 2)
        for key in ('low', 'value', 'high')
      }
    column = COLUMNS.get(group['column'], group['column'])
    rows.append(
      {
        'column': column,
        'first': column != before,
        'value': group_name(group['column'], group['value']),
        'level': group.get('level', 'breast'),
        'n': group['n'],
        'positives': group['positives'],
        'patients': group.get('patients'),
        'auc': cell(figure, 3),
        'others': [
          (label, cell(group.get(name), 3))
          for label, name in (
            ('sensitivity', 'sensitivity'),
            ('specificity', 'specificity'),
            ('gap', 'calibration_in_the_large'),
          )
        ],
        'bar': bar,
        'note': group['note'],
        'warning': words(group.get('warning') or ''),
      }
    )
    before = column
  return rows


def words(text: str) -> str:
  """Names of metrics.json in a sentence, as a reader knows them."""
  for name in sorted(FIGURES, key=len, reverse=True):
    text = text.replace(name, FIGURES[name][0])
  return text


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


def percent(value: float | None, digits: int = 2) -> str:
  """0.021 as '2.1 %'."""
  if value is None:
    return '–'
  text = f'{100 * value:.{digits}f}'
  if '.' in text:
    text = text.rstrip('0').rstrip('.')
  return f'{text} %'
