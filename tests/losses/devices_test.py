"""One step with every term of the loss, on eight devices as on one."""

import functools

import jax
import numpy as np
import pytest

from rsna_jax import config, losses, models, optim, parallel, steps

B = 16


def make_config():
  c = config.default()
  c.model.name, c.model.metadata = 'meta', ('implant',)
  c.data.target = 'density_cancer'
  c.loss.name, c.loss.surrogate = 'focal', 'average_precision'
  c.loss.auxiliary.birads, c.loss.auxiliary.age = 0.5, 2.0
  c.optim.name, c.optim.schedule = 'sgd', 'constant'
  c.optim.learning_rate, c.optim.clip_norm = 1.0, 0.0
  return c


def make_batch():
  rng = np.random.default_rng(0)
  return {
    'meta': rng.normal(size=(B, 5)).astype(np.float32),
    # All that are positive lie on the last devices.
    'label_density_cancer': np.repeat([0, 4, 6, 1], B // 4).astype(np.int32),
    'weight': np.array([0, *rng.uniform(0.5, 1, B - 1)], np.float32),
    'label_birads': rng.integers(0, 3, B).astype(np.int32),
    # Most devices have no label at all.
    'weight_birads': (np.arange(B) < 3).astype(np.float32),
    'label_age': rng.normal(size=B).astype(np.float32),
    'weight_age': (rng.uniform(size=B) < 0.5).astype(np.float32),
  }


@functools.cache
def step(mode, devices):
  """Parameters after one step, and its metrics."""
  c = make_config()
  axis = parallel.axis_name(mode)
  mesh = parallel.make_mesh(jax.devices()[:devices])
  model, tx = models.create(c, axis_name=axis), optim.create(c)
  function = functools.partial(
    steps.train_step, model=model, tx=tx, loss=losses.create(c), axis=axis
  )
  state = steps.create_state(model, tx, c, jax.random.key(0), meta_width=5)
  chance = np.random.default_rng(1)
  state = state.replace(
    params=jax.tree.map(
      lambda x: chance.normal(size=x.shape).astype(np.float32), state.params
    )
  )
  state, metrics = parallel.wrap(function, mode, mesh)(
    parallel.place_state(state, mesh),
    parallel.place_batch(make_batch(), mode, mesh),
    jax.random.key(1),
  )
  return jax.device_get((state.params, metrics))


@pytest.mark.parametrize('mode', parallel.MODES)
def test_eight_devices_take_the_step_of_one(mode):
  expected = step('jit', 1)
  assert set(expected[1]) >= {
    'loss_density_cancer',
    'loss_surrogate',
    'loss_birads',
    'loss_age',
  }
  assert expected[1]['grad_norm'] > 0.1
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
    step(mode, 8),
    expected,
  )
