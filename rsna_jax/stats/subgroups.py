"""Figures of parts of the data: sites, machines, ages, densities, views, and
the kinds of cancers and of healthy breasts.
"""

from collections.abc import Mapping

import numpy as np

from rsna_jax import metrics, schema
from rsna_jax.stats import bootstrap, boundary, heterogeneity, sums

# Fewer cases of either class than this say too little for a figure.
FEWEST_CASES = 20
OF_BREASTS = (
  'site_id',
  'machine_id',
  'laterality',
  'age',
  'density',
  'implant',
  'invasive',
  'BIRADS',
  'difficult_negative_case',
)
OF_IMAGES = ('view',)  # differ between the images of a breast
# Kinds of cancers, and of healthy breasts: each kind is held against all of the
# other class, since it has none of its own.
_OF_POSITIVES = ('invasive',)
_OF_NEGATIVES = ('difficult_negative_case',)
AGE_BANDS = ('under 50', '50 to 59', '60 to 69', '70 and over')
_FIGURES = ('sensitivity', 'specificity', 'calibration_in_the_large')


def roc_aucs(
  level: str,
  name: str,
  values: np.ndarray,
  labels: np.ndarray,
  probabilities: np.ndarray,
  patients: np.ndarray,
  resamples: bootstrap.Resamples | None,
  *,
  called: np.ndarray | None = None,
  calibrated: np.ndarray | None = None,
  whole: Mapping[str, float] | None = None,
) -> list[dict]:
  """The figures of each group of a column, or why there is none.

  Args:
    level: what a row is, 'breast' or 'image'.
    name: of the column.
    values: (N,) the column, missing values as the schema has them.
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,).
    resamples: of all patients; None: no intervals.
    called: (N,) bool decisions, behind sensitivity and specificity, or None.
    calibrated: (N,) probabilities behind calibration_in_the_large (observed
      rate less predicted one), or None.
    whole: roc_auc, sensitivity and specificity of all, for the warnings; None:
      no warnings.

  Returns:
    One {'level', 'column', 'value', 'n', 'positives', 'patients', 'roc_auc',
    'sensitivity', 'specificity', 'calibration_in_the_large', 'note', 'warning'}
    a group. A figure is {'value', 'low', 'high'}, or None; `note` is 'too few'
    where a class has below `FEWEST_CASES`, and `roc_auc` is None then; a
    sensitivity needs as many positives, a specificity negatives. `warning`
    names the figures whose interval lies below the whole's value, or is ''.
  """
  groups = _rows(name, values, labels)
  kept = [
    kind
    for kind, rows in groups.items()
    if min(labels[rows].sum(), (1 - labels[rows]).sum()) >= FEWEST_CASES
  ]
  of_sums = _summed(groups, labels, patients, resamples, called, calibrated)
  found = []
  for kind, rows in groups.items():
    y, p = labels[rows], probabilities[rows]
    own = rows & _own(name, labels)
    group = {
      'level': level,
      'column': name,
      'value': kind,
      'n': int(own.sum()),
      'positives': int(labels[own].sum()),
      'patients': len(np.unique(patients[own])),
      'roc_auc': None,
      **dict.fromkeys(_FIGURES),
      'note': '' if kind in kept else 'too few',
      'warning': '',
    }
    if kind in kept:
      samples = None
      if resamples is not None:
        samples = bootstrap.binary(
          y, p, patients[rows], resamples, names=('roc_auc',)
        )['roc_auc']
      group['roc_auc'] = boundary.mended(
        bootstrap.figure(metrics.roc_auc(y, p), samples),
        boundary.patients_behind(y, patients[rows])['roc_auc'],
      )
    enough = {
      'sensitivity': labels[own].sum() >= FEWEST_CASES,
      'specificity': (1 - labels[own]).sum() >= FEWEST_CASES,
      # Of one class alone a gap of rates says nothing.
      'calibration_in_the_large': kind in kept and own.sum() == rows.sum(),
    }
    behind = boundary.patients_behind(labels[own], patients[own])
    for figure in _FIGURES:
      if enough[figure] and figure in of_sums.get(kind, {}):
        group[figure] = boundary.mended(
          of_sums[kind][figure], behind.get(figure)
        )
    group['warning'] = _warning(group, whole or {})
    found.append(group)
  return found


def heterogeneous(
  level: str,
  name: str,
  values: np.ndarray,
  labels: np.ndarray,
  probabilities: np.ndarray,
  patients: np.ndarray,
) -> dict | None:
  """Whether the areas under the ROC curve of a column's groups differ.

  Args:
    level: 'breast' or 'image'.
    name: of the column.
    values: (N,) the column; unknown values take no part.
    labels: (N,) 0 or 1.
    probabilities: (N,).
    patients: (N,).

  Returns:
    {'level', 'column', 'figure', 'groups' (values compared), 'q', 'freedom',
    'p', 'i_squared', 'lowest': {'value', 'roc_auc', 'gap' (below the rest: the
    area of all other groups' rows less its own), 'low', 'high'}}; None with
    fewer than two groups of enough cases.
  """
  groups = {
    kind: rows
    for kind, rows in _rows(name, values, labels).items()
    if kind != 'unknown'
    and min(labels[rows].sum(), (1 - labels[rows]).sum()) >= FEWEST_CASES
  }
  if len(groups) < 2:
    return None
  areas, covariance = heterogeneity.of_aucs(
    labels, probabilities, patients, list(groups.values())
  )
  tested = heterogeneity.test(areas, covariance)
  names, k = list(groups), int(areas.argmin())
  lowest = groups[names[k]]
  rest = np.logical_or.reduce([x for x in groups.values() if x is not lowest])
  gap = heterogeneity.gap(labels, probabilities, patients, rest, lowest)
  return {
    'level': level,
    'column': name,
    'figure': 'roc_auc',
    'groups': names,
    **tested,
    'lowest': {
      'value': names[k],
      'roc_auc': float(areas[k]),
      **{key: bootstrap.number(x) for key, x in gap.items()},
    },
  }


def _rows(name, values, labels) -> dict[str, np.ndarray]:
  """value -> (N,) bool, in order; a kind of a class with all of the other."""
  values = _grouped(name, values)
  own = _own(name, labels)
  return {
    kind: (values == kind) & own | ~own
    for kind in sorted(set(values[own].tolist()), key=_natural)
  }


def _own(name: str, labels: np.ndarray) -> np.ndarray:
  """(N,) bool: the rows that a column speaks of."""
  if name in _OF_POSITIVES:
    return labels == 1
  if name in _OF_NEGATIVES:
    return labels == 0
  return np.ones(len(labels), bool)


def _summed(groups, labels, patients, resamples, called, calibrated) -> dict:
  """value -> figure -> {'value', 'low', 'high'}, by one product for all."""
  figures = {}
  if called is not None:
    of_calls = sums.decided(labels, called)
    figures |= {x: of_calls[x] for x in ('sensitivity', 'specificity')}
  if calibrated is not None:
    gap = np.stack([labels - calibrated, np.ones(len(labels))], axis=1)
    figures['calibration_in_the_large'] = gap, sums.share
  tables = {
    kind: {
      figure: (columns * rows[:, None], of_sums)
      for figure, (columns, of_sums) in figures.items()
    }
    for kind, rows in groups.items()
    if rows.sum() >= FEWEST_CASES
  }
  columns = [x for table in tables.values() for x, _ in table.values()]
  drawn = None
  if resamples is not None and columns:
    drawn = bootstrap.totals(
      np.concatenate(columns, axis=1), patients, resamples, np.float32
    )
  found, place = {}, 0
  for kind, table in tables.items():
    found[kind] = {}
    for figure, (x, of_sums) in table.items():
      samples = None
      if drawn is not None:
        samples = of_sums(drawn[:, place : place + x.shape[1]])
      place += x.shape[1]
      found[kind][figure] = bootstrap.figure(sums.value((x, of_sums)), samples)
  return found


def _warning(group: Mapping, whole: Mapping[str, float]) -> str:
  said = []
  for name in ('roc_auc', 'sensitivity', 'specificity'):
    figure, of_all = group[name], whole.get(name)
    if None in (figure, of_all) or figure['high'] is None:
      continue
    if figure['high'] < of_all:
      said.append(
        f'{name} {figure["value"]:.3f} ({figure["low"]:.3f} to '
        f'{figure["high"]:.3f}) lies below the whole, {of_all:.3f}'
      )
  return '; '.join(said)


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
