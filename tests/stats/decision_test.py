import json

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import errors, metrics
from rsna_jax.stats import bootstrap, decision, logistic


def example(n=1_200, seed=0, sharper=2.0):
  rng = np.random.default_rng(seed)
  z = 1.5 * rng.normal(size=n) - 2
  labels = (rng.random(n) < logistic.sigmoid(z)).astype(int)
  return labels, logistic.sigmoid(sharper * z), np.arange(n) // 2


def test_the_threshold_is_one_of_calibrated_probabilities():
  labels, p, _ = example()
  made = decision.fit(labels, p, method='platt', rule='sensitivity=0.9')
  calibrated, called = made.apply(p)
  assert called[labels == 1].mean() == pytest.approx(0.9, abs=0.01)
  np.testing.assert_array_equal(
    called, calibrated >= made.point.threshold['value']
  )
  assert calibrated.mean() == pytest.approx(labels.mean(), abs=0.005)
  assert p.mean() < 0.95 * labels.mean()


def test_a_decision_survives_json_and_other_things_are_refused():
  labels, p, _ = example()
  made = decision.fit(
    labels, p, method='beta', rule='pf1', sites=np.arange(1_200) % 2
  )
  text = json.dumps(made.to_json(), allow_nan=False)
  assert decision.Decision.from_json(json.loads(text)) == made
  for found in (None, [], {}, {'calibration': {'method': 'none'}}):
    with pytest.raises(errors.DataError, match=r'here: .*not a'):
      decision.Decision.from_json(found, 'here')


@pytest.mark.parametrize('rule', ['pf1', 'best_f1', 'specificity=0.9'])
@pytest.mark.parametrize('method', ['none', 'platt', 'isotonic'])
def test_no_patient_has_a_part_in_its_own_decision(method, rule):
  labels, p, patients = example(n=400)
  first = decision.cross_fit(labels, p, patients, method=method, rule=rule)
  sums = np.bincount(patients, weights=labels)
  # Which breast of a patient is positive does not change the parts.
  for patient in np.flatnonzero(sums == 1)[:3]:
    own = np.flatnonzero(patients == patient)
    turned = labels.copy()
    turned[own] = turned[own][::-1]
    again = decision.cross_fit(turned, p, patients, method=method, rule=rule)
    np.testing.assert_array_equal(first[0][own], again[0][own])
    np.testing.assert_array_equal(first[1][own], again[1][own])


def test_noise_is_not_flattered():
  honest, own = [], []
  for seed in range(20):
    rng = np.random.default_rng(seed)
    labels, p = (np.arange(200) < 10).astype(int), rng.random(200)
    _, called, _ = decision.cross_fit(labels, p, np.arange(200), seed=seed)
    honest.append(sk.f1_score(labels, called, zero_division=0))
    own.append(metrics.best_threshold(labels, p)[1])
  floor = sk.f1_score(labels, np.ones_like(labels))
  assert np.mean(own) > 1.5 * floor
  assert np.mean(honest) < 1.25 * floor


def test_expected_pf1_of_the_three_forms():
  labels, p, patients = example(n=6_000)
  resamples = bootstrap.Resamples(patients, n=100, seed=0)
  found = decision.expected_pf1(
    labels, p, patients, method='platt', rule='pf1', resamples=resamples
  )
  calibrated, called, applied = decision.cross_fit(
    labels, p, patients, method='platt', rule='pf1'
  )
  assert len(applied) == 5
  for name, values in (
    ('raw', p),
    ('calibrated', calibrated),
    ('thresholded', called),
  ):
    assert found[name]['value'] == pytest.approx(
      2 * (values * labels).sum() / (values.sum() + labels.sum()), abs=1e-12
    )
    assert found[name]['low'] < found[name]['value'] < found[name]['high']
  assert found['thresholded']['low'] > found['calibrated']['high']
  # The promise holds on patients that were not there.
  other, q, _ = example(n=6_000, seed=1)
  made = decision.fit(labels, p, method='platt', rule='pf1')
  reached = metrics.pf1(other, made.apply(q)[1])
  assert found['thresholded']['low'] < reached < found['thresholded']['high']


def test_too_few_patients_with_cancer_are_named():
  labels, p, patients = example(n=40)
  labels[:] = 0
  labels[0] = 1
  with pytest.raises(errors.DataError, match='calibration platt'):
    decision.cross_fit(labels, p, patients, method='platt')
  with pytest.raises(errors.DataError, match='one patient with cancer'):
    decision.cross_fit(labels, p, patients, rule='best_f1')
