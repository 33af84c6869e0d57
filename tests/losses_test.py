"""Cross-entropy against its definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config, errors, losses


def definition(logits, labels, smoothing, positive_weight):
  """-sum q log p for each example, one by one."""
  found = []
  for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
    if len(row) == 1:
      p = 1 / (1 + np.exp(-row[0]))
      p, q = np.array([1 - p, p]), np.eye(2)[label]
    else:
      p = np.exp(row) / np.exp(row).sum()
      q = np.eye(len(row))[label]
    q = q * (1 - smoothing) + smoothing / len(q)
    positive = label % 2 == 1 and len(row) in (1, 8)
    found.append(-(q * np.log(p)).sum() * (positive_weight if positive else 1))
  return found


@pytest.mark.parametrize(('target', 'count'), [('a', 1), ('b', 4), ('c', 8)])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('positive_weight', [1.0, 3.0])
def test_cross_entropy_equals_its_definition(
  target, count, smoothing, positive_weight
):
  c = config.default()
  c.loss.label_smoothing = smoothing
  c.loss.positive_weight = positive_weight
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(12, count)).astype(np.float32) * 3
  labels = rng.integers(0, max(count, 2), 12).astype(np.int32)
  weight = rng.uniform(size=12).astype(np.float32)
  batch = {f'label_{target}': labels, 'weight': weight}
  found = losses.create(c)({target: logits}, batch)
  assert found['total'].shape == () and found['total'].dtype == jnp.float32
  each = definition(logits, labels, smoothing, positive_weight)
  expected = np.average(each, weights=weight)
  np.testing.assert_allclose(found['total'], expected, rtol=1e-5)
  np.testing.assert_allclose(found[target], expected, rtol=1e-5)


def test_targets_are_added():
  loss = losses.create(config.default())
  rng = np.random.default_rng(0)
  logits = {'a': rng.normal(size=(3, 1)), 'b': rng.normal(size=(3, 4))}
  logits = {k: jnp.asarray(v, jnp.float32) for k, v in logits.items()}
  batch = {'label_a': jnp.array([0, 1, 1]), 'label_b': jnp.array([3, 0, 2])}
  batch['weight'] = jnp.ones(3)
  found = loss(logits, batch)
  alone = [loss({k: v}, batch)['total'] for k, v in logits.items()]
  np.testing.assert_allclose(found['total'], sum(alone), rtol=1e-6)
  np.testing.assert_allclose([found['a'], found['b']], alone, rtol=1e-6)


@pytest.mark.parametrize('count', [1, 4])
def test_large_logits_give_finite_values_and_gradients(count):
  logits = jnp.full((2, count), 1e4).at[:, 0].set(-1e4)
  labels = jnp.array([1, 1 if count == 1 else 0])  # the second is wrong

  def total(logits):
    return losses.cross_entropy(logits, labels).sum()

  value, gradient = jax.value_and_grad(total)(logits)
  assert np.isfinite(value) and np.isfinite(gradient).all()
  assert losses.cross_entropy(logits, labels)[1] >= 1e4


def test_an_unknown_loss_is_refused():
  c = config.default()
  c.loss.name = 'hinge'
  with pytest.raises(errors.ConfigError, match=r"loss.name='hinge': choose"):
    losses.create(c)
