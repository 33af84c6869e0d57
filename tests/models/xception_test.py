"""The counts and fields of Xception; xception_port_test compares values."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest

from rsna_jax.models import layers, xception


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


@pytest.mark.parametrize('padding', ['SAME', (1, 1)])
def test_the_padding_of_all_four_pools_is_a_field(monkeypatch, padding):
  seen, max_pool = [], layers.max_pool

  def note(x, size, stride, padding):
    seen.append((size, stride, padding))
    return max_pool(x, size, stride, padding)

  monkeypatch.setattr(layers, 'max_pool', note)
  shapes(pool_padding=padding)
  assert seen == [(3, 2, padding)] * 4
