import json

import numpy as np
import pytest
from sklearn import calibration as sk_calibration
from sklearn import isotonic as sk_isotonic
from sklearn import linear_model

from rsna_jax import errors, metrics
from rsna_jax.stats import calibration, isotonic, logistic


def example(n=3_000, seed=0, sharper=1.0, shift=0.0, rate=0.15):
  """Labels of known probabilities, and the probabilities distorted."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=n) * 1.5 + np.log(rate / (1 - rate))
  labels = (rng.random(n) < logistic.sigmoid(z)).astype(int)
  return labels, logistic.sigmoid(sharper * z + shift), z


def test_a_logistic_regression_equals_scikit_learn():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(400, 3))
  y = (rng.random(400) < logistic.sigmoid(x @ [1, -2, 0.5] - 1)).astype(int)
  found = logistic.fit(np.column_stack([x, np.ones(400)]), y)
  expected = linear_model.LogisticRegression(C=np.inf, tol=1e-10).fit(x, y)
  assert found.converged
  np.testing.assert_allclose(
    found.coefficients, [*expected.coef_[0], *expected.intercept_], atol=1e-5
  )
  ridged = logistic.fit(
    np.column_stack([x, np.ones(400)]), y, ridge=np.array([5, 5, 5, 0.0])
  )
  expected = linear_model.LogisticRegression(C=0.2, tol=1e-10).fit(x, y)
  np.testing.assert_allclose(
    ridged.coefficients, [*expected.coef_[0], *expected.intercept_], atol=1e-5
  )


def test_separated_labels_are_said_not_to_converge():
  found = logistic.fit(np.array([[-1.0], [-2], [1], [2]]), [0, 0, 1, 1])
  assert not found.converged


def test_platt_equals_scikit_learn():
  labels, p, _ = example()
  found = calibration.fit(labels, p, method='platt').pooled
  a, b = sk_calibration._sigmoid_calibration(logistic.logit(p), labels)
  assert found['slope'] == pytest.approx(-a, abs=1e-3)
  assert found['intercept'] == pytest.approx(-b, abs=1e-3)


def test_isotonic_equals_scikit_learn_on_ties_too():
  rng = np.random.default_rng(2)
  for n, levels in ((1, 1), (5, 3), (300, 12), (300, 10**6)):
    p = np.floor(rng.random(n) * levels) / levels
    y = (rng.random(n) < p).astype(int)
    expected = sk_isotonic.IsotonicRegression(out_of_bounds='clip').fit(p, y)
    at = np.linspace(-0.1, 1.1, 211)
    np.testing.assert_allclose(
      np.interp(at, *isotonic.fit(p, y)), expected.predict(at), atol=1e-12
    )


@pytest.mark.parametrize('sharper', [2.0, 0.5])
def test_planted_sharpness_is_found_by_each_method(sharper):
  labels, p, _ = example(n=20_000, sharper=sharper)
  found = calibration.fit(labels, p, method='temperature')
  assert found.pooled['slope'] == pytest.approx(1 / sharper, rel=0.06)
  raw = metrics.log_loss(labels, p)
  for method in calibration.METHODS[1:]:
    fitted = calibration.fit(labels, p, method=method)
    other, q, z = example(n=20_000, sharper=sharper, seed=9)
    better = metrics.log_loss(other, calibration.apply(fitted, q))
    truth = metrics.log_loss(other, logistic.sigmoid(z))
    assert better < truth + 0.003, method
    assert better < raw


def test_beta_mends_what_platt_cannot_and_never_turns_round():
  rng = np.random.default_rng(4)
  truth = rng.random(20_000)
  labels = (rng.random(20_000) < truth).astype(int)
  # The inverse of a beta map with unequal powers.
  p = np.interp(
    truth,
    logistic.sigmoid(
      3 * np.log(np.linspace(1e-6, 1 - 1e-6, 9_999))
      - 0.5 * np.log1p(-np.linspace(1e-6, 1 - 1e-6, 9_999))
    ),
    np.linspace(1e-6, 1 - 1e-6, 9_999),
  )
  found = calibration.fit(labels, p, method='beta').pooled
  assert found['a'] == pytest.approx(3, rel=0.1)
  assert found['b'] == pytest.approx(0.5, rel=0.1)
  platt = calibration.fit(labels, p, method='platt')
  beta = calibration.fit(labels, p, method='beta')
  assert metrics.brier(labels, calibration.apply(beta, p)) < metrics.brier(
    labels, calibration.apply(platt, p)
  )
  against = calibration.fit(1 - labels, p, method='beta').pooled
  assert min(against['a'], against['b']) >= 0


def test_separable_and_extreme_data_have_a_finite_fit():
  labels = np.repeat([0, 1], 10)
  for p in (labels * 1.0, np.linspace(0.1, 0.9, 20), np.full(20, 0.5)):
    for method in calibration.METHODS:
      fitted = calibration.fit(labels, p, method=method)
      found = calibration.apply(fitted, [0.0, 0.3, 0.5, 1.0])
      assert np.isfinite(found).all(), (method, p)
      assert ((found >= 0) & (found <= 1)).all()
      assert (np.diff(found) >= 0).all()


def test_sites_with_enough_cases_have_their_own_and_others_the_pooled():
  labels, p, _ = example(n=4_000)
  site = np.where(np.arange(4_000) < 2_000, 1, 2)
  p = np.where(site == 2, logistic.sigmoid(logistic.logit(p) + 2), p)
  site[-30:] = 3
  site[-35:-30] = -1
  fitted = calibration.fit(labels, p, method='platt', sites=site)
  assert set(fitted.sites) == {'1', '2'}
  found = calibration.apply(fitted, p, site)
  for k in (1, 2):
    rows = site == k
    assert found[rows].mean() == pytest.approx(labels[rows].mean(), abs=0.01)
    alone = calibration.fit(labels[rows], p[rows], method='platt')
    np.testing.assert_allclose(found[rows], calibration.apply(alone, p[rows]))
  pooled = calibration.apply(fitted, p)
  for k in (3, -1, 77):
    rows = site == k
    np.testing.assert_array_equal(found[rows], pooled[rows])


def test_no_example_has_a_part_in_its_own_calibration():
  labels, p, _ = example(n=600)
  patients = np.arange(600) // 3
  for method in ('platt', 'isotonic'):
    found = calibration.cross_fit(labels, p, patients, method=method)
    for patient in (0, 77, 150):
      own = patients == patient
      # Turning a label within its class of patients leaves the parts alone.
      if not 0 < labels[own].sum() < 3:
        continue
      turned = np.where(own, labels[own][::-1][np.cumsum(own) - 1], labels)
      again = calibration.cross_fit(turned, p, patients, method=method)
      np.testing.assert_array_equal(found[own], again[own])


def test_noise_is_calibrated_to_the_prevalence_out_of_fold():
  rng = np.random.default_rng(5)
  labels, p = (rng.random(2_000) < 0.1).astype(int), rng.random(2_000)
  found = calibration.cross_fit(labels, p, np.arange(2_000), method='platt')
  assert found.std() < 0.02
  assert found.mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize('method', calibration.METHODS)
def test_a_calibration_survives_json(method):
  labels, p, _ = example(n=500)
  site = np.arange(500) % 2
  fitted = calibration.fit(labels, p, method=method, sites=site)
  text = json.dumps(fitted.to_json(), allow_nan=False)
  again = calibration.Calibration.from_json(json.loads(text))
  assert again == fitted
  np.testing.assert_array_equal(
    calibration.apply(again, p, site), calibration.apply(fitted, p, site)
  )


@pytest.mark.parametrize(
  'found',
  [
    None,
    {},
    {'method': 'magic', 'pooled': {}},
    {'method': 'platt', 'pooled': {'slope': 1}},
    {'method': 'platt', 'pooled': {'slope': 'NaN', 'intercept': 0}},
    {'method': 'isotonic', 'pooled': {'x': [0, 1], 'y': [1, 0]}},
    {'method': 'isotonic', 'pooled': {'x': [], 'y': []}},
    {'method': 'temperature', 'pooled': {'slope': 1}, 'sites': {'1': {}}},
  ],
)
def test_what_is_not_a_calibration_is_refused(found):
  with pytest.raises(errors.DataError, match='model: not a calibration'):
    calibration.Calibration.from_json(found, 'model')


def test_unusable_input_is_named():
  with pytest.raises(errors.ConfigError, match="'spline'"):
    calibration.fit([0, 1], [0.1, 0.2], method='spline')
  with pytest.raises(errors.DataError, match='0 of 2 labels are positive'):
    calibration.fit([0, 0], [0.1, 0.2], method='platt')
  with pytest.raises(errors.DataError, match='1 probabilities are NaN'):
    calibration.fit([0, 1], [0.1, np.nan], method='platt')
