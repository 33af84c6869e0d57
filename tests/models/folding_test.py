"""Folded networks give the logits of those that are not."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from rsna_jax import config, models
from rsna_jax.models import folding, layers

# The back end's optimiser doubles the time of compiling, and changes nothing
# that is looked at here.
quick_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
  },
)

SIZE, META = (64, 48), 3
# Normalisations that follow a convolution, of all.
COUNTS = {
  'cnn': (13, 13),
  'density_cnn': (0, 4),
  'efficientnetv2_s': (19, 19),
  'xception': (19, 19),
}


def made(name):
  c = config.default()
  c.data.size, c.model.name = SIZE, name
  c.model.width, c.model.depth = 0.05, 0.1
  c.model.forms = 'plain'  # compiles in half the time
  model = models.create(c)
  variables = models.init(model, jax.random.key(0), SIZE, META)
  chance = np.random.default_rng(0)

  def moved(path, x):
    if path[-2].key != 'norm':
      return x
    low = -0.5 if path[-1].key in ('mean', 'bias') else 0.5
    return np.float32(chance.uniform(low, 1.5, x.shape))

  return model, jax.tree_util.tree_map_with_path(moved, variables)


@pytest.mark.parametrize('name', sorted(COUNTS))
def test_a_folded_network_gives_the_same_logits(name):
  model, variables = made(name)
  folded = folding.fold(model, variables, SIZE, META)
  left = [
    path
    for path, _ in jax.tree.leaves_with_path(folded['batch_stats'])
    if path[-1].key == 'mean'
  ]
  shifts = [
    path
    for path, _ in jax.tree.leaves_with_path(folded['batch_stats'])
    if path[-1].key == 'shift'
  ]
  assert (len(shifts), len(shifts) + len(left)) == COUNTS[name]
  chance = np.random.default_rng(1)
  image = np.float32(chance.random((2, *SIZE, 1)))
  meta = np.float32(chance.random((2, META)))
  run = quick_jit(lambda v: model.apply(v, image, meta, False)['cancer'])
  expected, found = run(variables), run(folded)
  scale = np.abs(expected).max()
  assert scale > 1e-3
  assert np.abs(found - expected).max() <= 1e-5 * max(scale, 1)


def test_a_layer_whose_output_is_wanted_as_well_is_left_alone():
  class Network(nn.Module):
    @nn.compact
    def __call__(self, image, meta, train):
      def norm(x):
        return layers.BatchNorm()(x, train)

      once, twice = layers.Conv3x3(2), layers.Conv3x3(2)
      x = norm(once(image))
      y = norm(twice(image)) + twice(image[:, ::-1])
      return x + y, norm(nn.relu(x))

  model = Network()
  image, meta = np.ones((1, 4, 4, 1), np.float32), np.ones((1, 0), np.float32)
  variables = model.init(jax.random.key(0), image, meta, False)
  stats = folding.fold(model, variables, (4, 4), 0)['batch_stats']
  assert set(stats['BatchNorm_0']) == {'shift'}
  assert set(stats['BatchNorm_1']) == set(stats['BatchNorm_2']) == {'norm'}
