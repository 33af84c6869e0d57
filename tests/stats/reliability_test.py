import numpy as np
import pytest
from scipy import stats
from sklearn import calibration as sk_calibration
from sklearn import linear_model

from rsna_jax.stats import logistic, reliability


def example(n=3_000, sharper=1.0, shift=0.0, seed=0):
  rng = np.random.default_rng(seed)
  z = rng.normal(size=n) - 1
  labels = (rng.random(n) < logistic.sigmoid(z)).astype(int)
  return labels, logistic.sigmoid(sharper * z + shift)


def test_the_slope_is_that_of_a_logistic_regression():
  labels, p = example()
  found = reliability.slope(labels, p)
  expected = linear_model.LogisticRegression(C=np.inf, tol=1e-10).fit(
    logistic.logit(p)[:, None], labels
  )
  assert found['slope']['value'] == pytest.approx(
    expected.coef_[0, 0], abs=1e-5
  )
  # With the slope at 1 the mean of the shifted probabilities is the rate.
  moved = logistic.sigmoid(logistic.logit(p) + found['intercept']['value'])
  assert moved.mean() == pytest.approx(labels.mean(), abs=1e-10)


def test_planted_miscalibration_lies_in_the_interval():
  """Logits times 2 have slope 0.5, and logits less 1 intercept 1."""
  covered = 0
  for seed in range(100):
    labels, p = example(n=1_000, sharper=2.0, seed=seed)
    found = reliability.slope(labels, p)['slope']
    covered += found['low'] < 0.5 < found['high'] < 0.9
    labels, p = example(n=1_000, shift=-1.0, seed=seed)
    found = reliability.slope(labels, p)['intercept']
    covered += found['low'] < 1.0 < found['high'] < 1.5
  assert 184 <= covered <= 198


def test_intervals_cover_with_several_images_of_a_patient():
  covered = {'patient': 0, 'image': 0}
  repeats = 200
  for seed in range(repeats):
    labels, p = example(n=250, seed=seed)
    y, q = np.repeat(labels, 4), np.repeat(p, 4)
    for unit, ids in (
      ('patient', np.repeat(np.arange(250), 4)),
      ('image', None),
    ):
      found = reliability.slope(y, q, ids)['slope']
      covered[unit] += found['low'] <= 1 <= found['high']
  assert 0.90 <= covered['patient'] / repeats <= 0.99
  assert covered['image'] / repeats < 0.8


def test_what_is_not_defined_is_none():
  assert reliability.slope([0, 0], [0.1, 0.2]) == {
    'slope': None,
    'intercept': None,
  }
  separated = reliability.slope([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
  assert separated['slope'] is None
  assert separated['intercept']['value'] == pytest.approx(0, abs=1e-9)
  constant = reliability.slope([0, 0, 1, 1], [0.3] * 4)
  assert constant['slope'] is None
  assert constant['intercept']['value'] == pytest.approx(
    -logistic.logit(0.3), abs=1e-9
  )
  assert reliability.bins([], []) == []


@pytest.mark.parametrize(
  ('equal', 'strategy'), [('number', 'quantile'), ('width', 'uniform')]
)
def test_bins_equal_scikit_learn(equal, strategy):
  labels, p = example()
  found = reliability.bins(labels, p, equal=equal)
  rates, means = sk_calibration.calibration_curve(
    labels, p, n_bins=10, strategy=strategy
  )
  np.testing.assert_allclose(
    [x['observed']['value'] for x in found], rates, atol=1e-12
  )
  np.testing.assert_allclose([x['predicted'] for x in found], means, atol=1e-12)
  assert sum(x['n'] for x in found) == len(labels)
  for x in found:
    expected = stats.binomtest(x['positives'], x['n']).proportion_ci(
      method='wilson'
    )
    np.testing.assert_allclose(
      [x['observed']['low'], x['observed']['high']], expected, atol=1e-12
    )


def test_equal_probabilities_share_a_bin():
  found = reliability.bins([0, 1] * 50, [0.2] * 60 + [0.7] * 40)
  assert [x['n'] for x in found] == [60, 40]
