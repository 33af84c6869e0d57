"""The rows of a report about the targets beside the main one."""

from collections.abc import Mapping

from rsna_jax.report import tables

_TITLES = {
  'density': 'Density',
  'birads': 'BI-RADS assessment',
  'biopsy': 'Biopsy',
  'invasive': 'Invasive cancer',
  'benign': 'Benign biopsy',
  'difficult_negative_case': 'Difficult negative',
  'age': 'Age',
  'view': 'View',
}


def rows(metrics: Mapping) -> list[dict]:
  """What metrics.json says under 'auxiliary', for a table.

  Returns:
    For each target {'title', 'n', 'figure', 'value', 'beside'}: its name, the
    images with a label, a figure's name and value, and what needs no network to
    reach as much, all but `n` as text.
  """
  return [
    {'title': _TITLES.get(name, name), 'n': found['n'], **_row(found)}
    for name, found in (metrics.get('auxiliary') or {}).items()
  ]


def _row(found: Mapping) -> dict[str, str]:
  if 'roc_auc' in found:
    return {
      'figure': 'ROC AUC',
      'value': tables.number(found['roc_auc'], 3),
      'beside': f'0.5 by chance; {found["positives"]:,} positive',
    }
  if 'accuracy' in found:
    commonest = tables.number(found['commonest'], 3)
    return {
      'figure': 'Accuracy',
      'value': tables.number(found['accuracy'], 3),
      'beside': f'{commonest} by the commonest class',
    }
  median = tables.number(found['mean_absolute_deviation'], 1)
  return {
    'figure': 'Mean error, years',
    'value': tables.number(found['mean_absolute_error'], 1),
    'beside': f'{median} by the median',
  }
