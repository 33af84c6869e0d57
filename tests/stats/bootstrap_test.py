import numpy as np
import pytest

from rsna_jax import errors, metrics
from rsna_jax.stats import bootstrap, curves, multiclass


def example(n=400, patients=120, seed=0):
  rng = np.random.default_rng(seed)
  labels = (rng.random(n) < 0.2).astype(int)
  p = np.round(np.clip(rng.random(n) * 0.7 + 0.3 * labels, 0, 1), 2)
  return labels, p, rng.integers(1000, 1000 + patients, n)


def rows_of(resamples, k, patient):
  """Rows of the k-th resample, repeated as often as their patient."""
  counts = dict(zip(resamples.patients, resamples.counts[k], strict=True))
  times = [int(counts[x]) for x in patient]
  return np.repeat(np.arange(len(patient)), times)


def test_each_resample_equals_the_figures_of_the_rows_it_stands_for():
  labels, p, patient = example()
  resamples = bootstrap.Resamples(patient, n=25, seed=3)
  called = p >= 0.6
  found = bootstrap.binary(labels, p, patient, resamples, predicted=called)
  expected = {
    'roc_auc': metrics.roc_auc,
    'average_precision': metrics.average_precision,
    'sensitivity_at_90_specificity': metrics.sensitivity_at_specificity,
    'specificity_at_90_sensitivity': metrics.specificity_at_sensitivity,
    'pf1': metrics.pf1,
    'brier': metrics.brier,
    'log_loss': metrics.log_loss,
    'ece': metrics.expected_calibration_error,
    'sensitivity_at_10_recall_rate': curves.sensitivity_at_recall_rate,
    'partial_auc_10': curves.partial_auc,
    'calibration_in_the_large': lambda y, q: y.mean() - q.mean(),
    'f1': lambda y, q: metrics.f1_at(y, q, 0.6),
    'sensitivity': lambda y, q: (q >= 0.6)[y == 1].mean(),
    'specificity': lambda y, q: (q < 0.6)[y == 0].mean(),
    'ppv': lambda y, q: y[q >= 0.6].mean(),
    'npv': lambda y, q: 1 - y[q < 0.6].mean(),
    'recall_rate': lambda y, q: (q >= 0.6).mean(),
  }
  assert set(found) == set(expected)
  for k in range(len(resamples)):
    rows = rows_of(resamples, k, patient)
    for name, figure in expected.items():
      assert found[name][k] == pytest.approx(
        figure(labels[rows], p[rows]), abs=1e-12
      ), name


def test_each_resample_of_classes_equals_the_rows_it_stands_for():
  rng = np.random.default_rng(1)
  labels, called = rng.integers(0, 4, (2, 300))
  patient = rng.integers(0, 90, 300)
  resamples = bootstrap.Resamples(patient, n=10, seed=0)
  found = bootstrap.classes(labels, called, patient, resamples, classes=4)
  for k in range(10):
    rows = rows_of(resamples, k, patient)
    matrix = multiclass.confusion(labels[rows], called[rows], 4)
    assert found['accuracy'][k] == pytest.approx(multiclass.accuracy(matrix))
    assert found['macro_f1'][k] == pytest.approx(multiclass.macro_f1(matrix))
    for name, value in multiclass.figures(matrix).items():
      np.testing.assert_allclose(found[name][k], value, atol=1e-12)


def test_totals_are_those_of_the_rows_each_resample_stands_for():
  labels, p, patient = example()
  resamples = bootstrap.Resamples(patient, n=6, seed=0)
  columns = np.stack([labels, p], axis=1)
  found = bootstrap.totals(columns, patient, resamples)
  counts = bootstrap.totals(columns, patient, resamples, np.float32)
  for k in range(6):
    rows = rows_of(resamples, k, patient)
    np.testing.assert_allclose(found[k], columns[rows].sum(axis=0), rtol=1e-13)
  np.testing.assert_array_equal(counts[:, 0], found[:, 0])


def test_a_resample_draws_as_many_patients_as_there_are():
  resamples = bootstrap.Resamples([5, 5, 7, 9, 9, 9], n=3_000, seed=0)
  np.testing.assert_array_equal(resamples.patients, [5, 7, 9])
  assert (resamples.counts.sum(axis=1) == 3).all()
  # Each is drawn once on average, with the variance of a binomial.
  np.testing.assert_allclose(resamples.counts.mean(axis=0), 1, atol=0.06)
  np.testing.assert_allclose(resamples.counts.var(axis=0), 2 / 3, atol=0.06)


def test_the_seed_alone_decides_and_blocks_do_not(monkeypatch):
  labels, p, patient = example()

  def run(seed):
    resamples = bootstrap.Resamples(patient, n=50, seed=seed)
    return bootstrap.binary(labels, p, patient, resamples)

  first, other = run(1), run(2)
  monkeypatch.setattr(bootstrap, '_BLOCK_WEIGHTS', 1_000)
  again = run(1)
  for name, values in first.items():
    np.testing.assert_allclose(values, again[name], rtol=1e-13)
    assert not np.allclose(values, other[name])


def test_a_subgroup_takes_part_in_the_draws_of_the_whole():
  labels, p, patient = example()
  resamples = bootstrap.Resamples(patient, n=8, seed=0)
  part = patient % 2 == 0
  found = bootstrap.binary(
    labels[part], p[part], patient[part], resamples, names=('roc_auc', 'pf1')
  )
  assert set(found) == {'roc_auc', 'pf1'}
  for k in range(8):
    rows = rows_of(resamples, k, patient)
    rows = rows[part[rows]]
    assert found['roc_auc'][k] == pytest.approx(
      metrics.roc_auc(labels[rows], p[rows]), abs=1e-12
    )


def test_intervals_by_patient_cover_the_truth_where_those_by_image_do_not():
  """Four identical images a patient: their number is not evidence."""
  rng = np.random.default_rng(7)
  truth = (
    0.7602499389065233  # of two normal scores one standard deviation apart
  )
  covered = {'patient': 0, 'image': 0}
  repeats = 150
  for k in range(repeats):
    labels = np.repeat(np.arange(80) % 2, 4)
    scores = np.repeat(rng.normal(size=80) + (np.arange(80) % 2), 4)
    for unit, ids in (
      ('patient', np.repeat(np.arange(80), 4)),
      ('image', np.arange(320)),
    ):
      resamples = bootstrap.Resamples(ids, n=200, seed=k)
      values = bootstrap.binary(
        labels, scores, ids, resamples, names=('roc_auc',)
      )['roc_auc']
      low, high = bootstrap.interval(values)
      covered[unit] += low <= truth <= high
  assert 0.88 <= covered['patient'] / repeats <= 0.99
  assert covered['image'] / repeats < 0.75


@pytest.mark.parametrize(
  ('labels', 'patients', 'lone'),
  [
    ([1, 1, 0, 0], [1, 1, 2, 3], True),
    ([1, 0, 0, 0], [1, 2, 2, 2], True),
    ([1, 1, 0, 0], [1, 2, 1, 2], False),
    ([0, 0, 0, 0], [1, 1, 2, 3], False),
    ([], [], False),
  ],
)
def test_one_patient_alone_of_a_class_is_no_sample(labels, patients, lone):
  assert bootstrap.lone(labels, patients) == lone


def test_an_interval_leaves_out_resamples_without_the_figure():
  assert bootstrap.interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
  assert np.isnan(bootstrap.interval(np.array([np.nan]))).all()
  values = np.arange(1001.0)
  assert bootstrap.interval(values) == pytest.approx((25, 975))


def test_a_figure_for_json_has_none_for_nan():
  assert bootstrap.figure(0.5, None) == {
    'value': 0.5,
    'low': None,
    'high': None,
  }
  assert bootstrap.figure(float('nan'), np.array([0.1]))['value'] is None


def test_unusable_input_is_named():
  with pytest.raises(errors.DataError, match='nothing to resample'):
    bootstrap.Resamples([], n=2, seed=0)
  resamples = bootstrap.Resamples([1, 2], n=2, seed=0)
  with pytest.raises(errors.DataError, match='patient 3'):
    resamples.members(np.array([1, 3]))
  with pytest.raises(errors.InputError, match="'auroc'"):
    bootstrap.binary([0, 1], [0, 1], [1, 2], resamples, names=('auroc',))
