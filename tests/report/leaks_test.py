import json

import numpy as np
import pytest
import report_example as example

from rsna_jax import errors, metrics
from rsna_jax.report import leaks


def split(table):
  return np.where(table['patient_id'] % 3, 'train', 'validation')


def test_a_clean_split_has_no_findings():
  table = example.columns()
  hashes = {int(x): str(x) for x in table['image_id']}
  found = leaks.findings(table, split(table), ('age', 'view'), hashes)
  assert found['found'] == []
  assert found['duplicates']['checked'] == 600


def test_injected_leaks_are_found():
  table = example.columns()
  sides = split(table)
  sides[0] = 'train'  # one image of patient 0, who is of validation
  hashes = {int(x): str(x) for x in table['image_id']}
  hashes[1_012] = hashes[1_004]  # patients 3 (validation) and 1 (train)
  hashes[1_021] = hashes[1_020]  # both of patient 5: no leak
  found = leaks.findings(table, sides, ('age', 'BIRADS'), hashes)
  assert found['patients'] == {
    'count': 1,
    'examples': [{'patient_id': 0, 'sides': ['train', 'validation']}],
  }
  assert found['duplicates']['count'] == 1
  assert found['duplicates']['images'] == 2
  assert {x['image_id'] for x in found['duplicates']['examples'][0]} == {
    1_004,
    1_012,
  }
  assert found['train_only'] == ['BIRADS']
  assert len(found['found']) == 3
  assert '1 patients' in found['found'][0]


def test_without_hashes_duplicates_are_not_said_to_be_none():
  table = example.columns(40)
  assert leaks.duplicates_across(table['image_id'], split(table), None) is None


def test_hashes_are_read_of_training_rows_alone(tmp_path):
  assert leaks.read_hashes(tmp_path) is None
  lines = [
    {'split': 'train', 'image_id': 5, 'facts': {'pixel_hash': 'a'}},
    {'split': 'test', 'image_id': 6, 'facts': {'pixel_hash': 'b'}},
    {'split': 'train', 'image_id': 7, 'facts': {}},
  ]
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (tmp_path / 'facts.jsonl').write_text(text)
  assert leaks.read_hashes(tmp_path) == {5: 'a'}
  (tmp_path / 'facts.jsonl').write_text(text + '{')
  assert leaks.read_hashes(tmp_path) is None


def test_the_hash_of_a_split_forgets_order_and_knows_sides():
  table = example.columns(80)
  sides = split(table)
  turned = np.arange(80)[::-1]
  one = leaks.split_hash(table['patient_id'], sides)
  assert one == leaks.split_hash(table['patient_id'][turned], sides[turned])
  sides = sides.copy()
  sides[:4] = 'train'
  assert one != leaks.split_hash(table['patient_id'], sides)


def test_the_metadata_model_is_that_of_scikit_learn():
  linear = pytest.importorskip('sklearn.linear_model')
  table = example.columns()
  table['age'] = np.full(600, np.nan, np.float32)  # categories alone
  fitted = split(table) == 'train'
  said = leaks.metadata_probability(table, fitted, ~fitted)
  names = ('implant', 'view', 'laterality', 'site_id', 'machine_id')
  x = np.concatenate(
    [
      (table[name][:, None] == np.unique(table[name])).astype(float)
      for name in names
    ],
    axis=1,
  )
  model = linear.LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
  model.fit(x[fitted], table['cancer'][fitted])
  expected = model.predict_proba(x[~fitted])[:, 1]
  # The column of unknown ages is a second constant, with a ridge: no change.
  np.testing.assert_allclose(said, expected, atol=1e-5)


def test_metadata_that_tell_the_label_win_against_chance():
  table = example.columns()
  table['machine_id'] = np.where(table['cancer'] == 1, 7, 8)
  sides = split(table)
  judged = sides == 'validation'
  names = np.unique(table['prediction_id'][judged]).tolist()
  rng = np.random.default_rng(0)
  found = leaks.metadata_only(
    table,
    [(~judged, judged)],
    dict(zip(names, rng.random(len(names)), strict=True)),
    bootstrap=100,
  )
  assert found['n'] == len(names)
  auc = found['figures']['roc_auc']
  assert auc['second'] > 0.99
  assert auc['difference']['high'] < 0
  assert not auc['within_noise']
  assert 'metadata alone is higher' in found['verdict']


def test_metadata_that_say_nothing_are_at_chance_and_folds_pool():
  table = example.columns(2_000)
  rng = np.random.default_rng(0)
  table['age'] = rng.integers(40, 80, 2_000).astype(np.float32)
  fold = table['patient_id'] % 4
  names = np.unique(table['prediction_id']).tolist()
  of = dict(zip(table['prediction_id'].tolist(), table['cancer'], strict=True))
  model = {name: 0.9 * of[name] + 0.1 * rng.random() for name in names}
  found = leaks.metadata_only(
    table, [(fold != k, fold == k) for k in range(4)], model, bootstrap=100
  )
  assert found['n'] == len(names)
  assert found['figures']['roc_auc']['first'] == 1
  assert 0.4 < found['figures']['roc_auc']['second'] < 0.6
  assert found['figures']['roc_auc']['difference']['low'] > 0


def test_values_that_training_has_not_seen_still_get_an_answer():
  table = example.columns()
  fitted = split(table) == 'train'
  table['machine_id'][~fitted] = 999
  said = leaks.metadata_probability(table, fitted, ~fitted)
  assert np.isfinite(said).all()
  # In validation age alone tells, as the labels have been made.
  assert metrics.roc_auc(table['cancer'][~fitted], said) > 0.5


def test_one_class_in_training_leaves_the_comparison_out():
  table = example.columns(80)
  fitted = split(table) == 'train'
  table['cancer'][fitted] = 0
  with pytest.raises(errors.DataError, match='one class'):
    leaks.metadata_probability(table, fitted, ~fitted)
  assert leaks.metadata_only(table, [(fitted, ~fitted)], {}) is None
