import logging
import os
import pathlib

import numpy as np
import pytest
from sklearn import model_selection

from rsna_jax import errors
from rsna_jax.data import folds as folds_lib
from rsna_jax.data import table as table_lib

_DATA = pathlib.Path(
  os.environ.get(
    'RSNA_JAX_DATA', pathlib.Path(__file__).parents[3] / 'shared' / 'data'
  )
)


def _table(patients=203, seed=0):
  """Patients of 1 to 6 images at two sites and four machines."""
  rng = np.random.default_rng(seed)
  ids = rng.permutation(50_000)[:patients]
  images = rng.integers(1, 7, patients)
  site = np.repeat(rng.integers(1, 3, patients), images)
  machine = 10 * site + rng.integers(0, 2, len(site))
  n = len(site)
  left = rng.random(n) < 0.5
  sick = np.repeat(rng.random(patients) < 0.15, images)
  return table_lib.Table.from_columns(
    {
      'patient_id': np.repeat(ids, images),
      'image_id': rng.permutation(n),
      'site_id': site,
      'machine_id': machine,
      'laterality': np.where(left, 'L', 'R'),
      'cancer': sick & left,
    }
  )


@pytest.fixture(scope='module')
def official():
  path = _DATA / 'rsna_csv' / 'train.csv'
  if not path.exists():
    pytest.skip(f'{path} is not there; set RSNA_JAX_DATA')
  return table_lib.read_csv(path)


def _patients(table, mask) -> set[int]:
  return set(table['patient_id'][mask].tolist())


@pytest.mark.parametrize('folds', [2, 4, 5])
@pytest.mark.parametrize('seed', [0, 1, -3, 2**63])
def test_patients_stay_whole_and_every_stratum_is_dealt_evenly(folds, seed):
  table = _table()
  fold = folds_lib.fold_of(table, folds, seed)
  assert set(fold.tolist()) == set(range(folds))
  of_patient, stratum = {}, {}
  for patient, site, cancer, f in zip(
    table['patient_id'], table['site_id'], table['cancer'], fold, strict=True
  ):
    assert of_patient.setdefault(patient, f) == f
    _, before = stratum.get(patient, (site, 0))
    stratum[patient] = (site, max(before, cancer))
  totals = np.bincount(list(of_patient.values()))
  assert totals.max() - totals.min() <= 1
  assert len(set(stratum.values())) == 4
  for which in set(stratum.values()):
    counts = np.zeros(folds, int)
    for patient, f in of_patient.items():
      counts[f] += stratum[patient] == which
    assert counts.max() - counts.min() <= 1


def test_folds_follow_the_patient_and_not_the_order_of_rows():
  table = _table()
  fold = folds_lib.fold_of(table, 4, 7)
  mixed = np.random.default_rng(1).permutation(len(table))
  np.testing.assert_array_equal(
    folds_lib.fold_of(table.take(mixed), 4, 7), fold[mixed]
  )


def test_another_seed_deals_anew_and_the_same_seed_does_not():
  table = _table()
  fold = folds_lib.fold_of(table, 4, 0)
  np.testing.assert_array_equal(fold, folds_lib.fold_of(table, 4, 0))
  differs = (fold != folds_lib.fold_of(table, 4, 1)).mean()
  assert 0.6 < differs < 0.9  # chance: 3/4


def test_every_patient_validates_in_exactly_one_fold():
  table = _table()
  times = np.zeros(len(table), int)
  for fold in range(4):
    parts = folds_lib.assign(table, fold=fold, folds=4, seed=3)
    assert parts.dtype == np.dtype('<U10')
    assert set(parts) == {'train', 'validation'}
    times += parts == 'validation'
  assert (times == 1).all()


@pytest.mark.parametrize('split', ['site', 'machine'])
def test_held_out_patients_are_all_those_with_an_image_there(split):
  table = _table()
  held_out = 1 if split == 'site' else 10
  parts = folds_lib.assign(table, split=split, held_out=held_out)
  there = _patients(table, table[f'{split}_id'] == held_out)
  assert _patients(table, parts == 'test') == there
  kinds = [_patients(table, parts == part) for part in folds_lib.PARTS]
  assert sum(map(len, kinds)) == len(_patients(table, slice(None)))
  assert all(kinds)
  # Some of the women were also seen at another machine.
  if split == 'machine':
    assert (table['machine_id'][parts == 'test'] != held_out).any()


@pytest.mark.parametrize('patients', [30, 203])
def test_the_public_split_is_that_of_scikit_learn(patients, caplog):
  table = _table(patients)
  ids = list(dict.fromkeys(table['patient_id'].tolist()))
  _, test = model_selection.train_test_split(
    ids, test_size=0.1, random_state=42
  )
  with caplog.at_level(logging.WARNING, 'rsna_jax'):
    parts = folds_lib.assign(table, split='public')
  assert _patients(table, parts == 'test') == set(test)
  assert 'do not compare' in caplog.text


def test_the_official_public_split_has_the_published_counts(official, caplog):
  parts = folds_lib.assign(official, split='public')
  ids = list(dict.fromkeys(official['patient_id'].tolist()))
  _, test = model_selection.train_test_split(
    ids, test_size=0.1, random_state=42
  )
  rows = parts == 'test'
  assert _patients(official, rows) == set(test)
  assert len(test) == 1_192 and rows.sum() == 5_474
  assert len(np.unique(official['prediction_id'][rows])) == 2_384
  positive = rows & (official['cancer'] == 1)
  assert len(np.unique(official['prediction_id'][positive])) == 57
  assert not caplog.records


def test_official_rows_in_another_order_are_refused(official):
  with pytest.raises(errors.DataError, match='in its order'):
    folds_lib.assign(
      official.take(np.arange(len(official))[::-1]), split='public'
    )


@pytest.mark.parametrize(
  ('split', 'held_out'), [('folds', -1), ('site', 2), ('machine', 49)]
)
def test_official_splits_share_no_patient(official, split, held_out):
  parts = folds_lib.assign(official, split=split, held_out=held_out)
  sides = [_patients(official, parts == part) for part in folds_lib.PARTS]
  assert not sides[0] & sides[1]
  assert not sides[2] & (sides[0] | sides[1])


def test_a_patient_in_two_parts_is_named():
  table = _table()
  parts = folds_lib.assign(table)
  folds_lib.check_patients(table, parts)
  patient = next(
    p
    for p in table['patient_id']
    if (table['patient_id'] == p).sum() > 1
    and (parts[table['patient_id'] == p] == 'train').all()
  )
  parts[np.flatnonzero(table['patient_id'] == patient)[0]] = 'validation'
  with pytest.raises(errors.DataError) as caught:
    folds_lib.check_patients(table, parts)
  assert f'patient_id={patient} is in train and validation' in str(caught.value)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'folds': 204}, 'there are 203 patients: choose at most 203'),
    ({'fold': 4}, r'data\.fold=4: from 0 to 3'),
    ({'split': 'random'}, 'choose folds, public, site, machine'),
    ({'split': 'site', 'held_out': 3}, 'held_out=3: .*choose 1, 2'),
    ({'split': 'machine'}, 'choose 10, 11, 20, 21'),
  ],
)
def test_what_cannot_be_split_is_said(options, message):
  with pytest.raises(errors.InputError, match=message):
    folds_lib.assign(_table(), **options)


def test_holding_out_the_only_site_is_an_error():
  table = _table()
  alone = table.take(table['site_id'] == 2)
  with pytest.raises(errors.DataError, match='none is left to train'):
    folds_lib.assign(alone, split='site', held_out=2)
