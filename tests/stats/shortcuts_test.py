import numpy as np
import pytest
import sklearn.linear_model

from rsna_jax import metrics
from rsna_jax.stats import shortcuts


def labelled(n=1200, seed=0, **kwargs):
  rng = np.random.default_rng(seed)
  patients = np.arange(n) // 2
  labels = (rng.random(n // 2) < 0.3).astype(int)[patients]
  return shortcuts.Labelled(labels, patients, **kwargs), rng


def test_a_column_that_is_the_label_ranks_perfectly_and_a_constant_not_at_all():
  found, _ = labelled()
  assert shortcuts.single(found, found.labels.tolist())['value'] == 1
  constant = shortcuts.single(found, ['a'] * len(found.labels))
  assert constant == {'value': 0.5, 'low': 0.5, 'high': 0.5}


def test_a_column_that_says_nothing_is_not_called_telling():
  found, rng = labelled()
  columns = [rng.integers(0, 6, 1200).tolist() for _ in range(15)]
  columns += [rng.normal(size=1200).tolist() for _ in range(15)]
  aucs = [shortcuts.single(found, column) for column in columns]
  assert np.mean([auc['value'] for auc in aucs]) == pytest.approx(0.5, abs=0.02)
  assert sum(auc['low'] > 0.5 for auc in aucs) <= 3
  # Of a patient's own images nothing is learnt of the patient.
  assert shortcuts.single(found, [f'p{p}' for p in found.patients])['low'] < 0.5


def test_a_number_is_read_through_its_rates_whatever_its_direction():
  found, rng = labelled(4000)
  u_shaped = np.where(
    found.labels == 1, rng.choice([-3, 3], 4000), 0
  ) + rng.normal(size=4000)
  assert abs(metrics.roc_auc(found.labels, u_shaped) - 0.5) < 0.05
  assert shortcuts.single(found, u_shaped.tolist())['value'] > 0.9
  gaps = [None if i % 3 == 0 else x for i, x in enumerate(u_shaped.tolist())]
  assert 0.7 < shortcuts.single(found, gaps)['value'] < 0.95


def test_no_patient_is_on_both_sides_and_each_fold_has_positives():
  found, _ = labelled(300)
  folds = [set(found.fold[found.patients == p]) for p in set(found.patients)]
  assert all(len(fold) == 1 for fold in folds)
  for fold in range(shortcuts.FOLDS):
    assert found.labels[found.fold == fold].sum() >= 2


def test_few_patients_of_a_class_give_no_figure():
  few = shortcuts.Labelled(np.arange(200) < 19, np.arange(200))
  assert not few.enough
  assert shortcuts.single(few, list(range(200))) is None
  assert shortcuts.together(few, {'x': list(range(200))}) is None
  assert shortcuts.Labelled(np.arange(200) < 20, np.arange(200)).enough


def test_columns_together_rank_as_scikit_learns_logistic_regression():
  found, rng = labelled(3000)
  first = (found.labels + (rng.random(3000) < 0.4)) % 2
  second = np.where(rng.random(3000) < 0.3, found.labels * 2, 1)
  columns = {'a': first.tolist(), 'b': [f'v{x}' for x in second]}
  auc = shortcuts.together(found, columns)
  inputs = np.concatenate(
    [first[:, None] == [0, 1], second[:, None] == [0, 1, 2]], axis=1
  ).astype(float)
  total = pairs = 0.0
  for fold in range(shortcuts.FOLDS):
    train, test = found.fold != fold, found.fold == fold
    model = sklearn.linear_model.LogisticRegression(C=1 / 3)
    model.fit(inputs[train], found.labels[train])
    y = found.labels[test]
    weight = y.sum() * (1 - y).sum()
    total += weight * metrics.roc_auc(y, model.decision_function(inputs[test]))
    pairs += weight
  assert auc['value'] == pytest.approx(total / pairs, abs=1e-6)
  assert auc['low'] < auc['value'] < auc['high']
  assert auc['value'] > shortcuts.single(found, columns['a'])['value']
