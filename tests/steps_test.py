"""One step against plain references, and equal results on 1 and 8 devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsna_jax import config, losses, optim, parallel, steps
from rsna_jax.models import heads, layers, meta

STEPS = 3
BATCH = 16


class TinyTrunk(nn.Module):
  """One of each layer that looks beyond its example or its place in it."""

  rate: float
  axis_name: str | None

  @nn.compact
  def __call__(self, image, train):
    x = layers.Conv3x3(8, 2)(image)
    x = nn.relu(layers.BatchNorm(self.axis_name)(x, train))
    x = layers.ExampleDropout(self.rate, self.axis_name)(x, train)
    return layers.Depthwise3x3()(x)


class Tiny(heads.Classifier):
  """Compiles in a few seconds."""

  def setup(self):
    self.trunk = TinyTrunk(self.dropout, self.axis_name)
    self.head = self.make_head()


def make_config(**fields):
  c = config.default()
  c.model.dropout = 0.3
  c.data.size = (32, 16)
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


def make_step(c, axis):
  network = meta.Meta if c.model.name == 'meta' else Tiny
  model = network(dropout=c.model.dropout, axis_name=axis)
  tx = optim.create(c)
  step = functools.partial(
    steps.train_step,
    model=model,
    tx=tx,
    loss=losses.create(c),
    axis=axis,
    augment=c.augment,
    ema=c.optim.ema,
  )
  state = steps.create_state(model, tx, c, jax.random.key(0), meta_width=5)
  return step, state, model


@functools.cache
def compiled(mode, devices):
  """Compiled once for all tests: the step, the prediction, mesh and state."""
  c = make_config(optim__ema=0.9)
  mesh = parallel.make_mesh(jax.devices()[:devices])
  axis = parallel.axis_name(mode)
  step, state, model = make_step(c, axis)
  predict = functools.partial(steps.predict_step, model=model, axis=axis)
  return (
    parallel.wrap(step, mode, mesh),
    parallel.wrap_predict(predict, mode, mesh),
    mesh,
    jax.device_get(state),
  )


def train(modes, devices, state=None, first=0):
  """One step in each of the modes: the state as numpy, and the losses."""
  found = []
  for t, mode in enumerate(modes, start=first):
    step, _, mesh, initial = compiled(mode, devices)
    if state is None:
      state = initial
    batch = make_batch(make_config(), t)
    state, metrics = step(
      parallel.place_state(state, mesh),
      parallel.place_batch(batch, mode, mesh),
      jax.random.key(1),
    )
    found.append(float(metrics['loss']))
  return jax.device_get(state), np.array(found)


def predict(mode, devices, state):
  _, compiled_predict, mesh, _ = compiled(mode, devices)
  batch = parallel.place_batch(make_batch(make_config(), 9), mode, mesh)
  return compiled_predict(parallel.place_state(state, mesh), batch)['cancer']


def assert_close(trees, expected):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5), trees, expected
  )


@pytest.mark.parametrize('mode', parallel.MODES)
def test_eight_devices_give_what_one_gives(mode):
  expected = train(['jit'] * STEPS, 1)
  assert len(set(expected[1])) == STEPS
  found = train([mode] * STEPS, 8)
  assert_close(found, expected)
  logits = predict(mode, 8, found[0])
  assert logits.shape == (BATCH, 1)
  assert_close(logits, predict('jit', 1, expected[0]))


def test_the_three_modes_exchange_one_state():
  assert_close(
    train(parallel.MODES, 8), train(['jit'] * len(parallel.MODES), 1)
  )


def test_a_run_in_two_parts_equals_one_bit_for_bit():
  whole, _ = train(['pmap'] * 4, 8)
  half, _ = train(['pmap'] * 2, 8)
  again, _ = train(['pmap'] * 2, 8, half, first=2)
  jax.tree.map(np.testing.assert_array_equal, again, whole)


def test_dropout_and_augmentation_change_with_the_step_alone():
  _, _, _, state = compiled('jit', 1)
  _, first = train(['jit'], 1, state)
  _, again = train(['jit'], 1, state)
  _, later = train(['jit'], 1, state.replace(step=np.int32(1)))
  assert first == again
  assert first != later


def test_step_equals_gradient_of_the_plain_mean_loss():
  c = make_config(
    model__dropout=0.0, optim__clip_norm=0.0, optim__weight_decay=0.0
  )
  for name in c.augment:
    c.augment[name] = type(c.augment[name])(0)
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
    metrics['grad_norm'], optax.tree.norm(gradient), rtol=1e-4
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


def test_images_of_8_and_16_bits_mean_the_same_grey():
  grey8 = np.arange(256, dtype=np.uint8)
  grey16 = grey8.astype(np.uint16) * 257
  np.testing.assert_allclose(
    steps.to_float(jnp.asarray(grey8)),
    steps.to_float(jnp.asarray(grey16)),
    atol=1e-7,
  )
  assert float(steps.to_float(jnp.uint8(255))) == 1.0


class Branched(heads.Classifier):
  """Says the main target twice more, and what it is to pay, in training."""

  def setup(self):
    self.head = self.make_head()

  def features(self, image, train=False):
    if train:
      each = image.mean(axis=(1, 2))
      self.sow('supervision', 'global', 3 * each)
      self.sow('supervision', 'local', -each)
      self.sow('penalty', 'size', each[:, 0] ** 2)
    return image


def test_what_a_network_sows_is_added_to_the_loss():
  c = make_config(loss__supervision=0.5, loss__penalty=2.0)
  batch = make_batch(c)
  del batch['id']

  def values(c):
    model, tx = Branched(), optim.create(c)
    state = steps.create_state(model, tx, c, jax.random.key(0), meta_width=5)
    _, metrics = steps.train_step(
      state,
      batch,
      jax.random.key(1),
      model=model,
      tx=tx,
      loss=losses.create(c),
    )
    predicted = steps.predict_step(state, batch, model=model)
    return metrics, predicted['cancer']

  found, logits = values(c)
  each = (batch['image'] / 255).mean(axis=(1, 2))
  weight, label = batch['weight'], batch['label_cancer']

  def entropy(logits):
    each = optax.sigmoid_binary_cross_entropy(logits[:, 0], label)
    return np.average(each, weights=weight)

  terms = {
    'loss_cancer': entropy(logits),
    'loss_supervision/global': entropy(3 * each),
    'loss_supervision/local': entropy(-each),
    'loss_penalty/size': np.average(each[:, 0] ** 2, weights=weight),
  }
  for name, value in terms.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-5)
  factors = np.array([1, 0.5, 0.5, 2.0])
  np.testing.assert_allclose(
    found['loss'], np.dot(factors, list(terms.values())), rtol=1e-5
  )
