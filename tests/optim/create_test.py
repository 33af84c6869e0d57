"""Optimisers against hand-written updates, schedules against optax."""

import functools

import jax
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


def run(tx, params, gradients, **extra):
  """Parameters after steps of an optimiser, or of the one of a config."""
  tx = tx if isinstance(tx, tuple) else optim.create(tx)

  def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, 'float32'), tree)

  params = single(params)
  state = tx.init(params)

  @jax.jit
  def step(gradient, state, params):
    updates, state = tx.update(gradient, state, params, **extra)
    return optax.apply_updates(params, updates), state

  for gradient in gradients:
    params, state = step(single(gradient), state, params)
  return params


def example(steps, seed=0):
  rng = np.random.default_rng(seed)
  params = {'kernel': rng.normal(size=(3, 2)), 'bias': rng.normal(size=2)}
  return params, [
    {key: rng.normal(size=x.shape) for key, x in params.items()}
    for _ in range(steps)
  ]


def by_hand(name, kernel, gradients, rate, decay):
  """The published update rules in float64."""
  p, m, v = np.array(kernel, np.float64), 0.0, 0.0
  for t, g in enumerate(gradients, start=1):
    if name not in ('adamw', 'lamb', 'lion'):
      g = g + decay * p
    if name == 'sgd':
      m = 0.9 * m + g
      p = p - rate * m
      continue
    if name == 'rmsprop':
      v = 0.9 * v + 0.1 * g**2
      m = 0.9 * m + g / np.sqrt(v + 1e-8)
      p = p - rate * m
      continue
    if name == 'lion':
      change = np.sign(0.9 * m + 0.1 * g)
      m = 0.99 * m + 0.01 * g
      p = p - rate * (change + decay * p)
      continue
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    steady, eps = m / (1 - 0.9**t), 1e-6 if name == 'lamb' else 1e-8
    change = steady / (np.sqrt(v / (1 - 0.999**t)) + eps)
    if name == 'radam':
      most = 2 / (1 - 0.999) - 1
      now = most - 2 * t * 0.999**t / (1 - 0.999**t)
      change = (
        steady
        if now < 5
        else change
        * np.sqrt(
          (now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now)
        )
      )
    if name in ('adamw', 'lamb'):
      change = change + decay * p
    if name == 'lamb':
      change = change * np.linalg.norm(p) / np.linalg.norm(change)
    p = p - rate * change
  return p


@pytest.mark.parametrize('name', sorted(optim.OPTIMIZERS))
@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_updates_equal_the_published_rules_and_spare_biases(name, decay):
  params, gradients = example(8)
  found = run(make(name=name, weight_decay=decay), params, gradients)
  for key in params:
    expected = by_hand(
      name,
      params[key],
      [g[key] for g in gradients],
      0.01,
      decay if key == 'kernel' else 0.0,
    )
    np.testing.assert_allclose(found[key], expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
  ('name', 'fields', 'other'),
  [
    ('sgd', {'momentum': 0.7, 'nesterov': True}, optax.sgd),
    ('adamw', {'b1': 0.8, 'b2': 0.9, 'eps': 0.1}, optax.adamw),
    ('lamb', {'b1': 0.8, 'b2': 0.9, 'eps': 0.1}, optax.lamb),
    ('lion', {'b1': 0.8, 'b2': 0.9}, optax.lion),
    ('radam', {'b1': 0.8, 'b2': 0.9, 'eps': 0.1}, optax.radam),
    ('rmsprop', {'momentum': 0.5, 'nesterov': True}, optax.rmsprop),
  ],
)
def test_the_options_reach_the_optimiser(name, fields, other):
  params, gradients = example(6)
  plain = {'weight_decay': 0.0} if name in ('adamw', 'lamb', 'lion') else {}
  expected = run(other(0.01, **fields, **plain), params, gradients)
  found = run(make(name=name, **fields), params, gradients)
  without = run(make(name=name), params, gradients)
  for key in params:
    np.testing.assert_allclose(found[key], expected[key], rtol=1e-6)
    assert not np.allclose(found[key], without[key], rtol=1e-3)


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
@pytest.mark.parametrize('floor', [0.0, 0.2])
@pytest.mark.parametrize('name', optim_options.SCHEDULES)
def test_schedules_equal_those_of_optax_after_the_warmup(name, floor, warmup):
  fields = {'schedule': name, 'warmup_steps': warmup, 'floor': floor}
  if name == 'piecewise':
    fields |= {'boundaries': (30, 60), 'factors': (0.5, 0.1)}
  rate = optim.schedule(make(**fields))
  rest = 100 - warmup
  other = {
    'constant': optax.constant_schedule(0.01),
    'cosine': optax.cosine_decay_schedule(0.01, rest, alpha=floor),
    'linear': optax.linear_schedule(0.01, 0.01 * floor, rest),
    'one_cycle': optax.cosine_onecycle_schedule(rest, 0.01),
    'piecewise': optax.piecewise_constant_schedule(
      0.01, {30 - warmup: 0.5, 60 - warmup: 0.1}
    ),
  }[name]
  steps = jnp.arange(105)
  found = jax.jit(rate)(steps)
  np.testing.assert_allclose(
    found[warmup:],
    jax.vmap(other)(steps[warmup:] - warmup),
    rtol=1e-4,
    atol=1e-8,
  )
  climb = found[:warmup]
  first = 0.01 / 25 if name == 'one_cycle' else 0.01
  np.testing.assert_allclose(
    climb, [first * (i + 1) / warmup for i in range(warmup)], rtol=1e-5
  )


def test_a_gradient_is_clipped_by_value_before_its_norm():
  gradient = {'kernel': np.array([[3.0, -0.5]])}
  params = {'kernel': np.zeros((1, 2))}
  fields = {'name': 'sgd', 'learning_rate': 1.0, 'clip_value': 1.0}
  found = run(make(**fields), params, [gradient])
  np.testing.assert_allclose(found['kernel'], [[-1.0, 0.5]])
  found = run(make(**fields, clip_norm=0.5), params, [gradient])
  wanted = np.array([[-1.0, 0.5]]) * 0.5 / np.hypot(1.0, 0.5)
  np.testing.assert_allclose(found['kernel'], wanted, rtol=1e-6)


def test_lookahead_equals_that_of_optax_and_its_slow_weights_are_found():
  params, gradients = example(7)
  single = {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}
  other = optax.lookahead(optax.radam(0.01), 3, 0.4)
  pair = optax.LookaheadParams.init_synced(single)
  other_state = other.init(pair)
  tx = optim.create(make(name='radam', lookahead=3, lookahead_rate=0.4))
  state = tx.init(single)
  for gradient in gradients:
    updates, other_state = other.update(gradient, other_state, pair)
    pair = optax.apply_updates(pair, updates)
    updates, state = tx.update(gradient, state, single)
    single = optax.apply_updates(single, updates)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
      (single, optim.slow_weights(state)),
      (pair.fast, pair.slow),
    )
  assert optim.slow_weights(optim.create(make()).init(single)) is None


def test_a_warmup_longer_than_the_run_only_climbs():
  rate = optim.schedule(make(schedule='cosine', warmup_steps=200))
  assert float(rate(99)) == pytest.approx(0.005)


@pytest.mark.parametrize('field', ['name', 'schedule'])
def test_an_unknown_name_is_refused(field):
  c = make()
  c.optim[field] = 'none such'
  with pytest.raises(errors.ConfigError, match=rf"optim.{field}='none such'"):
    optim.create(c)
