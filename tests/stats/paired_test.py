import json

import numpy as np
import pytest
from scipy import stats

from rsna_jax import errors, metrics
from rsna_jax.stats import bootstrap, logistic, paired


def example(n=600, seed=0, better=1.0):
  rng = np.random.default_rng(seed)
  labels = (rng.random(n) < 0.25).astype(int)
  common = rng.normal(size=n) + labels
  a = logistic.sigmoid(common + better * labels + 0.3 * rng.normal(size=n))
  b = logistic.sigmoid(common + 0.3 * rng.normal(size=n))
  return labels, a, b, np.arange(n) // 2


def test_each_figure_is_that_of_both_and_its_difference_that_of_the_draws():
  labels, a, b, patients = example()
  found = paired.compare(labels, a, b, patients, bootstrap=60, seed=3)
  json.dumps(found, allow_nan=False)
  resamples = bootstrap.Resamples(patients, n=60, seed=3)
  for name, figure in (
    ('roc_auc', metrics.roc_auc),
    ('brier', metrics.brier),
    ('pf1', metrics.pf1),
  ):
    one = found['figures'][name]
    assert one['first'] == pytest.approx(figure(labels, a), abs=1e-12)
    assert one['second'] == pytest.approx(figure(labels, b), abs=1e-12)
    gaps = []
    for counts in resamples.counts:
      rows = np.repeat(np.arange(len(labels)), counts[patients])
      gaps.append(figure(labels[rows], a[rows]) - figure(labels[rows], b[rows]))
    low, high = np.quantile(gaps, [0.025, 0.975])
    assert one['difference']['low'] == pytest.approx(low, abs=1e-12)
    assert one['difference']['high'] == pytest.approx(high, abs=1e-12)
  assert found['n'] == 600
  assert found['patients'] == 300


def test_a_real_difference_is_beyond_noise_and_said_so():
  labels, a, b, patients = example()
  found = paired.compare(
    labels, a, b, patients, bootstrap=200, titles=('new', 'old')
  )
  auc = found['figures']['roc_auc']
  assert not auc['within_noise']
  assert auc['p'] < 0.02
  assert found['delong']['p'] < 1e-6
  assert 'roc_auc: new less old is +' in found['verdict']
  assert 'beyond noise: new is higher' in found['verdict']


def test_the_paired_interval_is_narrower_than_unpaired_ones_would_be():
  labels, a, b, patients = example(better=0.3)
  found = paired.compare(labels, a, b, patients, bootstrap=200)
  gap = found['figures']['roc_auc']['difference']
  one = bootstrap.interval(
    bootstrap.binary(
      labels, a, patients, bootstrap.Resamples(patients, n=200, seed=0)
    )['roc_auc']
  )
  assert gap['high'] - gap['low'] < 0.7 * (one[1] - one[0])


def test_models_without_a_difference_are_within_noise_as_often_as_promised():
  inside = {'bootstrap': 0, 'delong': 0}
  for seed in range(120):
    labels, a, b, patients = example(n=300, seed=seed, better=0.0)
    found = paired.compare(
      labels, a, b, patients, bootstrap=200, names=('roc_auc',)
    )
    inside['bootstrap'] += found['figures']['roc_auc']['within_noise']
    inside['delong'] += found['delong']['p'] > 0.05
  for name, times in inside.items():
    assert 0.89 <= times / 120 <= 0.995, name


def test_the_same_predictions_do_not_differ():
  labels, a, _, patients = example()
  called = a >= 0.7
  found = paired.compare(
    labels, a, a, patients, bootstrap=30, called=(called, called)
  )
  for one in found['figures'].values():
    assert one['difference'] == {'value': 0.0, 'low': 0.0, 'high': 0.0}
    assert one['p'] == 1.0
  assert found['delong']['p'] == 1.0
  assert found['mcnemar']['all']['p'] == 1.0
  assert 'beyond' not in found['verdict']


def test_decisions_have_the_exact_test_of_mcnemar():
  labels, a, b, patients = example()
  called = a >= 0.8, b >= 0.7
  found = paired.compare(labels, a, b, patients, bootstrap=20, called=called)
  for name, rows in (
    ('all', labels >= 0),
    ('positives', labels == 1),
    ('negatives', labels == 0),
  ):
    right = [(x == (labels == 1))[rows] for x in called]
    one, other = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    said = found['mcnemar'][name]
    assert (said['first_alone'], said['second_alone']) == (one, other)
    assert said['p'] == pytest.approx(
      stats.binomtest(int(one), int(one + other)).pvalue, rel=1e-9
    )
  assert found['figures']['sensitivity']['first'] == pytest.approx(
    called[0][labels == 1].mean()
  )


def test_one_class_gives_what_is_defined():
  found = paired.compare([0, 0, 0], [0.1, 0.2, 0.3], [0.3] * 3, [1, 2, 3])
  json.dumps(found, allow_nan=False)
  assert found['delong'] is None
  assert found['figures']['roc_auc']['first'] is None
  assert found['figures']['brier']['first'] is not None


def test_without_resamples_the_tests_remain():
  labels, a, b, patients = example()
  found = paired.compare(labels, a, b, patients, bootstrap=0)
  assert found['figures']['roc_auc']['within_noise'] is None
  assert found['delong_by_patient']['p'] < 0.05


def test_predictions_are_aligned_by_their_ids():
  first, second = ['c', 'a', 'b'], ['a', 'b', 'c']
  assert paired.align(first, second).tolist() == [2, 0, 1]
  with pytest.raises(errors.DataError, match='second predictions: id b is mis'):
    paired.align(['a', 'b'], ['a'])
  with pytest.raises(errors.DataError, match='first predictions: id b is mis'):
    paired.align(['a'], ['a', 'b'])
  with pytest.raises(errors.DataError, match='id a occurs more than once'):
    paired.align(['a'], ['a', 'a'])


def test_unusable_input_is_named():
  with pytest.raises(errors.DataError, match='nothing to compare'):
    paired.compare([], [], [], [])
  with pytest.raises(errors.DataError, match='patients'):
    paired.compare([0, 1], [0.1, 0.2], [0.1, 0.2], [1])
  with pytest.raises(errors.DataError, match='NaN'):
    paired.compare([0, 1], [0.1, 0.2], [0.1, np.nan], [1, 2])
