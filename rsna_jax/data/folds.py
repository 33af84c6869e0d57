"""Which rows train, which validate and which test: always whole patients.

Two images of one woman on two sides of a split would let a network recognise
her instead of the disease.
"""

import logging
import math

import numpy as np

from rsna_jax import errors
from rsna_jax.data import table as table_lib

PARTS = ('train', 'validation', 'test')
OFFICIAL_ROWS = 54_706

# The public test split of the full train.csv, used by published baselines:
# sklearn.model_selection.train_test_split(
#   unique patient ids in file order, test_size=0.1, random_state=42)
_PUBLIC_SEED = 42
_PUBLIC_COUNTS = {
  'patients': 1_192,
  'images': 5_474,
  'breasts': 2_384,
  'positive breasts': 57,
}
_FOLDS_STREAM = 0x666F6C6473  # keeps the draw apart from others of the seed
_log = logging.getLogger('rsna_jax')


def assign(
  table: table_lib.Table,
  *,
  split: str = 'folds',
  held_out: int = -1,
  folds: int = 4,
  fold: int = 0,
  seed: int = 0,
) -> np.ndarray:
  """Puts every row into a part, each patient into one part alone.

  Args:
    table: labelled rows; for 'public' in the order of the file.
    split: 'folds': fold `fold` validates and the rest trains. 'public': the
      published test split is 'test'. 'site', 'machine': all patients with an
      image of site_id or machine_id `held_out` are 'test'. What is not 'test'
      is split as 'folds' does.
    held_out: the site_id or machine_id.
    folds: number of folds.
    fold: from 0 to folds - 1.
    seed: of the folds.

  Returns:
    (N,) '<U10': 'train', 'validation' or 'test'.

  Raises:
    errors.DataError: an id that is not there, too few patients, a part
      without rows, or a public split that is not the published one.
    errors.ConfigError: an unknown split or fold.
  """
  if not 0 <= fold < folds:
    raise errors.ConfigError(f'data.fold={fold}: from 0 to {folds - 1}')
  if split == 'folds':
    test = np.zeros(len(table), bool)
  elif split == 'public':
    test = _public_test(table)
  elif split in ('site', 'machine'):
    test = _held_out_test(table, f'{split}_id', held_out)
  else:
    raise errors.ConfigError(
      f'data.split={split!r}: choose folds, public, site, machine'
    )
  rest = table.take(~test)
  parts = np.full(len(table), 'test', '<U10')
  parts[~test] = np.where(
    fold_of(rest, folds, seed) == fold, 'validation', 'train'
  )
  for part in PARTS[:2] if split == 'folds' else PARTS:
    if not (parts == part).any():
      raise errors.DataError(
        f'data.split={split}, fold {fold} of {folds}: no row is left to '
        f'{part}: choose another split'
      )
  check_patients(table, parts)
  return parts


def fold_of(table: table_lib.Table, folds: int, seed: int) -> np.ndarray:
  """Fold of every row: whole patients, balanced by cancer and by site.

  It depends on the patients, their labels and sites, and on no order of rows.

  Args:
    table: rows; without a label they count as without cancer.
    folds: number of folds, from 2 to the number of patients.
    seed: another seed is another assignment.

  Returns:
    (N,) int64 from 0 to folds - 1.

  Raises:
    errors.DataError: fewer patients than folds.
  """
  patients, which = np.unique(table['patient_id'], return_inverse=True)
  if len(patients) < folds:
    raise errors.DataError(
      f'data.folds={folds}: there are {len(patients)} patients: '
      + (f'choose at most {len(patients)}' if len(patients) > 1 else 'add some')
    )
  cancer = np.zeros(len(patients), np.int64)
  np.maximum.at(cancer, which, table['cancer'])
  site = np.full(len(patients), np.iinfo(np.int64).max)
  np.minimum.at(site, which, table['site_id'])
  key = np.array([seed % 2**64, _FOLDS_STREAM], np.uint64)
  generator = np.random.Generator(np.random.Philox(key=key))
  shuffled = generator.permutation(len(patients))
  # Strata one after the other, each in shuffled order, dealt out like cards:
  # every fold gets its share of each stratum, and of the whole, to within one.
  dealt = shuffled[np.lexsort((site[shuffled], cancer[shuffled]))]
  fold = np.empty(len(patients), np.int64)
  fold[dealt] = np.arange(len(patients)) % folds
  return fold[which]


def check_patients(table: table_lib.Table, parts: np.ndarray) -> None:
  """Checks that no patient is in two parts.

  Args:
    table: N rows.
    parts: (N,) names of parts.

  Raises:
    errors.DataError: names a patient and the parts.
  """
  _, labels = np.unique(parts, return_inverse=True)
  patients, which = np.unique(table['patient_id'], return_inverse=True)
  low = np.full(len(patients), len(parts))
  high = np.full(len(patients), -1)
  np.minimum.at(low, which, labels)
  np.maximum.at(high, which, labels)
  torn = np.flatnonzero(low < high)
  if torn.size:
    sides = sorted(set(parts[which == torn[0]].tolist()))
    raise errors.DataError(
      f'split: patient_id={patients[torn[0]]} is in {" and ".join(sides)}, as '
      f'are {torn.size - 1} more patients: split by patient'
    )


def _public_test(table: table_lib.Table) -> np.ndarray:
  """(N,) bool: rows of the published test split."""
  ids, first = np.unique(table['patient_id'], return_index=True)
  in_file_order = ids[np.argsort(first)]
  n_test = math.ceil(0.1 * len(ids))
  drawn = np.random.RandomState(_PUBLIC_SEED).permutation(len(ids))[:n_test]
  test = np.isin(table['patient_id'], in_file_order[drawn])
  if len(table) != OFFICIAL_ROWS:
    _log.warning(
      'data.split=public: %d rows are not the %d of the full train.csv: drawn '
      'in the same way, but figures do not compare with published ones',
      len(table),
      OFFICIAL_ROWS,
    )
    return test
  breasts = np.unique(table['prediction_id'][test])
  positive = test & (table['cancer'] == 1)
  counts = {
    'patients': n_test,
    'images': int(test.sum()),
    'breasts': len(breasts),
    'positive breasts': len(np.unique(table['prediction_id'][positive])),
  }
  for name, count in _PUBLIC_COUNTS.items():
    if counts[name] != count:
      raise errors.DataError(
        f'data.split=public: {counts[name]} {name} instead of {count}: the '
        'rows have to be those of the official train.csv, in its order'
      )
  return test


def _held_out_test(
  table: table_lib.Table, column: str, held_out: int
) -> np.ndarray:
  """(N,) bool: rows of all patients with an image of the site or machine."""
  there = table[column] == held_out
  if held_out < 0 or not there.any():
    present = sorted(set(table[column].tolist()) - {-1})
    raise errors.DataError(
      f'data.held_out={held_out}: no row has this {column}: choose '
      + (', '.join(map(str, present)) or 'another split')
    )
  test = np.isin(table['patient_id'], table['patient_id'][there])
  if test.all():
    raise errors.DataError(
      f'data.held_out={held_out}: every patient has an image of this {column}, '
      'so none is left to train: choose another'
    )
  return test
