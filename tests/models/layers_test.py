"""Each fast layer against the plain operation of Flax or lax."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rsna_jax import parallel
from rsna_jax.models import layers


def normal(*shape, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


def conv(x, kernel, stride, padding):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


@pytest.mark.parametrize('channels', [1, 6])
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize(('stride', 'size'), [(1, (7, 6)), (2, (7, 6))])
def test_conv3x3_equals_the_plain_convolution(channels, padding, stride, size):
  x, kernel = normal(2, *size, channels), normal(3, 3, channels, 4, seed=1)

  def total(fn, x, kernel):
    y = fn(x, kernel)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape))), y

  fast = functools.partial(layers.conv3x3, stride=stride, padding=padding)
  plain = functools.partial(conv, stride=stride, padding=padding)
  found = jax.grad(total, (1, 2), has_aux=True)(fast, x, kernel)
  expected = jax.grad(total, (1, 2), has_aux=True)(plain, x, kernel)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    found,
    expected,
  )


@pytest.mark.parametrize('stride', [1, 2])
def test_pointwise_equals_a_1x1_convolution(stride):
  x = normal(2, 5, 6, 3)
  layer = layers.Pointwise(4, stride)
  variables = layer.init(jax.random.key(0), x)
  kernel = variables['params']['kernel']
  assert kernel.shape == (1, 1, 3, 4)
  np.testing.assert_allclose(
    layer.apply(variables, x), conv(x, kernel, stride, 'SAME'), atol=1e-5
  )


@pytest.mark.parametrize('size', [(8, 12), (9, 11), (4, 7)])
def test_patches_equal_a_strided_convolution(size):
  x = normal(2, *size, 3)
  layer = layers.Patches(5, 4)
  variables = layer.init(jax.random.key(0), x)
  bias = normal(5, seed=2)
  variables = {'params': {**variables['params'], 'bias': bias}}
  kernel = variables['params']['kernel']
  assert kernel.shape == (4, 4, 3, 5)
  np.testing.assert_allclose(
    layer.apply(variables, x), conv(x, kernel, 4, 'VALID') + bias, atol=1e-5
  )


@pytest.mark.parametrize('size', [(8, 7), (7, 8)])
@pytest.mark.parametrize(
  ('window', 'stride', 'padding'),
  [(3, 2, 'SAME'), (3, 2, (1, 1)), (2, 1, 'VALID'), (3, 1, 'VALID')],
)
def test_max_pool_equals_flax(size, window, stride, padding):
  x = normal(2, *size, 3)
  pads = padding if isinstance(padding, str) else (padding, padding)

  def plain(x):
    return nn.max_pool(x, (window, window), (stride, stride), pads)

  def fast(x):
    return layers.max_pool(x, window, stride, padding)

  np.testing.assert_array_equal(fast(x), plain(x))
  weights = normal(*plain(x).shape, seed=1)
  np.testing.assert_allclose(
    jax.grad(lambda x: jnp.sum(fast(x) * weights))(x),
    jax.grad(lambda x: jnp.sum(plain(x) * weights))(x),
    atol=1e-6,
  )


def test_max_pool_pads_below_any_value():
  x = jnp.full((1, 4, 4, 1), -5.0)
  assert (layers.max_pool(x, 3, 2, (1, 1)) == -5).all()


def test_batch_norm_uses_and_moves_its_statistics_as_keras_does():
  keras = pytest.importorskip('keras')
  x = normal(4, 3, 3, 5) * 3 + 1
  layer = layers.BatchNorm()
  variables = layer.init(jax.random.key(0), x, False)
  y, moved = layer.apply(variables, x, True, mutable=['batch_stats'])
  other = keras.layers.BatchNormalization()
  np.testing.assert_allclose(
    y, np.asarray(other(np.asarray(x), training=True)), atol=1e-5
  )
  stats = moved['batch_stats']['norm']
  np.testing.assert_allclose(stats['mean'], other.moving_mean, rtol=1e-5)
  np.testing.assert_allclose(stats['var'], other.moving_variance, rtol=1e-5)
  np.testing.assert_allclose(
    layer.apply({**variables, **moved}, x, False),
    np.asarray(other(np.asarray(x), training=False)),
    atol=1e-5,
  )


def dropped(devices, rate=0.5):
  x = jnp.ones((8, 50, 4))
  layer = layers.ExampleDropout(rate, 'data')
  apply = jax.pmap(
    lambda x: layer.apply({}, x, True, rngs={'dropout': jax.random.key(3)}),
    axis_name='data',
    devices=jax.devices()[:devices],
  )
  mesh = parallel.make_mesh(jax.devices()[:devices])
  batch = parallel.place_batch({'x': x}, 'pmap', mesh)
  return np.asarray(apply(batch['x'])).reshape(x.shape)


def test_dropout_masks_do_not_depend_on_the_number_of_devices():
  one = dropped(1)
  np.testing.assert_array_equal(one, dropped(8))
  plain = layers.ExampleDropout(0.5).apply(
    {}, jnp.ones(one.shape), True, rngs={'dropout': jax.random.key(3)}
  )
  np.testing.assert_array_equal(one, plain)
  assert len({row.tobytes() for row in one}) == 8  # each its own mask
  assert set(np.unique(one)) == {0.0, 2.0}
  assert 0.45 < (one > 0).mean() < 0.55


def test_dropout_at_its_limits_and_in_prediction():
  x = normal(2, 3)
  assert layers.ExampleDropout(0.9).apply({}, x, False) is x
  assert layers.ExampleDropout(0.0).apply({}, x, True) is x
  assert (layers.ExampleDropout(1.0).apply({}, x, True) == 0).all()


@pytest.mark.parametrize('shape', [(3, 3, 16, 64), (512, 40), (3, 3, 1, 2000)])
def test_kernels_have_the_variance_of_he_on_the_host_and_traced(shape):
  wanted = 2 / np.prod(shape[:-1])
  host = layers.kernel_init(jax.random.key(0), shape)
  traced = jax.jit(lambda key: layers.kernel_init(key, shape))(
    jax.random.key(0)
  )
  for values in (host, traced):
    assert values.dtype == jnp.float32 and values.shape == shape
    assert np.var(values) == pytest.approx(wanted, rel=0.1)
    assert abs(np.mean(values)) < 0.1 * wanted**0.5
  again = layers.kernel_init(jax.random.key(0), shape)
  other = layers.kernel_init(jax.random.key(1), shape)
  np.testing.assert_array_equal(host, again)
  assert not np.array_equal(host, other)
