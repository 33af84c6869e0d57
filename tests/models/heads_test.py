"""Pooling, metadata and dropout before the last Dense layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import heads
from rsna_jax.options import model as model_options

TARGETS = (('cancer', 1), ('density', 4))


def normal(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def setup(**fields):
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.normal(size=(3, 4, 2, 6)), jnp.float32)
  meta = jnp.asarray(rng.normal(size=(3, 5)), jnp.float32)
  head = heads.Head(TARGETS, **fields)
  variables = head.init(jax.random.key(0), features, meta, False)
  return head, variables, features, meta


def pooled_by(pool, parameters, features):
  """The pooling of each image by itself, in float64."""
  found = []
  for image in np.asarray(features, np.float64):
    places = image.reshape(-1, image.shape[-1])
    if pool == 'mean':
      found.append(places.mean(axis=0))
    elif pool == 'max':
      found.append(places.max(axis=0))
    elif pool == 'gem':
      p = float(parameters['exponent'])
      powers = places.clip(1e-6) ** p
      found.append(powers.mean(axis=0) ** (1 / p))
    else:
      value, gate, score = (
        np.asarray(parameters[name]['kernel'], np.float64)
        for name in ('value', 'gate', 'score')
      )
      weights = np.asarray(
        [
          np.exp((np.tanh(h @ value) / (1 + np.exp(-h @ gate))) @ score)[0]
          for h in places
        ]
      )
      found.append((weights[:, None] * places).sum(axis=0) / weights.sum())
  return np.stack(found)


@pytest.mark.parametrize('pool', heads.POOLS)
def test_logits_are_a_dense_layer_on_pooled_features_and_metadata(pool):
  head, variables, features, meta = setup(pool=pool)
  variables = jax.tree.map(lambda x: x + 0.1, variables)
  found = head.apply(variables, features, meta, False)
  parameters = variables['params'].get('pool', {})
  pooled = pooled_by(pool, parameters, features)
  joined = np.concatenate([pooled, meta], axis=1)
  assert {name: x.shape[1] for name, x in found.items()} == dict(TARGETS)
  for name, _ in TARGETS:
    layer = variables['params']['logits'][name]
    np.testing.assert_allclose(
      found[name], joined @ layer['kernel'] + layer['bias'], atol=1e-5
    )


def test_metadata_starts_without_a_say_and_gets_a_gradient():
  head, variables, features, meta = setup()
  kernel = variables['params']['logits']['cancer']['kernel']
  assert kernel.shape == (11, 1)
  assert (kernel[6:] == 0).all() and (kernel[:6] != 0).all()

  def total(variables):
    return head.apply(variables, features, meta, False)['cancer'].sum()

  gradient = jax.grad(total)(variables)['params']['logits']['cancer']['kernel']
  np.testing.assert_allclose(gradient[6:, 0], meta.sum(axis=0), rtol=1e-5)


def test_pools_are_those_of_the_config():
  assert heads.POOLS == model_options.POOLS


def test_attention_starts_as_the_mean_and_learns():
  head, variables, features, meta = setup(pool='attention')
  plain = heads.Head(TARGETS).apply(
    {'params': {'logits': variables['params']['logits']}}, features, meta, False
  )
  found = head.apply(variables, features, meta, False)
  np.testing.assert_allclose(found['density'], plain['density'], atol=1e-5)

  def total(params):
    return head.apply({'params': params}, features, meta, False)['cancer'].sum()

  gradient = jax.grad(total)(variables['params'])['pool']['score']['kernel']
  assert (gradient != 0).any()


def test_gem_lies_between_mean_and_max_and_stays_finite():
  features = jnp.abs(jnp.asarray(normal(2, 5, 4, 3))) * 1e20
  pool = heads.Pool('gem')

  def total(exponent):
    return pool.apply({'params': {'exponent': exponent}}, features)

  mean, top = features.mean(axis=(1, 2)), features.max(axis=(1, 2))
  np.testing.assert_allclose(total(1.0), mean, rtol=1e-4)
  assert (total(3.0) > mean).all() and (total(3.0) < top).all()
  np.testing.assert_allclose(total(500.0), top, rtol=1e-2)
  assert np.isfinite(jax.jacobian(total)(3.0) / top).all()


def test_pooled_features_are_normalised_where_a_network_asks_for_it():
  head, variables, features, meta = setup(norm_epsilon=1e-6)
  params = jax.tree.map(lambda x: x + 0.1, variables['params'])
  found = head.apply({'params': params}, features, meta, False)
  pooled = np.asarray(features, np.float64).mean(axis=(1, 2))
  centred = pooled - pooled.mean(axis=1, keepdims=True)
  scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
  scaled = scaled * np.asarray(params['norm']['scale']) + 0.1
  layer = params['logits']['cancer']
  joined = np.concatenate([scaled, meta], axis=1)
  np.testing.assert_allclose(
    found['cancer'], joined @ layer['kernel'] + layer['bias'], atol=1e-5
  )


def test_dropout_covers_features_and_metadata_in_training_alone():
  head, variables, features, meta = setup(dropout=1.0)
  found = head.apply(
    variables, features, meta, True, rngs={'dropout': jax.random.key(0)}
  )
  assert (found['density'] == 0).all()  # the bias, which starts at zero
  assert (head.apply(variables, features, meta, False)['density'] != 0).all()


def test_bfloat16_features_give_float32_logits():
  head, variables, features, meta = setup()
  found = head.apply(variables, features.astype(jnp.bfloat16), meta, False)
  assert found['cancer'].dtype == jnp.float32


def test_channels_are_scaled_in_steps_and_never_vanish():
  assert heads.channels(728, 1.0) == 728
  assert heads.channels(728, 0.25) == 184
  assert heads.channels(32, 0.001) == 4


def embedded(width=4, count=3, **fields):
  """Logits with an embedding of 5 slots, as they are after some training."""
  module = heads.Logits(TARGETS, width)
  x, meta = normal(count, 6), normal(count, 5)
  first = module.init(jax.random.key(0), x, meta, **fields)
  chance = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda leaf: leaf + chance.normal(size=leaf.shape).astype(np.float32), first
  )
  return module, first, variables, x, meta


def test_embedded_metadata_is_a_hidden_layer_beside_the_features():
  module, _, variables, x, meta = embedded()
  params = variables['params']
  assert params['embedding']['kernel'].shape == (5, 4)
  hidden = np.asarray(meta @ params['embedding']['kernel'], np.float64)
  # The tanh form of the GELU.
  inner = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
  hidden = hidden * (1 + np.tanh(inner)) / 2
  joined = np.concatenate([x, hidden], axis=1)
  for name, found in module.apply(variables, x, meta).items():
    layer = params[name]
    np.testing.assert_allclose(
      found, joined @ layer['kernel'] + layer['bias'], rtol=1e-4, atol=1e-5
    )


def test_an_embedding_starts_neutral_and_learns_from_the_first_step():
  module, first, _, x, meta = embedded()
  found = module.apply(first, x, meta)
  plain = heads.Logits(TARGETS)
  without = plain.apply(plain.init(jax.random.key(0), x, meta), x, meta)
  jax.tree.map(np.testing.assert_array_equal, found, without)

  def total(variables):
    return module.apply(variables, x, meta)['cancer'].sum()

  slopes = jax.grad(total)(first)['params']['embedding']['kernel']
  assert (slopes != 0).all()


def test_a_category_that_nobody_had_stays_neutral_for_good():
  """The slot is 0 in training, so its vector stays what it was: zero."""
  module, first, _, x, meta = embedded()
  seen = meta.copy()
  seen[:, 3] = 0  # nobody has it

  def total(variables):
    outputs = module.apply(variables, x, seen)
    return sum((logits**2).sum() for logits in outputs.values())

  params = first
  slope = jax.jit(jax.grad(total))
  for _ in range(3):
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, slope(params))
  kernel = params['params']['embedding']['kernel']
  assert (kernel[3] == 0).all() and (kernel[:3] != 0).all()
  stranger = np.zeros((3, 5), np.float32)
  stranger[:, 3] = 1
  jax.tree.map(
    np.testing.assert_array_equal,
    module.apply(params, x, stranger),
    module.apply(params, x, np.zeros_like(stranger)),
  )


def test_features_beside_start_without_a_say():
  for width in (0, 4):
    module = heads.Logits(TARGETS, width)
    x, meta, beside = normal(3, 6), normal(3, 5), normal(3, 2)
    variables = module.init(jax.random.key(0), x, meta, beside)
    kernel = variables['params']['cancer']['kernel']
    assert kernel.shape == (6 + 2 + (width or 5), 1)
    assert (kernel[:6] != 0).all() and (kernel[6:8] == 0).all()
    assert (kernel[8:] != 0).all() == bool(width)


def test_without_metadata_there_is_no_embedding():
  module = heads.Logits(TARGETS, 4)
  x, meta = normal(3, 6), normal(3, 0)
  variables = module.init(jax.random.key(0), x, meta)
  assert set(variables['params']) == {'cancer', 'density'}


def test_the_first_of_equal_maxima_takes_the_gradient():
  pool = heads.Pool('max')
  x = jnp.zeros((2, 2, 3, 2)).at[1, 1, 1, 0].set(5.0)
  y, pull = jax.vjp(lambda x: pool.apply({}, x), x)
  np.testing.assert_array_equal(y, [[0, 0], [5, 0]])
  expected = np.zeros(x.shape)
  expected[:, 0, 0] = [[1, 2], [0, 4]]
  expected[1, 1, 1, 0] = 3
  np.testing.assert_array_equal(
    pull(jnp.array([[1.0, 2.0], [3.0, 4.0]]))[0], expected
  )
