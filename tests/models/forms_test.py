"""Each layer's fast form against its plain one, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config, errors, models
from rsna_jax.models import forms, layers

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


def both(apply, *args):
  """Values, and gradients for `args`, of the fast and of the plain form."""

  def total(*args):
    y = apply(*args)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    return jnp.sum(y.astype(jnp.float32) * weights), y

  found = []
  for name in ('fast', 'plain'):
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


def test_forms_that_do_not_exist_are_refused_in_one_line():
  c = config.default()
  c.model.forms = 'quick'
  with pytest.raises(errors.ConfigError, match='choose auto, fast, plain'):
    config.validate(c)
  with (
    pytest.raises(
      errors.ConfigError, match="'quick': choose auto, fast, plain"
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
