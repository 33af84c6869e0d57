"""Figures of parts of the data: sites, machines, ages, densities, views."""

import numpy as np

from rsna_jax import bootstrap, metrics, schema

# Fewer cases of either class than this say too little for a figure.
FEWEST_CASES = 20
OF_BREASTS = (
  'site_id',
  'machine_id',
  'laterality',
  'age',
  'density',
  'implant',
)
OF_IMAGES = ('view',)  # differ between the images of a breast
AGE_BANDS = ('under 50', '50 to 59', '60 to 69', '70 and over')


def roc_aucs(
  level: str,
  name: str,
  values: np.ndarray,
  labels: np.ndarray,
  probabilities: np.ndarray,
  patients: np.ndarray,
  resamples: bootstrap.Resamples | None,
) -> list[dict]:
  """ROC AUC in each group of a column, or why there is none.

  Args:
    level: what a row is, 'breast' or 'image'.
    name: of the column.
    values: (N,) the column, missing values as the schema has them.
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,).
    resamples: of all patients; None: no intervals.

  Returns:
    One {'level', 'column', 'value', 'n', 'positives', 'roc_auc', 'note'} a
    group; `roc_auc` is None and `note` 'too few' below `FEWEST_CASES`.
  """
  groups = _grouped(name, values)
  found = []
  for value in sorted(set(groups.tolist()), key=_natural):
    rows = groups == value
    y, p = labels[rows], probabilities[rows]
    group = {
      'level': level,
      'column': name,
      'value': value,
      'n': int(rows.sum()),
      'positives': int(y.sum()),
      'roc_auc': None,
      'note': '',
    }
    if min(y.sum(), (1 - y).sum()) < FEWEST_CASES:
      group['note'] = 'too few'
    else:
      samples = None
      if resamples is not None:
        samples = bootstrap.binary(
          y, p, patients[rows], resamples, names=('roc_auc',)
        )['roc_auc']
      group['roc_auc'] = bootstrap.figure(metrics.roc_auc(y, p), samples)
    found.append(group)
  return found


def _grouped(name: str, values: np.ndarray) -> np.ndarray:
  """(N,) text, 'unknown' where the column has no value."""
  if name == 'age':
    age = values.astype(np.float64)
    bands = np.array(AGE_BANDS)[np.digitize(age, [50, 60, 70])]
    return np.where(np.isnan(age), 'unknown', bands)
  shown = values.astype(str)
  if name == 'density':
    letters = np.array([*schema.DENSITIES, 'unknown'])
    return letters[np.where(values == schema.MISSING, -1, values - 1)]
  return np.where(np.isin(shown, ('', str(schema.MISSING))), 'unknown', shown)


def _natural(value: str) -> tuple:
  """Sorts numbers as numbers, 'under 50' first, 'unknown' last."""
  if value in AGE_BANDS:
    return 0, AGE_BANDS.index(value), ''
  if value.isdecimal():
    return 0, int(value), ''
  return (2 if value == 'unknown' else 1), 0, value
