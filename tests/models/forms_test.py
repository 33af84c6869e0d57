"""Each layer's forms against the plain one, in value and in gradient."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from rsna_jax import config, errors, models
from rsna_jax.models import (
  depthwise_pallas,
  forms,
  layers,
  pallas_patch,
  pool_pallas,
  statistics,
)

SIZES = [(7, 6), (8, 5)]
LAYERS = {
  'depthwise, stride 1': lambda dtype: layers.Depthwise3x3(dtype),
  'depthwise, stride 2': lambda dtype: layers.Depthwise(3, 2, True, dtype),
  'depthwise 7x7': lambda dtype: layers.Depthwise(7, dtype=dtype),
  'pointwise': lambda dtype: layers.Pointwise(4, 1, dtype),
  'strided shortcut': lambda dtype: layers.Pointwise(4, 2, dtype),
  'stem': lambda dtype: layers.Conv3x3(4, 2, 'VALID', dtype=dtype),
  'convolution': lambda dtype: layers.Conv3x3(4, 1, dtype=dtype),
}
POOLS = [(3, 2, 'SAME'), (3, 2, (1, 1)), (2, 1, 'VALID'), (2, 3, 'VALID')]
# Of the greatest value. Sums of bfloat16 are in float32 in one form, and in
# bfloat16 in the other where lax has it so.
TOLERANCE = {'float32': 1e-5, 'bfloat16': 2e-2}


def inputs(size, dtype, channels=3):
  chance = np.random.default_rng(0)
  return jnp.asarray(chance.normal(size=(2, *size, channels)), dtype)


def both(apply, *args, names=('fast', 'plain')):
  """Values, and gradients for `args`, of two forms."""

  def total(*args):
    y = apply(*args)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    return jnp.sum(y.astype(jnp.float32) * weights), y

  found = []
  for name in names:
    with forms.using(name):
      found.append(
        jax.grad(total, tuple(range(len(args))), has_aux=True)(*args)
      )
  return found


def assert_equal(found, expected, dtype):
  pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
  for a, b in pairs:
    assert a.dtype == b.dtype and a.shape == b.shape
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.abs(a - b).max() <= TOLERANCE[dtype] * np.abs(b).max()


@pytest.mark.parametrize('dtype', list(TOLERANCE))
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', list(LAYERS))
def test_a_layer_has_one_meaning_in_both_forms(name, size, dtype):
  x = inputs(size, dtype)
  layer = LAYERS[name](jnp.dtype(dtype))
  variables = layer.init(jax.random.key(0), x)
  assert_equal(*both(layer.apply, variables, x), dtype)


@pytest.mark.parametrize('dtype', list(TOLERANCE))
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('pool', POOLS)
def test_pooling_has_one_meaning_in_both_forms(pool, size, dtype):
  x = inputs(size, dtype)
  assert_equal(*both(lambda x: layers.max_pool(x, *pool), x), dtype)


@pytest.mark.parametrize('pool', POOLS)
def test_the_first_of_equal_values_takes_the_gradient_in_both_forms(pool):
  x = jnp.maximum(inputs((7, 6), 'float32'), 0).round()
  assert (x == 0).mean() > 0.5
  (fast, _), (plain, _) = both(lambda x: layers.max_pool(x, *pool), x)
  np.testing.assert_allclose(fast[0], plain[0], atol=1e-6)


def test_pooling_hides_no_nan():
  x = inputs((6, 6), 'float32').at[0, 2, 2, 0].set(jnp.nan)
  for name in ('fast', 'plain'):
    with forms.using(name):
      assert jnp.isnan(layers.max_pool(x, 2, 2)).sum() == 1


@pytest.mark.parametrize('dtype', list(TOLERANCE))
@pytest.mark.parametrize('shape', [(2, 7, 6, 3), (8, 5)])
@pytest.mark.parametrize('train', [True, False])
def test_normalisation_has_one_meaning_in_both_forms(train, shape, dtype):
  chance = np.random.default_rng(0)
  x = jnp.asarray(chance.normal(2, 3, size=shape), dtype)
  layer = layers.BatchNorm(dtype=jnp.dtype(dtype))
  variables = layer.init(jax.random.key(0), x, False)
  variables = jax.tree.map(
    lambda v: jnp.asarray(chance.uniform(0.5, 2, v.shape), v.dtype), variables
  )
  moved = []

  def apply(params, x):
    y, stats = layer.apply(
      {**variables, 'params': params}, x, train, mutable=['batch_stats']
    )
    moved.append(jax.tree.map(jax.lax.stop_gradient, stats))
    return y

  found = both(apply, variables['params'], x)
  assert_equal(*found, dtype)

  def stats(name):
    with forms.using(name):
      return layer.apply(variables, x, train, mutable=['batch_stats'])[1]

  assert_equal(stats('fast'), stats('plain'), 'float32')
  assert (stats('fast') != variables['batch_stats']) or not train


@pytest.mark.parametrize('name', ['xception', 'density_cnn'])
def test_the_forms_of_a_network_are_a_field_of_its_config(name):
  c = config.default()
  c.data.size, c.model.name = (32, 32), name
  c.model.width, c.model.depth = 0.05, 0.1

  def operations(form):
    c.model.forms = form
    model = models.create(c)
    image, meta = jnp.zeros((1, 32, 32, 1)), jnp.zeros((1, 0))
    variables = jax.eval_shape(model.init, jax.random.key(0), image, meta)
    return str(jax.make_jaxpr(model.apply)(variables, image, meta))

  fast, plain = operations('fast'), operations('plain')
  assert 'reduce_window' in plain and 'reduce_window' not in fast
  assert (operations('auto') == fast) == (jax.default_backend() == 'cpu')


class Chain(nn.Module):
  """Layers that apply what the normalisation before them deferred."""

  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    def norm(x, name):
      return layers.BatchNorm(dtype=self.dtype, name=name)(x, train, True)

    x = norm(layers.Pointwise(5, 1, self.dtype)(x), 'first')
    x = norm(layers.Depthwise3x3(self.dtype)(x, True), 'second')
    return layers.max_pool(x, 3, 2, 'SAME')


@pytest.mark.parametrize('dtype', list(TOLERANCE))
@pytest.mark.parametrize('train', [True, False])
def test_what_is_deferred_is_applied_once_in_the_fused_form(
  train, dtype, monkeypatch
):
  monkeypatch.setattr(depthwise_pallas, 'FORWARD', pallas_patch.Patch(2, 2, 8))
  monkeypatch.setattr(depthwise_pallas, 'BACKWARD', pallas_patch.Patch(1, 2, 8))
  monkeypatch.setattr(pool_pallas, 'FORWARD', pallas_patch.Patch(1, 1, 8))
  monkeypatch.setattr(pool_pallas, 'BACKWARD', pallas_patch.Patch(2, 2, 8))
  x, chain = inputs((7, 6), dtype), Chain(jnp.dtype(dtype))
  chance = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda v: jnp.asarray(chance.uniform(0.5, 2, v.shape), v.dtype),
    chain.init(jax.random.key(0), x, False),
  )

  def apply(params, x):
    return chain.apply(
      {**variables, 'params': params}, x, train, mutable=['batch_stats']
    )[0]

  args = variables['params'], x
  (fused, y), (plain, expected) = both(apply, *args, names=('fused', 'plain'))
  assert_equal(y, expected, dtype)
  # In bfloat16 the plain form rounds before it looks for the maximum, so that
  # some other pixels win.
  share = {'float32': 1e-5, 'bfloat16': 0.2}[dtype]
  for a, b in zip(jax.tree.leaves(fused), jax.tree.leaves(plain), strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.linalg.norm(a - b) <= share * np.linalg.norm(b)


def test_normalisation_that_is_held_is_deferred_as_well():
  x, chain = inputs((7, 6), 'float32'), Chain(jnp.float32)
  variables = chain.init(jax.random.key(0), x, False)
  with forms.using('fused'), statistics.fixed(lambda path: True):
    traced = str(
      jax.make_jaxpr(functools.partial(chain.apply, train=True))(variables, x)
    )
  assert 'reduce_window' not in traced and traced.count('pallas_call') >= 2


def test_kernels_are_left_where_xla_shares_out_the_work(monkeypatch):
  monkeypatch.setattr(forms, 'on_nvidia', lambda: True)
  c = config.default()
  c.data.size, c.model.name, c.model.width = (32, 32), 'xception', 0.05
  assert jax.device_count() > 1
  assert models.create(c).forms == 'plain'  # plain jit
  assert models.create(c, axis_name='data').forms == 'auto'
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  model = models.create(c)
  assert model.forms == 'auto'
  variables = models.init(model, jax.random.key(0), (32, 32), 0)
  image, meta = jnp.zeros((1, 32, 32, 1)), jnp.zeros((1, 0))
  predict = functools.partial(model.apply, train=False)
  text = str(jax.make_jaxpr(predict)(variables, image, meta))
  assert 'pallas_call' in text and 'reduce_window' not in text
  c.parallel.space = 2
  assert models.create(c, axis_name='data').forms == 'plain'


def test_gelu_is_the_one_of_erf():
  x = np.linspace(-6, 6, 99)
  y, slope = jax.vmap(jax.value_and_grad(layers.gelu))(jnp.float32(x))
  normal = 0.5 * (1 + special.erf(x / 2**0.5))
  density = np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5
  np.testing.assert_allclose(y, x * normal, atol=1e-6)
  np.testing.assert_allclose(slope, normal + x * density, atol=1e-6)


def test_kernels_are_refused_where_no_gpu_is():
  c = config.default()
  c.model.name, c.model.forms = 'xception', 'fused'
  with pytest.raises(errors.ConfigError, match=r'NVIDIA GPU.*auto'):
    models.create(c)


def test_forms_that_do_not_exist_are_refused_in_one_line():
  c = config.default()
  c.model.forms = 'quick'
  with pytest.raises(
    errors.ConfigError, match='choose auto, fast, fused, plain'
  ):
    config.validate(c)
  with (
    pytest.raises(
      errors.ConfigError, match="'quick': choose auto, fast, fused, plain"
    ),
    forms.using('quick'),
  ):
    pass


def test_what_was_chosen_ends_with_the_network():
  with forms.using('plain'):
    assert not forms.fast()
    with forms.using('fast'):
      assert forms.fast()
    assert not forms.fast()
  assert forms.fast() == (jax.default_backend() == 'cpu')
