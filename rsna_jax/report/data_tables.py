"""Who was evaluated: counts of every part, and what is missing of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from rsna_jax import schema
from rsna_jax.report import leaks

_COUNTED = ('age', 'density', 'BIRADS', 'implant', 'view', 'machine_id')
LEFT_OUT = 'no label'
NO_TARGET = 'no target'
TITLES = {
  'train': 'training',
  NO_TARGET: 'training side without the target, not used',
  'validation': 'validation',
  'test': 'test',
  'all': 'evaluated',
  LEFT_OUT: LEFT_OUT,
}


def summary(
  columns: Mapping[str, np.ndarray],
  sides: np.ndarray,
  judged: Sequence[str],
  *,
  name: str = '',
  fingerprint: str = '',
  skipped: int | None = None,
) -> dict:
  """Counts of a data set and its parts.

  Args:
    columns: of the table, (N,) each.
    sides: (N,) the part of each row.
    judged: the parts that this evaluation speaks of.
    name: of the data set.
    fingerprint: of its content.
    skipped: files that its preparation left out; None: not known.

  Returns:
    Plain values: 'name', 'fingerprint', 'skipped', 'split_hash', 'parts' (of
    `_counts`, with 'part', 'title' and 'judged'), 'total', 'missing' (of the
    judged rows: 'column', 'missing', 'of').
  """
  sides = np.asarray(sides)
  order = [*TITLES, *sorted(set(sides.tolist()) - set(TITLES))]
  inside = np.isin(sides, list(judged))
  labelled = sides != LEFT_OUT
  return {
    'name': name,
    'fingerprint': fingerprint,
    'skipped': skipped,
    'split_hash': leaks.split_hash(
      np.asarray(columns['patient_id'])[labelled], sides[labelled]
    ),
    'parts': [
      {
        'part': part,
        'title': TITLES.get(part, part),
        'judged': part in judged,
        **_counts(columns, sides == part),
      }
      for part in order
      if (sides == part).any()
    ],
    'total': _counts(columns, np.ones(len(sides), bool)),
    'missing': [
      {
        'column': column,
        'missing': _missing(np.asarray(columns[column])[inside]),
        'of': int(inside.sum()),
      }
      for column in _COUNTED
      if column in columns
    ],
  }


def _counts(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict:
  ill = rows & (np.asarray(columns['cancer']) == 1)
  found = {}
  for kind, chosen in (('', rows), ('positive ', ill)):
    found[f'{kind}patients'] = _distinct(columns['patient_id'], chosen)
    found[f'{kind}breasts'] = _distinct(columns['prediction_id'], chosen)
    found[f'{kind}images'] = int(chosen.sum())
  return found


def _distinct(values, rows: np.ndarray) -> int:
  return len(np.unique(np.asarray(values)[rows]))


def _missing(values: np.ndarray) -> int:
  if values.dtype.kind == 'f':
    return int(np.isnan(values).sum())
  if values.dtype.kind in 'iu':
    return int((values == schema.MISSING).sum())
  return int((values == '').sum())
