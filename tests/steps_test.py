"""One step against plain references, and equal results on 1 and 8 devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsna_jax import config, losses, models, optim, parallel, steps

STEPS = 3
BATCH = 16


def make_config(**fields):
  c = config.default()
  c.model.name = 'cnn'
  c.model.width = 0.25
  c.model.dropout = 0.3
  c.data.size = (64, 32)
  c.optim.name = 'sgd'
  c.optim.learning_rate = 0.05
  c.optim.schedule = 'constant'
  for name, value in fields.items():
    group, field = name.split('__')
    c[group][field] = value
  return c


def make_batch(c, seed=0, batch=BATCH):
  rng = np.random.default_rng(seed)
  weight = np.ones(batch, np.float32)
  weight[-3:] = 0
  return {
    'image': rng.integers(0, 256, (batch, *c.data.size, 1)).astype(np.uint8),
    'meta': rng.normal(size=(batch, 5)).astype(np.float32),
    'label_cancer': rng.integers(0, 2, batch).astype(np.int32),
    'weight': weight,
    'id': np.arange(batch),
  }


def make_step(c, axis, **keywords):
  model = models.create(c, axis_name=axis)
  tx = optim.create(c)
  step = functools.partial(
    steps.train_step,
    model=model,
    tx=tx,
    loss=losses.create(c),
    axis=axis,
    augment=c.augment,
    ema=c.optim.ema,
    **keywords,
  )
  state = steps.create_state(model, tx, c, jax.random.key(0), meta_width=5)
  return step, state, model


def run(c, mode, devices):
  """Parameters, losses and predictions after a few steps, all numpy."""
  mesh = parallel.make_mesh(jax.devices()[:devices])
  axis = parallel.axis_name(mode)
  step, state, model = make_step(c, axis)
  compiled = parallel.wrap(step, mode, mesh)
  predict = parallel.wrap_predict(
    functools.partial(steps.predict_step, model=model, axis=axis), mode, mesh
  )
  state = parallel.place_state(state, mesh)
  found = []
  for t in range(STEPS):
    batch = parallel.place_batch(make_batch(c, t), mode, mesh)
    state, metrics = compiled(state, batch, jax.random.key(1))
    found.append(float(metrics['loss']))
  logits = predict(state, parallel.place_batch(make_batch(c, 9), mode, mesh))
  return jax.device_get(state), np.array(found), logits['cancer']


@functools.cache
def one_device():
  return run(make_config(optim__ema=0.9), 'jit', 1)


@pytest.mark.parametrize('mode', parallel.MODES)
def test_eight_devices_give_what_one_gives(mode):
  state, found, logits = run(make_config(optim__ema=0.9), mode, 8)
  expected_state, expected, expected_logits = one_device()
  assert expected[0] != expected[-1]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(logits, expected_logits, atol=1e-5)
  assert logits.shape == (BATCH, 1)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5),
    state,
    expected_state,
  )


def test_the_state_moves_between_modes():
  c = make_config()
  mesh = parallel.make_mesh(jax.devices()[:2])
  state = None
  for mode in parallel.MODES:
    step, first, _ = make_step(c, parallel.axis_name(mode))
    state = parallel.place_state(first, mesh) if state is None else state
    batch = parallel.place_batch(make_batch(c), mode, mesh)
    state, _ = parallel.wrap(step, mode, mesh)(state, batch, jax.random.key(1))
  assert int(state.step) == 3


def test_step_equals_gradient_of_the_plain_mean_loss():
  c = make_config(
    model__dropout=0.0, optim__clip_norm=0.0, optim__weight_decay=0.0
  )
  for name in c.augment:
    c.augment[name] = 0.0
  step, state, model = make_step(c, None)
  batch = make_batch(c)
  keep = batch['weight'] > 0

  def plain(params):
    logits, _ = model.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      jnp.asarray(batch['image'] / np.float32(255)),
      jnp.asarray(batch['meta']),
      True,
      mutable=['batch_stats'],
    )
    p = jax.nn.sigmoid(logits['cancer'][keep, 0])
    label = batch['label_cancer'][keep]
    return -jnp.mean(jnp.where(label == 1, jnp.log(p), jnp.log(1 - p)))

  value, gradient = jax.jit(jax.value_and_grad(plain))(state.params)
  batch = {k: v for k, v in batch.items() if k != 'id'}
  after, metrics = jax.jit(step)(state, batch, jax.random.key(1))
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-5)
  np.testing.assert_allclose(
    metrics['grad_norm'], optax.global_norm(gradient), rtol=1e-4
  )
  assert float(metrics['weight']) == keep.sum()
  moved = jax.tree.map(lambda p, g: p - 0.05 * g, state.params, gradient)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-6),
    after.params,
    moved,
  )


def test_padding_has_no_part_in_loss_and_a_batch_of_padding_is_harmless():
  c = make_config(model__name='meta', model__metadata=('age',))
  step, state, _ = make_step(c, None)
  batch = make_batch(c)
  del batch['id'], batch['image']
  _, metrics = step(state, batch, jax.random.key(1))
  other = batch | {'meta': batch['meta'].copy()}
  other['meta'][-3:] = 1e3
  _, same = step(state, other, jax.random.key(1))
  assert float(metrics['loss']) == float(same['loss'])
  empty = batch | {'weight': np.zeros(BATCH, np.float32)}
  _, none = step(state, empty, jax.random.key(1))
  assert float(none['loss']) == 0.0 and float(none['grad_norm']) == 0.0


def test_averaged_weights_follow_the_formula_and_predict():
  c = make_config(model__name='meta', model__metadata=('age',), optim__ema=0.15)
  step, state, model = make_step(c, None)
  batch = make_batch(c)
  del batch['id'], batch['image']
  kernel = expected = state.params['logits']['cancer']['kernel']
  for n in range(3):
    state, _ = step(state, batch, jax.random.key(1))
    kernel = state.params['logits']['cancer']['kernel']
    decay = min(0.15, (1 + n) / (10 + n))
    expected = decay * expected + (1 - decay) * kernel
  averaged = state.ema_params['logits']['cancer']['kernel']
  np.testing.assert_allclose(averaged, expected, rtol=1e-6)
  assert not np.allclose(averaged, kernel)
  logits = steps.predict_step(state, batch, model=model)['cancer']
  bias = state.ema_params['logits']['cancer']['bias']
  np.testing.assert_allclose(
    logits, batch['meta'] @ averaged + bias, rtol=1e-5, atol=1e-6
  )


def test_without_averaging_nothing_is_kept_for_it():
  _, state, _ = make_step(make_config(), None)
  assert state.ema_params == {} and state.ema_batch_stats == {}
  assert steps.variables(state)['params'] is state.params


def test_same_key_same_step_and_other_steps_differ():
  c = make_config(model__dropout=0.9, optim__learning_rate=1e-9)
  step, state, _ = make_step(c, None)
  batch = make_batch(c)
  del batch['id']
  step = jax.jit(step)
  after, first = step(state, batch, jax.random.key(1))
  _, again = step(state, batch, jax.random.key(1))
  _, later = step(after, batch, jax.random.key(1))
  assert float(first['loss']) == float(again['loss'])
  assert float(first['loss']) != float(later['loss'])


def test_images_of_8_and_16_bits_mean_the_same_grey():
  grey8 = np.arange(256, dtype=np.uint8)
  grey16 = grey8.astype(np.uint16) * 257
  np.testing.assert_allclose(
    steps.to_float(jnp.asarray(grey8)),
    steps.to_float(jnp.asarray(grey16)),
    atol=1e-7,
  )
  assert float(steps.to_float(jnp.uint8(255))) == 1.0
