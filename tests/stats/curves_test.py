import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import errors, metrics
from rsna_jax.stats import curves

EXACT = 1e-12


def cases():
  rng = np.random.default_rng(3)
  for n in (4, 11, 60, 900):
    for levels in (None, 20, 3, 1):
      labels = rng.integers(0, 2, n)
      labels[:2] = 0, 1
      scores = rng.random(n) + 0.2 * labels
      if levels:
        scores = np.floor(scores * levels) / levels
      yield labels, scores


def test_partial_auc_equals_scikit_learn_with_and_without_ties():
  for labels, p in cases():
    for most in (0.01, 0.1, 0.37, 1.0):
      assert curves.partial_auc(labels, p, most) == pytest.approx(
        sk.roc_auc_score(labels, p, max_fpr=most), abs=EXACT
      )


def test_constant_scores_are_chance_and_one_class_is_nan():
  assert curves.partial_auc([0, 1, 0], [0.3] * 3) == pytest.approx(0.5)
  assert metrics.roc_auc([0, 1, 0], [0.3] * 3) == 0.5
  for labels in ([0, 0], [1, 1], []):
    assert np.isnan(curves.partial_auc(labels, np.linspace(0, 1, len(labels))))


def test_sensitivity_at_a_recall_rate_equals_a_search():
  for labels, p in cases():
    for rate in (0.05, 0.1, 0.5, 1.0):
      best = 0.0
      for t in np.unique(p):
        if (p >= t).mean() <= rate + EXACT:
          best = max(best, (p >= t)[labels == 1].mean())
      found = curves.sensitivity_at_recall_rate(labels, p, rate)
      assert found == pytest.approx(best, abs=EXACT)
  assert np.isnan(curves.sensitivity_at_recall_rate([0, 0], [0.1, 0.2]))


def test_integer_weights_equal_repeated_examples():
  rng = np.random.default_rng(0)
  for labels, p in cases():
    weights = rng.integers(0, 4, len(labels))
    y, q = np.repeat(labels, weights), np.repeat(p, weights)
    for figure in (curves.partial_auc, curves.sensitivity_at_recall_rate):
      np.testing.assert_allclose(
        figure(labels, p, weights=weights), figure(y, q), atol=EXACT
      )


def test_the_sweep_equals_scikit_learn_at_every_distinct_score():
  for labels, p in cases():
    found = curves.sweep(labels, p)
    np.testing.assert_array_equal(found.thresholds, np.unique(p)[::-1])
    fpr, tpr, _ = sk.roc_curve(labels, p, drop_intermediate=False)
    np.testing.assert_allclose(found.sensitivity, tpr[1:], atol=EXACT)
    np.testing.assert_allclose(found.specificity, 1 - fpr[1:], atol=EXACT)
    precision, _, _ = sk.precision_recall_curve(labels, p)
    # scikit-learn goes from the lowest, and adds a point at the end.
    np.testing.assert_allclose(found.precision[::-1], precision[:-1])
    for k, t in enumerate(found.thresholds):
      called = p >= t
      assert found.f1[k] == pytest.approx(
        sk.f1_score(labels, called, zero_division=0), abs=EXACT
      )
      assert found.recall_rate[k] == pytest.approx(called.mean(), abs=EXACT)
    best, f1 = metrics.best_threshold(labels, p)
    assert found.f1.max() == pytest.approx(f1, abs=EXACT)
    assert found.thresholds[found.f1.argmax()] == best


def test_a_sweep_of_nothing_is_empty_and_of_one_class_has_no_sensitivity():
  assert len(curves.sweep([], []).f1) == 0
  found = curves.sweep([0, 0], [0.1, 0.2])
  assert np.isnan(found.sensitivity).all()
  assert (found.f1 == 0).all()


def test_a_rate_that_is_none_is_refused():
  with pytest.raises(errors.InputError, match='max_fpr=0'):
    curves.partial_auc([0, 1], [0.1, 0.2], 0)


def test_pf1_refuses_what_lies_outside_unless_it_is_clipped():
  with pytest.raises(errors.DataError, match=r'1\.7 is not from 0 to 1 \(2'):
    metrics.pf1([1, 0, 1], [1.7, -0.3, 0.5], clip=False)
