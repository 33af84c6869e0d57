"""The numbers of parameters that the networks' texts tell."""

import sys

import jax
import jax.numpy as jnp
import pytest

from rsna_jax import config, models


@pytest.mark.parametrize('name', sorted(models.MODELS.keys() - {'meta'}))
def test_a_network_tells_how_many_parameters_it_has(name):
  c = config.default()
  c.model.name, c.data.size = name, (256, 256)
  if name == 'density_cnn':  # whose text counts all, for eight logits
    c.data.size, c.data.target = (224, 224), 'density_cancer'
  model = models.create(c)
  tree = jax.eval_shape(
    model.init,
    jax.random.key(0),
    jnp.zeros((1, *c.data.size, 1)),
    jnp.zeros((1, 0)),
  )

  def count(part):
    return sum(x.size for x in jax.tree.leaves(part))

  text = ' '.join(sys.modules[models.MODELS[name].__module__].__doc__.split())
  statistics = count(tree.get('batch_stats', {}))
  if name == 'density_cnn':
    whole = count(tree)
    assert f'{whole:,} parameters, {statistics} of them' in text
    return
  below = count(tree['params']) - count(tree['params']['head']['logits'])
  assert f'{below:,} parameters below the last layer' in text
  if statistics:
    assert f'{statistics:,} statistics' in text
