import numpy as np
import pytest
from scipy import stats

from rsna_jax.scoring import score
from rsna_jax.stats import boundary


def test_a_share_of_one_has_the_interval_of_so_many_trials():
  found = boundary.mended({'value': 1.0, 'low': 1.0, 'high': 1.0}, 12)
  wilson = stats.binomtest(12, 12).proportion_ci(method='wilson')
  assert found['value'] == 1.0
  assert (found['low'], found['high']) == pytest.approx(tuple(wilson))
  found = boundary.mended({'value': 0.0, 'low': 0.0, 'high': 0.0}, 5)
  wilson = stats.binomtest(0, 5).proportion_ci(method='wilson')
  assert (found['low'], found['high']) == pytest.approx(tuple(wilson))


@pytest.mark.parametrize(
  ('value', 'low', 'high', 'n'),
  [
    (1.0, 0.9, 1.0, 12),
    (0.5, 0.5, 0.5, 12),
    (1.0, None, None, 12),
    (None, None, None, 12),
    (1.0, 1.0, 1.0, None),
  ],
)
def test_other_figures_are_left_alone(value, low, high, n):
  figure = {'value': value, 'low': low, 'high': high}
  assert boundary.mended(figure, n) == figure


def test_patients_are_counted_not_their_images():
  labels = np.array([1, 1, 1, 0, 0, 0, 0])
  patients = np.array([1, 1, 2, 2, 3, 4, 4])
  called = np.array([1, 1, 0, 0, 0, 0, 1], bool)
  found = boundary.patients_behind(labels, patients, called)
  assert (found['sensitivity'], found['specificity']) == (2, 3)
  assert found['roc_auc'] == 2
  assert (found['ppv'], found['npv'], found['recall_rate']) == (2, 3, 4)


def test_a_model_without_an_error_is_not_certain():
  patients = np.arange(60)
  label = (patients < 12).astype(int)
  found = score.score(
    {
      'prediction_id': np.array([f'{x}_L' for x in patients]),
      'patient_id': patients,
      'label': label,
      'probability': 0.1 + 0.8 * label,
      'site_id': np.ones(60, int),
    },
    bootstrap=50,
  )
  twelve = stats.binomtest(12, 12).proportion_ci(method='wilson').low
  well = stats.binomtest(48, 48).proportion_ci(method='wilson').low
  for level in ('breast', 'patient'):
    for name in ('roc_auc', 'average_precision', 'partial_auc_10'):
      assert found[level][name]['value'] == pytest.approx(1)
      assert found[level][name]['low'] == pytest.approx(twelve)
    assert found[level]['roc_auc_delong']['by_patient']['low'] is None
  figures = found['decision']['figures']
  assert figures['sensitivity']['low'] == pytest.approx(twelve)
  assert figures['specificity']['low'] == pytest.approx(well)


def test_the_interval_of_a_sensitivity_near_one_covers_it():
  """20 cancers, each found with 0.97: the bootstrap alone covers 0.45."""
  rng, truth = np.random.default_rng(0), 0.97
  covered, repeats = 0, 400
  for _ in range(repeats):
    hits = rng.random(20) < truth
    drawn = rng.integers(0, 20, (200, 20))
    low, high = np.quantile(hits[drawn].mean(axis=1), [0.025, 0.975])
    figure = {'value': hits.mean(), 'low': low, 'high': high}
    found = boundary.mended(figure, 20)
    covered += found['low'] <= truth <= found['high']
  assert covered / repeats > 0.93
