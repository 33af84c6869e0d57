"""Which rows of a data set belong to which split of a run, by patient."""

import logging
from collections.abc import Sequence

import numpy as np

from rsna_jax import errors
from rsna_jax.data import folds

_LOG = logging.getLogger('rsna_jax')


def folds_of(c, data, rows: np.ndarray, split: str) -> np.ndarray:
  """The fold of each row's patient; -1 where the run has it in none."""
  found = np.full(len(data), -1)
  if split in ('train', 'validation'):
    labelled = np.flatnonzero(data.split == 'train')
    inside = labelled[divide(c, data) != 'test']
    found[inside] = folds.fold_of(
      data.table.take(inside), c.data.folds, c.data.split_seed
    )
  return found[rows]


def select_rows(
  c, data, split: str, trained_on: str | None, mixed_in: Sequence[str] = ()
) -> np.ndarray:
  """Row numbers of a split.

  Args:
    c: the run's config.
    data: the data set to divide.
    split: the name of the split.
    trained_on: fingerprint of the data that the run divides; None: of these.
    mixed_in: fingerprints of the data that it was trained on besides.

  Raises:
    errors.DataError: the split is empty, or cannot be told on other data than
      the run was trained on.
  """
  labelled = np.flatnonzero(data.split == 'train')
  if split == 'submission':
    rows = np.flatnonzero(data.split == 'test')
    remedy = 'prepare a folder that holds test.csv and test_images'
  elif split == 'all':
    if data.fingerprint in (trained_on, *mixed_in):
      _LOG.warning(
        'split all of the data that this run was trained on: the figures are '
        'not those of unseen patients'
      )
    rows, remedy = labelled, 'prepare a folder that holds train.csv'
  else:
    if trained_on is not None and trained_on != data.fingerprint:
      raise errors.DataError(
        f'{c.data.dir}: not the data that this run was trained on, so its '
        f'split {split!r} cannot be told; use --split all, on patients that '
        'it has not seen'
      )
    parts = divide(c, data)
    rows = labelled[parts == split]
    remedy = (
      'data.split=folds has none; choose public, site or machine'
      if split == 'test'
      else 'use more patients or fewer data.folds'
    )
  if not len(rows):
    raise errors.DataError(f'split {split!r} is empty: {remedy}')
  return rows


def divide(c, data) -> np.ndarray:
  """'train', 'validation' or 'test' for each labelled row, by patient."""
  return _divide(c, data, c.data.split)


def divide_extra(c, data) -> np.ndarray:
  """As `divide`, of a set mixed in, which need not have what is held out."""
  split = c.data.split
  labelled = data.split == 'train'
  if (
    split in ('site', 'machine')
    and not (data.table[f'{split}_id'][labelled] == c.data.held_out).any()
  ):
    split = 'folds'
  return _divide(c, data, split)


def _divide(c, data, split: str) -> np.ndarray:
  table = data.table.take(np.flatnonzero(data.split == 'train'))
  parts = folds.assign(
    table,
    split=split,
    held_out=c.data.held_out,
    folds=c.data.folds,
    fold=c.data.fold,
    seed=c.data.split_seed,
  )
  folds.check_patients(table, parts)
  return parts
