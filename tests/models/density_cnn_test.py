"""The counts and the order of layers of the density network."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import density_cnn, layers


def shapes(**fields):
  model = density_cnn.DensityCNN(targets=(('density_cancer', 8),), **fields)
  return jax.eval_shape(
    functools.partial(model.init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 224, 224, 1), jnp.float32),
    jax.ShapeDtypeStruct((1, 0), jnp.float32),
  )


def count(tree):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def test_the_published_counts():
  tree = shapes()
  assert count(tree) == 201_933_704
  assert count(tree['batch_stats']) == 640
  assert tree['params']['head']['Dense_0']['kernel'].shape == (3_154_176, 64)


def keras_network(side):
  """The same layers at an eighth of the width, with random weights."""
  keras = pytest.importorskip('keras')
  layers = keras.layers
  other = keras.Sequential(
    [
      keras.Input((side, side, 1)),
      layers.Conv2D(4, 3, padding='same', activation='relu'),
      layers.Conv2D(8, 3, padding='same', activation='relu'),
      layers.BatchNormalization(),
      layers.MaxPooling2D(2, strides=1),
      layers.Conv2D(8, 3, padding='same', activation='relu'),
      layers.BatchNormalization(),
      layers.MaxPooling2D(2, strides=1),
      layers.Flatten(),
      layers.Dense(8, activation='relu'),
      layers.BatchNormalization(),
      layers.Dense(16, activation='relu'),
      layers.BatchNormalization(),
      layers.Dense(8),
    ]
  )
  rng = np.random.default_rng(0)
  other.set_weights(
    [
      rng.uniform(0.5, 1.5, w.shape)
      if w.ndim == 1
      # Some in every layer below zero, so that ReLU has something to do.
      else rng.normal(0, (2 / np.prod(w.shape[:-1])) ** 0.5, w.shape)
      for w in other.get_weights()
    ]
  )
  return other


def variables_of(other):
  """Keras's weights as our tree, by order."""
  kernels = [
    ('trunk', 'Conv3x3_0'),
    ('trunk', 'Conv3x3_1'),
    ('trunk', 'Conv3x3_2'),
    ('head', 'Dense_0'),
    ('head', 'Dense_1'),
    ('head', 'logits'),
  ]
  norms = [
    (room, f'BatchNorm_{i}') for room in ('trunk', 'head') for i in (0, 1)
  ]
  params, stats = {'trunk': {}, 'head': {}}, {'trunk': {}, 'head': {}}
  for layer in other.layers:
    weights = layer.get_weights()
    if len(weights) == 4:
      room, name = norms.pop(0)
      params[room][name] = {'norm': {'scale': weights[0], 'bias': weights[1]}}
      stats[room][name] = {'norm': {'mean': weights[2], 'var': weights[3]}}
    elif len(weights) == 2:
      room, name = kernels.pop(0)
      values = {'kernel': weights[0], 'bias': weights[1]}
      params[room][name] = (
        {'density_cancer': values} if name == 'logits' else values
      )
  assert not kernels and not norms
  return {'params': params, 'batch_stats': stats}


def test_logits_equal_those_of_the_same_layers_in_keras():
  other = keras_network(12)
  network = density_cnn.DensityCNN(
    targets=(('density_cancer', 8),), width=0.125
  )
  image = np.random.default_rng(1).random((2, 12, 12, 1)).astype(np.float32)
  found = jax.jit(lambda v, x: network.apply(v, x, jnp.zeros((2, 0)), False))(
    variables_of(other), image
  )['density_cancer']
  expected = np.asarray(other(image, training=False))
  assert np.ptp(expected) > 0.1
  np.testing.assert_allclose(
    found, expected, atol=1e-5 * np.abs(expected).max()
  )


def test_five_dropouts_each_with_the_rate_of_its_place():
  seen = []

  def note(call, args, kwargs, context):
    if isinstance(context.module, layers.ExampleDropout):
      seen.append(context.module.rate)
    return call(*args, **kwargs)

  with nn.intercept_methods(note):
    shapes(rates=(0.1, 0.2, 0.3, 0.4, 0.5))
    assert seen == [0.1, 0.2, 0.3, 0.4, 0.5]
    seen.clear()
    shapes(dropout=0.25)
    assert seen == [0.25] * 5
