"""The order of parts against the order in which networks call them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config, errors, models, optim
from rsna_jax.optim import depth


def traced(name):
  """Names of parameters in the order in which a network first uses them."""
  model = models.MODELS[name](width=0.1, depth=0.4)
  order = []

  def intercept(call, args, kwargs, context):
    result = call(*args, **kwargs)
    found = context.module.variables.get('params', {})
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
      full = '/'.join([*context.module.path, depth.name_of(path)])
      if not any(full == known for known, _ in order):
        order.append((full, leaf))
    return result

  with nn.intercept_methods(intercept):
    jax.eval_shape(
      lambda: model.init(
        jax.random.key(0), jnp.zeros((1, 64, 64, 1)), jnp.zeros((1, 2)), False
      )
    )
  return [name for name, _ in order]


@pytest.mark.parametrize('name', sorted(set(models.MODELS) - set(depth.PARTS)))
def test_a_network_made_of_another_has_the_order_of_its_trunk(name):
  c = config.default()
  c.model.name, c.model.width, c.model.depth = name, 0.1, 0.1
  c.model.trunk, c.model.patch_size = 'cnn', 64
  c.data.group = 'breast' if name == 'many_view' else 'image'
  model = models.create(c)
  made = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 256, 128, 1)), jnp.zeros((1, 2)), False
    )
  )
  names = [
    depth.name_of(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(made['params'])
  ]
  found = dict(
    zip(names, depth.parts(names, models.trunk_name(c)), strict=True)
  )
  last = [part for name, part in found.items() if 'logits' in name]
  assert set(last) == {max(found.values())}
  assert max(found.values()) == 5  # stem and four blocks


@pytest.mark.parametrize('name', sorted(depth.PARTS))
def test_parts_follow_the_order_in_which_a_network_calls_them(name):
  names = traced(name)
  found = depth.parts(names, name)
  # Innermost modules come first, so what is first seen is in order of calls.
  assert found == sorted(found)
  assert sorted(set(found)) == list(range(max(found) + 1))
  assert found[-1] == max(found)  # the last layer


def test_xception_has_a_part_for_each_block_and_convnext_for_each_layer():
  for name, count in (('xception', 7), ('convnext_small', 1 + 3 + 6)):
    model = models.MODELS[name](width=0.1, depth=0.1)
    made = jax.eval_shape(
      lambda model=model: model.init(
        jax.random.key(0), jnp.zeros((1, 64, 64, 1)), jnp.zeros((1, 0)), False
      )
    )
    factors = jax.tree.leaves(depth.factors(made['params'], 0.5, name))
    assert len(set(factors)) == count + 1
    assert max(factors) == 1 and min(factors) == 0.5**count


def test_rates_fall_by_the_decay_from_part_to_part():
  c = config.default()
  c.model.name, c.optim.layer_decay = 'xception', 0.5
  c.optim.name, c.optim.schedule, c.optim.clip_norm = 'sgd', 'constant', 0.0
  c.optim.learning_rate, c.optim.weight_decay = 1.0, 0.0
  names = ('block1_conv1', 'block1_conv1_bn', 'block2_shortcut', 'block10_x')
  params = {
    'trunk': {name: {'kernel': jnp.ones(1)} for name in names},
    'head': {'logits': {'kernel': jnp.ones(1)}},
  }
  tx = optim.create(c)
  updates, _ = tx.update(params, tx.init(params), params)
  found = [-float(updates['trunk'][name]['kernel'][0]) for name in names]
  assert found == [0.125, 0.125, 0.25, 0.5]
  assert float(updates['head']['logits']['kernel'][0]) == -1


def test_moments_know_nothing_of_the_rates_of_layers():
  params = {'trunk': {'block1_a': jnp.ones(3)}, 'head': jnp.ones(3)}
  c = config.default()
  c.optim.schedule = 'constant'
  plain = optim.create(c)
  c.optim.layer_decay = 0.1
  tx = optim.create(c)
  state, plain_state = tx.init(params), plain.init(params)
  for _ in range(2):
    updates, state = tx.update(params, state, params)
    wanted, plain_state = plain.update(params, plain_state, params)
  np.testing.assert_allclose(
    updates['trunk']['block1_a'], 0.1 * wanted['trunk']['block1_a'], rtol=1e-6
  )
  np.testing.assert_allclose(updates['head'], wanted['head'], rtol=1e-6)


def test_what_has_no_order_is_refused_in_one_line():
  with pytest.raises(errors.ConfigError, match='no order of layers') as caught:
    depth.parts(['trunk/x'], 'resnet')
  assert '\n' not in str(caught.value)
  with pytest.raises(errors.ConfigError, match='trunk/new_layer/kernel'):
    depth.parts(['trunk/new_layer/kernel'], 'xception')
  # Before a run is begun, that is.
  tx = depth.scale(0.5, 'xception')
  with pytest.raises(errors.ConfigError, match='in no part of'):
    tx.init({'trunk': {'new_layer': {'kernel': jnp.ones(1)}}})
