"""Optimisers against hand-written updates, schedules against optax."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsna_jax import config, errors, optim
from rsna_jax.options import optim as optim_options


def make(**fields):
  c = config.default()
  c.train.steps = 100
  c.optim.learning_rate = 0.01
  c.optim.schedule = 'constant'
  c.optim.clip_norm = 0.0
  c.optim.weight_decay = 0.0
  c.optim.update(fields)
  return c


def by_hand(name, kernel, gradients, rate, decay):
  """The published update rules in float64."""
  p, m, v = np.array(kernel, np.float64), 0.0, 0.0
  for t, g in enumerate(gradients, start=1):
    if name != 'adamw':
      g = g + decay * p
    if name == 'sgd':
      m = 0.9 * m + g
      p = p - rate * m
      continue
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    change = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    p = p - rate * (change + (decay * p if name == 'adamw' else 0.0))
  return p


@pytest.mark.parametrize('name', sorted(optim.OPTIMIZERS))
@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_updates_equal_the_published_rules_and_spare_biases(name, decay):
  rng = np.random.default_rng(0)
  params = {'kernel': rng.normal(size=(3, 2)), 'bias': rng.normal(size=2)}
  gradients = [
    {key: rng.normal(size=x.shape) for key, x in params.items()}
    for _ in range(3)
  ]
  tx = optim.create(make(name=name, weight_decay=decay))
  found = {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}
  state = tx.init(found)
  for gradient in gradients:
    gradient = {k: jnp.asarray(v, jnp.float32) for k, v in gradient.items()}
    updates, state = tx.update(gradient, state, found)
    found = optax.apply_updates(found, updates)
  for key in params:
    expected = by_hand(
      name,
      params[key],
      [g[key] for g in gradients],
      0.01,
      decay if key == 'kernel' else 0.0,
    )
    np.testing.assert_allclose(found[key], expected, rtol=1e-4, atol=1e-6)


def test_a_long_gradient_is_clipped_to_its_norm_and_a_short_one_is_not():
  tx = optim.create(make(name='sgd', clip_norm=2.0, learning_rate=1.0))
  params = {'kernel': jnp.zeros((1, 2))}
  for length, wanted in ((10.0, 2.0), (1.5, 1.5)):
    gradient = {'kernel': jnp.array([[0.6, 0.8]]) * length}
    updates, _ = tx.update(gradient, tx.init(params), params)
    np.testing.assert_allclose(
      updates['kernel'], [[-0.6 * wanted, -0.8 * wanted]], rtol=1e-5
    )


@pytest.mark.parametrize('warmup', [0, 10])
@pytest.mark.parametrize('name', optim_options.SCHEDULES)
def test_schedules_equal_those_of_optax_after_the_warmup(name, warmup):
  rate = optim.schedule(make(schedule=name, warmup_steps=warmup))
  other = {
    'constant': optax.constant_schedule(0.01),
    'cosine': optax.cosine_decay_schedule(0.01, 100 - warmup),
    'linear': optax.linear_schedule(0.01, 0.0, 100 - warmup),
  }[name]
  for step in range(warmup, 105):
    np.testing.assert_allclose(
      rate(step), other(step - warmup), rtol=1e-4, atol=1e-8
    )
  climb = [float(rate(step)) for step in range(warmup)]
  np.testing.assert_allclose(
    climb, [0.01 * (i + 1) / warmup for i in range(warmup)], rtol=1e-5
  )


def test_a_warmup_longer_than_the_run_only_climbs():
  rate = optim.schedule(make(schedule='cosine', warmup_steps=200))
  assert float(rate(99)) == pytest.approx(0.005)


@pytest.mark.parametrize('field', ['name', 'schedule'])
def test_an_unknown_name_is_refused(field):
  c = make()
  c.optim[field] = 'none such'
  with pytest.raises(errors.ConfigError, match=rf"optim.{field}='none such'"):
    optim.create(c)
