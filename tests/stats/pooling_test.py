import json

import numpy as np
import pytest

from rsna_jax import aggregate, errors, metrics
from rsna_jax.stats import logistic, pooling


def example(breasts=3_000, seed=0):
  """Breasts whose second image says as much as their first."""
  rng = np.random.default_rng(seed)
  labels = (rng.random(breasts) < 0.15).astype(int)
  count = rng.integers(1, 6, breasts)
  breast = np.repeat(np.arange(breasts), count)
  z = rng.normal(size=len(breast)) + 1.2 * labels[breast] - 2
  order = rng.permutation(len(breast))
  return labels, breast[order], logistic.sigmoid(z[order])


def test_columns_equal_a_loop_for_any_number_of_images():
  _, breast, p = example(200)
  found = pooling.columns_of(breast, p, 200)
  for k in range(200):
    z = np.sort(np.log(p[breast == k] / (1 - p[breast == k])))[::-1]
    second = z[1] if len(z) > 1 else z[0]
    np.testing.assert_allclose(
      found[k], [z[0], second, z.mean(), z[-1], np.log(len(z))], atol=1e-9
    )


def test_it_learns_more_than_the_highest_image_says():
  labels, breast, p = example()
  fitted = pooling.fit(labels, pooling.columns_of(breast, p, len(labels)))
  other, breast, p = example(seed=1)
  learned = fitted(pooling.columns_of(breast, p, len(other)))
  highest = aggregate.combine(breast, p, len(other), how='max')
  assert (
    metrics.roc_auc(other, learned) > metrics.roc_auc(other, highest) + 0.01
  )
  assert learned.mean() == pytest.approx(other.mean(), abs=0.02)
  found = aggregate.breasts(breast, breast, p, how='learned', learned=fitted)
  np.testing.assert_allclose(found['cancer'], learned[found['patient_id']])


def test_no_breast_has_a_part_in_its_own_pooling():
  labels, breast, p = example(400)
  columns = pooling.columns_of(breast, p, 400)
  patients = np.arange(400) // 2
  found = pooling.cross_fit(labels, columns, patients)
  # The other breast of a patient with one positive: the parts stay the same.
  sums = np.bincount(patients, weights=labels)
  own = np.flatnonzero(patients == np.flatnonzero(sums == 1)[0])
  turned = labels.copy()
  turned[own] = turned[own][::-1]
  again = pooling.cross_fit(turned, columns, patients)
  np.testing.assert_array_equal(found[own], again[own])
  assert (found != again).any()


def test_noise_learns_nothing_out_of_fold():
  rng = np.random.default_rng(0)
  labels, breast, _ = example(1_000)
  columns = pooling.columns_of(breast, rng.random(len(breast)), 1_000)
  found = pooling.cross_fit(labels, columns, np.arange(1_000))
  assert 0.4 < metrics.roc_auc(labels, found) < 0.57


def test_breasts_of_one_image_each_and_unknown_labels_are_no_trouble():
  labels = np.array([0, 1, -1] * 20)
  columns = pooling.columns_of(np.arange(60), np.linspace(0.1, 0.9, 60), 60)
  found = pooling.cross_fit(labels, columns, np.arange(60))
  assert np.isfinite(found).all()


def test_a_pooling_survives_json():
  labels, breast, p = example(100)
  fitted = pooling.fit(labels, pooling.columns_of(breast, p, 100))
  text = json.dumps(fitted.to_json(), allow_nan=False)
  assert pooling.Pooling.from_json(json.loads(text)) == fitted


@pytest.mark.parametrize('found', [None, {}, {'weights': {'max': 1.0}}])
def test_what_is_not_a_pooling_is_refused(found):
  with pytest.raises(errors.DataError, match='not a learned aggregation'):
    pooling.Pooling.from_json(found)


def test_one_class_is_refused():
  with pytest.raises(errors.DataError, match='0 of 3 breasts are positive'):
    pooling.fit(np.zeros(3), np.zeros((3, 5)))
