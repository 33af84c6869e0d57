"""Xception against the one of keras.applications, weight by weight."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import layers, xception

# Compiled in a third of the time, for code that runs once.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def shapes(**fields):
  return jax.eval_shape(
    functools.partial(xception.Xception(**fields).init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 96, 80, 1), jnp.float32),
    jax.ShapeDtypeStruct((1, 0), jnp.float32),
  )


def count(tree):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def test_the_published_counts_but_for_two_input_channels():
  tree = shapes(targets=(('classes', 1000),))
  colour = 2 * 3 * 3 * 32
  assert count(tree['params']) == 22_855_952 - colour
  assert count(tree['batch_stats']) == 54_528


def test_width_and_depth_scale_channels_and_the_middle_flow():
  tree = shapes(width=0.5, depth=0.5)['params']['trunk']
  blocks = {name.split('_')[0] for name in tree}
  assert len(blocks) == 14 - 4
  assert tree['block6_sepconv1_pointwise']['kernel'].shape == (1, 1, 364, 364)
  assert tree['block10_sepconv2_pointwise']['kernel'].shape[-1] == 1024


def name_in_keras(layer, shortcuts):
  """Our name of a Keras layer; shortcuts there are numbered, not named."""
  if layer.name.startswith('block'):
    return layer.name
  block = shortcuts[layer.get_weights()[0].shape[-1]]
  kind = '_bn' if 'normalization' in layer.name else ''
  return f'block{block}_shortcut{kind}'


def random_variables(other):
  """He-scaled kernels and unlike statistics, in Keras and as our tree."""
  rng = np.random.default_rng(0)
  shortcuts = {128: 2, 256: 3, 728: 4, 1024: 13}
  params, stats = {}, {}
  for layer in other.layers:
    shapes = [w.shape for w in layer.get_weights()]
    if not shapes:
      continue
    name = name_in_keras(layer, shortcuts)
    if len(shapes) == 4:
      values = [
        rng.uniform(0.8, 1.2, shapes[0]),
        rng.normal(0, 0.2, shapes[1]),
        rng.normal(0, 0.2, shapes[2]),
        rng.uniform(0.5, 1.5, shapes[3]),
      ]
    else:
      values = []
      for shape in shapes:
        # A depthwise kernel's last axis multiplies: its fan-in is 9.
        fan_in = 9 if shape[-1] == 1 else math.prod(shape[:-1])
        values.append(rng.normal(0, (2 / fan_in) ** 0.5, shape))
    values = [v.astype(np.float32) for v in values]
    layer.set_weights(values)
    if len(values) == 4:
      params[name] = {'norm': {'scale': values[0], 'bias': values[1]}}
      stats[name] = {'norm': {'mean': values[2], 'var': values[3]}}
    elif len(values) == 2:
      params[f'{name}_depthwise'] = {'kernel': np.swapaxes(values[0], 2, 3)}
      params[f'{name}_pointwise'] = {'kernel': values[1]}
    else:
      params[name] = {'kernel': values[0]}
  return {'params': params, 'batch_stats': stats}


@pytest.mark.parametrize('size', [(96, 80)])  # meets pools of even size
def test_features_equal_keras(size):
  keras = pytest.importorskip('keras')
  keras.backend.clear_session()
  other = keras.applications.Xception(
    include_top=False, weights=None, input_shape=(*size, 1)
  )
  variables = random_variables(other)
  image = np.random.default_rng(1).random((2, *size, 1)).astype(np.float32)
  expected = np.asarray(other(image * 2 - 1, training=False))
  trunk = xception.Trunk()
  found = quick_jit(lambda v, x: trunk.apply(v, x, False))(variables, image)
  scale = np.abs(expected).max()
  assert scale > 0.5
  assert np.abs(found - expected).max() < 1e-5 * scale


@pytest.mark.parametrize('padding', ['SAME', (1, 1)])
def test_the_padding_of_all_four_pools_is_a_field(monkeypatch, padding):
  seen, max_pool = [], layers.max_pool

  def note(x, size, stride, padding):
    seen.append((size, stride, padding))
    return max_pool(x, size, stride, padding)

  monkeypatch.setattr(layers, 'max_pool', note)
  shapes(pool_padding=padding)
  assert seen == [(3, 2, padding)] * 4
