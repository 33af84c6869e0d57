import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import errors, metrics

EXACT = 1e-12


def cases():
  """Random sets of several sizes: without ties, with some, with many."""
  rng = np.random.default_rng(5)
  for n in (2, 3, 10, 57, 1_000):
    for levels in (None, 20, 3, 1):
      labels = rng.integers(0, 2, n)
      labels[:2] = 0, 1
      scores = rng.random(n)
      if levels:
        scores = np.floor(scores * levels) / levels
      yield labels, scores
      yield (rng.random(n) < 0.05).astype(int) | labels * (n < 50), scores


def two_classes():
  return [(y, p) for y, p in cases() if 0 < y.sum() < len(y)]


def brute_f1(labels, predicted):
  tp = sum(a and b for a, b in zip(labels, predicted, strict=True))
  size = sum(labels) + sum(predicted)
  return 2 * tp / size if tp else 0.0


def test_roc_auc_equals_scikit_learn_with_and_without_ties():
  for labels, scores in two_classes():
    expected = sk.roc_auc_score(labels, scores)
    assert metrics.roc_auc(labels, scores) == pytest.approx(expected, abs=EXACT)


def test_roc_auc_is_the_share_of_pairs_in_order_and_a_tie_is_half():
  labels, scores = [1, 0, 1, 0, 0], [0.9, 0.9, 0.4, 0.5, 0.1]
  wins = 0.5 + 1 + 1 + 0 + 0 + 1
  assert metrics.roc_auc(labels, scores) == pytest.approx(wins / 6, abs=EXACT)


@pytest.mark.parametrize('labels', [[0, 0, 0], [1, 1], []])
def test_roc_auc_of_one_class_or_of_nothing_is_nan(labels):
  assert np.isnan(metrics.roc_auc(labels, np.linspace(0, 1, len(labels))))


def test_average_precision_equals_scikit_learn_with_and_without_ties():
  for labels, scores in two_classes():
    expected = sk.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(
      expected, abs=EXACT
    )


@pytest.mark.filterwarnings('ignore:No positive class')
def test_average_precision_of_one_class_is_that_of_scikit_learn():
  for labels in ([0, 0, 0], [1, 1, 1]):
    scores = [0.1, 0.5, 0.3]
    assert metrics.average_precision(
      labels, scores
    ) == sk.average_precision_score(labels, scores)


def test_integer_weights_equal_repeated_examples():
  rng = np.random.default_rng(0)
  for labels, scores in two_classes():
    weights = rng.integers(0, 4, len(labels))
    y, p = np.repeat(labels, weights), np.repeat(scores, weights)
    for figure in (
      metrics.roc_auc,
      metrics.average_precision,
      metrics.pf1,
      metrics.sensitivity_at_specificity,
      metrics.specificity_at_sensitivity,
    ):
      np.testing.assert_allclose(
        figure(labels, scores, weights=weights), figure(y, p), atol=EXACT
      )


def test_pf1_is_the_formula_of_the_challenge():
  for beta in (1.0, 2.0, 0.5):
    for labels, p in two_classes():
      ctp = sum(p[labels == 1])
      cfp = sum(p[labels == 0])
      if ctp == 0:
        expected = 0.0
      else:
        precision, recall = ctp / (ctp + cfp), ctp / labels.sum()
        square = beta * beta
        expected = (
          (1 + square) * (precision * recall) / (square * precision + recall)
        )
      assert metrics.pf1(labels, p, beta=beta) == pytest.approx(
        expected, abs=EXACT
      )


def test_pf1_of_yes_or_no_is_f1():
  for labels, p in two_classes():
    called = p >= 0.4
    assert metrics.pf1(labels, called) == pytest.approx(
      sk.f1_score(labels, called, zero_division=0), abs=EXACT
    )


def test_pf1_at_its_edges():
  assert metrics.pf1([0, 1, 1], [0.0, 0.0, 0.0]) == 0.0
  assert metrics.pf1([0, 0, 0], [0.2, 0.9, 0.0]) == 0.0
  assert metrics.pf1([], []) == 0.0
  # One class, the positive one: precision 1, recall the mean probability.
  assert metrics.pf1([1, 1], [0.5, 0.5]) == pytest.approx(2 / 3, abs=EXACT)
  # Outside [0, 1] is clipped, not refused.
  assert metrics.pf1([1, 0, 1], [1.7, -0.3, 0.5]) == metrics.pf1(
    [1, 0, 1], [1.0, 0.0, 0.5]
  )


def test_all_ones_on_the_full_set_gives_the_known_pf1():
  labels = np.zeros(23_826, int)
  labels[:492] = 1
  assert metrics.pf1(labels, np.ones(23_826)) == pytest.approx(0.0405, abs=5e-5)


def test_f1_at_a_threshold_counts_a_probability_on_it_as_positive():
  assert metrics.f1_at([1, 0], [0.5, 0.4], 0.5) == 1.0
  for labels, p in two_classes():
    assert metrics.f1_at(labels, p, 0.3) == pytest.approx(
      sk.f1_score(labels, p >= 0.3, zero_division=0), abs=EXACT
    )


def test_f1_at_nan_calls_nothing_positive():
  assert metrics.f1_at([1, 0], [0.5, 0.4], float('nan')) == 0.0


def test_best_threshold_beats_every_other_and_is_the_highest_of_equals():
  for labels, p in two_classes():
    threshold, f1 = metrics.best_threshold(labels, p)
    every = {t: brute_f1(labels, p >= t) for t in np.unique(p)}
    top = max(every.values())
    assert f1 == pytest.approx(top, abs=EXACT)
    equals = [t for t, value in every.items() if abs(value - top) < EXACT]
    assert threshold == max(equals)


def test_best_threshold_without_positives_is_nan():
  threshold, f1 = metrics.best_threshold([0, 0], [0.1, 0.2])
  assert np.isnan(threshold)
  assert f1 == 0.0


def test_sensitivity_and_specificity_at_each_other_equal_a_search():
  for labels, p in two_classes():
    points = []
    for t in [*np.unique(p), np.inf]:
      sensitivity = np.mean(p[labels == 1] >= t)
      specificity = np.mean(p[labels == 0] < t)
      points.append((sensitivity, specificity))
    for asked in (0.5, 0.9, 1.0):
      np.testing.assert_allclose(
        metrics.sensitivity_at_specificity(labels, p, asked),
        max(a for a, b in points if b >= asked - EXACT),
        atol=EXACT,
      )
      np.testing.assert_allclose(
        metrics.specificity_at_sensitivity(labels, p, asked),
        max(b for a, b in points if a >= asked - EXACT),
        atol=EXACT,
      )
  assert np.isnan(metrics.sensitivity_at_specificity([1, 1], [0.1, 0.2]))
  assert np.isnan(metrics.specificity_at_sensitivity([0, 0], [0.1, 0.2]))


def test_brier_and_log_loss_equal_scikit_learn():
  for labels, p in two_classes():
    assert metrics.brier(labels, p) == pytest.approx(
      sk.brier_score_loss(labels, p), abs=EXACT
    )
    assert metrics.log_loss(labels, p) == pytest.approx(
      sk.log_loss(labels, p), abs=EXACT
    )
  assert metrics.log_loss([1], [0.0]) == pytest.approx(36.04, abs=0.01)
  assert np.isnan(metrics.brier([], []))
  assert np.isnan(metrics.log_loss([], []))


def test_expected_calibration_error_equals_a_loop_over_the_bins():
  for labels, p in two_classes():
    expected = 0.0
    for k in range(10):
      last = k == 9
      chosen = (p * 10 >= k) & ((p * 10 < k + 1) | last)
      if chosen.any():
        gap = abs(labels[chosen].mean() - p[chosen].mean())
        expected += chosen.mean() * gap
    assert metrics.expected_calibration_error(labels, p) == pytest.approx(
      expected, abs=EXACT
    )
  assert metrics.expected_calibration_error([1, 0], [1.0, 0.0]) == 0.0
  assert np.isnan(metrics.expected_calibration_error([], []))


@pytest.mark.parametrize(
  ('labels', 'p', 'said'),
  [
    ([0, 1], [0.1, float('nan')], '1 probabilities are NaN'),
    ([0, -1], [0.1, 0.2], 'label -1'),
    ([0, 1], [0.1], 'shape'),
  ],
)
def test_unusable_input_is_named(labels, p, said):
  for figure in (metrics.roc_auc, metrics.pf1, metrics.brier):
    with pytest.raises(errors.DataError, match=said):
      figure(labels, p)
