import math

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax.stats import delong


def example(n=80, seed=0, ties=True):
  rng = np.random.default_rng(seed)
  labels = (rng.random(n) < 0.4).astype(int)
  base = rng.normal(size=n)
  a = base + labels + 0.5 * rng.normal(size=n)
  b = base + 0.8 * labels + 0.5 * rng.normal(size=n)
  if ties:
    a, b = np.round(a, 1), np.round(b * 2) / 2
  return labels, a, b, rng.integers(0, n // 3, n)


def kernel(labels, scores):
  """psi of every pair, positives by negatives, by the definition."""
  x, y = scores[labels == 1], scores[labels == 0]
  return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def brute(labels, sets):
  """DeLong's areas and covariance, from the matrices of pairs."""
  psis = [kernel(labels, s) for s in sets]
  v10 = np.stack([psi.mean(axis=1) for psi in psis])
  v01 = np.stack([psi.mean(axis=0) for psi in psis])
  m, n = psis[0].shape
  return v10.mean(axis=1), np.cov(v10) / m + np.cov(v01) / n


def brute_clustered(labels, scores, patients):
  """Obuchowski's variance by loops over the patients."""
  psi = kernel(labels, scores)
  theta, (m, n) = psi.mean(), psi.shape
  v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
  of_x, of_y = patients[labels == 1], patients[labels == 0]
  ten = eleven = one = 0.0
  everyone = np.unique(patients)
  for k in everyone:
    a = (v10[of_x == k] - theta).sum()
    b = (v01[of_y == k] - theta).sum()
    ten, one, eleven = ten + a * a, one + b * b, eleven + a * b
  sick, well, all_ = len(set(of_x)), len(set(of_y)), len(everyone)
  s10 = sick / ((sick - 1) * m) * ten
  s01 = well / ((well - 1) * n) * one
  s11 = all_ / (all_ - 1) * eleven
  return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize('ties', [False, True])
def test_areas_and_covariance_equal_the_definition(ties):
  labels, a, b, _ = example(ties=ties)
  areas, found = delong.covariance(labels, [a, b])
  expected, spread = brute(labels, [a, b])
  np.testing.assert_allclose(areas, expected, atol=1e-12)
  np.testing.assert_allclose(found, spread, atol=1e-12)
  assert areas[0] == pytest.approx(sk.roc_auc_score(labels, a), abs=1e-12)


def test_examples_of_a_patient_together_equal_loops_over_patients():
  for seed in range(5):
    labels, a, _, patients = example(seed=seed)
    _, found = delong.covariance(labels, [a], patients)
    assert found[0, 0] == pytest.approx(
      brute_clustered(labels, a, patients), abs=1e-12
    )


def test_patients_of_one_example_each_change_nothing():
  labels, a, b, _ = example()
  alone = delong.covariance(labels, [a, b])[1]
  by_patient = delong.covariance(labels, [a, b], np.arange(len(a)))[1]
  np.testing.assert_allclose(alone, by_patient, atol=1e-15)


def test_repeated_images_widen_the_interval_by_patient_alone():
  labels, a, _, _ = example()
  y, p = np.repeat(labels, 4), np.repeat(a, 4)
  one = delong.interval(labels, a)['se']
  images = delong.interval(y, p)['se']
  patients = delong.interval(y, p, np.repeat(np.arange(len(a)), 4))['se']
  assert images < 0.55 * one
  assert patients == pytest.approx(one, rel=1e-12)


def test_the_interval_by_patient_covers_the_truth():
  truth = 0.7602499389065233  # two normal scores one standard deviation apart
  rng = np.random.default_rng(1)
  covered, repeats = 0, 400
  for _ in range(repeats):
    labels = np.repeat(np.arange(100) % 2, 3)
    common = np.repeat(rng.normal(size=100), 3) * math.sqrt(0.5)
    p = common + math.sqrt(0.5) * rng.normal(size=300) + labels
    found = delong.interval(labels, p, np.repeat(np.arange(100), 3))
    covered += found['low'] <= truth <= found['high']
  assert 0.92 <= covered / repeats <= 0.98


def test_the_paired_test_is_that_of_the_covariance():
  labels, a, b, _ = example()
  areas, spread = brute(labels, [a, b])
  z = (areas[0] - areas[1]) / math.sqrt(
    spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]
  )
  found = delong.difference(labels, a, b)
  assert found['z'] == pytest.approx(z, abs=1e-9)
  assert found['p'] == pytest.approx(math.erfc(abs(z) / math.sqrt(2)))
  back = delong.difference(labels, b, a)
  assert back['value'] == -found['value']
  assert back['p'] == pytest.approx(found['p'])


def test_equal_rankings_are_no_difference():
  labels, a, _, _ = example()
  found = delong.difference(labels, a, 3 * a + 1)
  assert (found['value'], found['p']) == (0.0, 1.0)


def test_one_class_or_one_case_has_no_interval():
  assert np.isnan(delong.interval([0, 0], [0.1, 0.2])['value'])
  found = delong.interval([0, 0, 1], [0.1, 0.2, 0.3])
  assert found['value'] == 1.0
  assert np.isnan([found['se'], found['low'], found['high']]).all()
  found = delong.difference([0, 0, 1], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1])
  assert np.isnan(found['p'])


def test_influence_squares_to_the_variance():
  labels, a, _, patients = example(n=600)
  _, member = np.unique(patients, return_inverse=True)
  moved = delong.influence(labels, a, member, member.max() + 1)
  expected = delong.covariance(labels, [a], patients)[1][0, 0]
  assert (moved**2).sum() == pytest.approx(expected, rel=0.03)
