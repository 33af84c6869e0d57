"""Surrogates against loops over pairs, and the metrics that they stand for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rsna_jax import metrics, parallel
from rsna_jax.losses import surrogates

N = 16
ALL = {
  'pf1': surrogates.soft_f1,
  'auc': surrogates.pairwise_logistic,
  'average_precision': functools.partial(
    surrogates.smooth_average_precision, temperature=0.7
  ),
}


def some(seed=0):
  rng = np.random.default_rng(seed)
  logit = rng.normal(size=N).astype(np.float32) * 2
  positive = (rng.uniform(size=N) < 0.4).astype(np.int32)
  weight = rng.uniform(0.2, 1, N).astype(np.float32)
  weight[3] = 0
  return logit, positive, weight


def by_loops(name, logit, positive, weight):
  """The definitions, one pair after the other, in float64."""
  s, y, w = (np.asarray(x, np.float64) for x in (logit, positive, weight))
  if name == 'pf1':
    p = 1 / (1 + np.exp(-s))
    return 1 - 2 * (w * p * y).sum() / ((w * p).sum() + (w * y).sum())
  rows = range(len(s))
  if name == 'auc':
    pairs = [(i, j) for i in rows for j in rows if y[i] and not y[j]]
    each = [np.log1p(np.exp(s[j] - s[i])) for i, j in pairs]
    return np.average(each, weights=[w[i] * w[j] for i, j in pairs])
  found = []
  for i in rows:
    above = [
      0 if j == i else 1 / (1 + np.exp((s[i] - s[j]) / 0.7)) for j in rows
    ]
    above[i] = 1
    found.append(np.dot(above, w * y) / np.dot(above, w))
  return 1 - np.average(found, weights=w * y)


@pytest.mark.parametrize('name', ALL)
def test_a_surrogate_equals_its_definition(name):
  logit, positive, weight = some()
  found = ALL[name](logit, positive, weight, None)
  assert found.shape == () and found.dtype == jnp.float32
  expected = by_loops(name, logit, positive, weight)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  whole = ALL[name](logit, positive, np.ones(N), None)
  assert abs(whole - found) > 1e-3  # weights count


@pytest.mark.parametrize('name', ALL)
def test_the_gradient_is_that_of_small_differences(name):
  logit, positive, weight = some()
  slope = jax.grad(ALL[name])(logit, positive, weight, None)
  step = 1e-5
  expected = [
    (
      by_loops(name, logit + step * one, positive, weight)
      - by_loops(name, logit - step * one, positive, weight)
    )
    / (2 * step)
    for one in np.eye(N)
  ]
  np.testing.assert_allclose(slope, expected, atol=2e-6)
  assert slope[3] == 0 and (np.delete(slope, 3) != 0).all()


@pytest.mark.parametrize('name', ALL)
def test_devices_see_each_others_examples(name):
  logit, positive, weight = some()
  positive = np.sort(positive)  # all positives on the last devices
  args = logit, positive, weight
  expected = jax.value_and_grad(ALL[name])(*args, None)
  mesh = parallel.make_mesh()

  def step(logit, positive, weight):
    def total(logit):
      return ALL[name](logit, positive, weight, parallel.AXIS)

    return jax.value_and_grad(total)(logit)

  split, whole = P(parallel.AXIS), P()
  found = jax.jit(
    jax.shard_map(
      step, mesh=mesh, in_specs=(split,) * 3, out_specs=(whole, split)
    )
  )(*args)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7),
    found,
    expected,
  )


def test_soft_f1_is_the_metric_itself():
  logit, positive, _ = some()
  p = 1 / (1 + np.exp(-logit.astype(np.float64)))
  found = surrogates.soft_f1(logit, positive, np.ones(N), None)
  np.testing.assert_allclose(1 - found, metrics.pf1(positive, p), rtol=1e-5)


def test_smooth_average_precision_becomes_average_precision():
  logit, positive, _ = some()
  found = surrogates.smooth_average_precision(
    logit, positive, np.ones(N), None, temperature=1e-4
  )
  expected = metrics.average_precision(positive, logit)
  np.testing.assert_allclose(1 - found, expected, rtol=1e-5)


def test_pairwise_logistic_bounds_the_share_of_wrong_pairs():
  logit, positive, _ = some()
  found = surrogates.pairwise_logistic(logit, positive, np.ones(N), None)
  wrong = 1 - metrics.roc_auc(positive, logit)
  assert found / np.log(2) >= wrong
  # Far apart and in order, nothing is left.
  apart = np.where(positive == 1, 50.0, -50.0)
  found = surrogates.pairwise_logistic(apart, positive, np.ones(N), None)
  assert found == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('label', [0, 1])
@pytest.mark.parametrize('weight', [0.0, 1.0])
def test_batches_of_one_class_and_empty_ones_stay_finite(name, label, weight):
  logit = np.linspace(-300, 300, N).astype(np.float32)
  value, slope = jax.value_and_grad(ALL[name])(
    logit, np.full(N, label), np.full(N, weight), None
  )
  assert np.isfinite(value) and np.isfinite(slope).all()
  if weight == 0 or label == 0:
    assert (slope == 0).all()


def test_the_log_odds_of_cancer_are_of_the_odd_classes():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(5, 8)) * 3
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  p = p[:, 1::2].sum(axis=1)
  np.testing.assert_allclose(
    surrogates.cancer_logit(jnp.asarray(logits)), np.log(p / (1 - p)), rtol=1e-4
  )
  one = surrogates.cancer_logit(jnp.asarray(logits[:, :1]))
  np.testing.assert_allclose(one, logits[:, 0], rtol=1e-6)
