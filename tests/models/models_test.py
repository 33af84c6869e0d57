"""What every network owes: shapes, metadata, bf16, gradients, fast init."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config, errors, models

SIZE = (32, 40)
# Compiled in a third of the time, for code that runs once.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def make_config(name, dtype='float32', metadata=('age',)):
  c = config.default()
  c.model.name, c.model.width, c.model.depth = name, 0.05, 0.1
  c.model.metadata, c.train.dtype = metadata, dtype
  if name == 'global_local':  # which has two trunks
    c.model.trunk, c.model.patch_size = 'cnn', 24
  c.data.target = 'density_cancer' if name == 'density_cnn' else 'cancer'
  return c


@functools.cache
def variables_of(name):
  """Those of bf16 serve float32 as well; a test holds them to be float32."""
  model = models.create(make_config(name, 'bfloat16'))
  tree = models.init(model, jax.random.key(0), SIZE, 3)
  # Metadata rows start at zero: move them.
  tree['params'] = jax.tree.map(
    lambda x: np.asarray(x) + np.float32(0.02), tree['params']
  )
  return tree


def made(name, dtype='float32'):
  """The network, variables in which metadata counts, and inputs."""
  model = models.create(make_config(name, dtype))
  rng = np.random.default_rng(0)
  image = rng.random((2, *SIZE, 1)).astype(np.float32)
  meta = rng.normal(size=(2, 3)).astype(np.float32)
  return model, variables_of(name), image, meta


@pytest.mark.parametrize('name', sorted(models.MODELS))
def test_call_is_features_then_classify_and_metadata_counts(name):
  model, variables, image, meta = made(name)

  @quick_jit
  def both(variables, image, meta):
    features = model.apply(variables, image, method=model.features)
    return (
      model.apply(variables, image, meta),
      features,
      model.apply(variables, features, meta, method=model.classify),
      model.apply(variables, features, meta + 1, method=model.classify),
    )

  whole, features, parts, moved = both(variables, image, meta)
  target = make_config(name).data.target
  classes = {'cancer': 1, 'density_cancer': 8}[target]
  assert list(whole) == [target] and whole[target].shape == (2, classes)
  assert whole[target].dtype == jnp.float32
  assert features.ndim == 4 and features.shape[0] == 2
  np.testing.assert_allclose(whole[target], parts[target], atol=1e-6)
  assert (np.abs(moved[target] - parts[target]) > 1e-3).all()


@pytest.mark.parametrize('name', ['cnn', 'density_cnn', 'many_view', 'meta'])
def test_fields_of_the_config_reach_the_last_layer(name):
  c = make_config(name)
  c.model.trunk, c.model.metadata_embedding = 'cnn', 7
  c.loss.auxiliary.birads = c.loss.auxiliary.age = 0.1
  model = models.create(c)
  tree = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, *SIZE, 1)), jnp.zeros((1, 3)), False
    )
  )['params']
  logits = tree.get('head', tree)['logits']
  assert logits['embedding']['kernel'].shape == (3, 7)
  found = {k: v['bias'].shape for k, v in logits.items() if k != 'embedding'}
  size = {'cancer': 1, 'density_cancer': 8}[c.data.target]
  assert found == {c.data.target: (size,), 'birads': (3,), 'age': (1,)}


@pytest.mark.parametrize('name', sorted(models.MODELS))
def test_gradients_in_bfloat16_are_finite_float32_and_reach_every_kernel(name):
  model, variables, image, meta = made(name, 'bfloat16')
  if hasattr(model, 'depthwise'):
    model = model.clone(depthwise='lax')  # compiles in half the time

  @quick_jit
  def gradient(params, image):
    def total(params):
      logits, updates = model.apply(
        {**variables, 'params': params},
        image,
        meta,
        True,
        rngs={'dropout': jax.random.key(0)},
        mutable=['batch_stats', 'supervision'],
      )
      # Of global_local, some parts learn from what is sown alone.
      values = jax.tree.leaves((logits, updates.get('supervision')))
      return sum(
        jnp.sum(value * jnp.arange(1, value.size + 1).reshape(value.shape))
        for value in values
      )

    return jax.grad(total)(params)

  found = jax.tree.leaves_with_path(gradient(variables['params'], image))
  for path, leaf in found:
    assert leaf.dtype == jnp.float32, path
    assert np.isfinite(leaf).all(), path
  # A network in training shows its whole trunk to the loss. Attention over one
  # image has no choice, and its last layer starts at zero.
  for path, leaf in found:
    alone = name == 'many_view' and 'attention' in jax.tree_util.keystr(path)
    assert leaf.ndim < 2 or alone or np.any(leaf != 0), path


@pytest.mark.parametrize('name', sorted(models.MODELS))
def test_parameters_are_float32_whatever_the_computation(name):
  variables = variables_of(name)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype('float32')}


@pytest.mark.parametrize('name', sorted(models.MODELS))
def test_a_network_without_metadata_takes_an_empty_one(name):
  model = models.create(make_config(name, metadata=()))
  found = jax.eval_shape(
    lambda key: model.init_with_output(
      key, jnp.zeros((2, *SIZE, 1)), jnp.zeros((2, 0))
    )[0],
    jax.random.key(0),
  )
  (value,) = found.values()
  assert value.shape[0] == 2


def test_depth_and_width_make_a_network_larger():
  def size(name, **fields):
    c = make_config(name)
    c.model.update(fields)
    tree = jax.eval_shape(
      models.create(c).init,
      jax.random.key(0),
      jnp.zeros((1, *SIZE, 1)),
      jnp.zeros((1, 0)),
    )
    return sum(x.size for x in jax.tree.leaves(tree))

  # Little more than before, so that there is little to trace.
  for name, depth in (
    ('cnn', 2.0),
    ('convnext_small', 0.3),
    ('efficientnetv2_s', 0.3),
    ('xception', 0.3),
  ):
    small = size(name)
    assert small < size(name, depth=depth) and small < size(name, width=0.1)


def test_init_is_equal_in_another_process_and_differs_by_key():
  code = (
    'import sys, jax, numpy as np; from rsna_jax import config, models\n'
    'c = config.default(); c.model.name = "cnn"; c.model.width = 0.05\n'
    'tree = models.init(models.create(c), jax.random.key(7), (32, 24), 3)\n'
    'print(repr([float(x.sum()) for x in jax.tree.leaves(tree)]))\n'
  )
  runs = [
    subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
    ).stdout
  ]
  c = config.default()
  c.model.name, c.model.width = 'cnn', 0.05
  for key in (7, 8):
    tree = models.init(models.create(c), jax.random.key(key), (32, 24), 3)
    runs.append(repr([float(x.sum()) for x in jax.tree.leaves(tree)]) + '\n')
  assert runs[0] == runs[1] != runs[2]


def test_init_has_the_structure_of_flax_init():
  c = make_config('cnn')
  model = models.create(c)
  found = models.init(model, jax.random.key(0), SIZE, 3)
  expected = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, *SIZE, 1)), jnp.zeros((1, 3))
  )
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)
  stats = found['batch_stats']['trunk']['BatchNorm_0']['norm']
  assert (stats['mean'] == 0).all() and (stats['var'] == 1).all()


def test_images_of_which_nothing_would_be_left_are_refused():
  c = make_config('convnext_small')
  c.data.size = (64, 24)
  with pytest.raises(errors.ConfigError, match='at least 32'):
    models.create(c)


def test_an_unknown_model_is_refused():
  c = config.default()
  c.model.name = 'resnet'
  with pytest.raises(errors.ConfigError, match=r"model.name='resnet': choose"):
    models.create(c)
