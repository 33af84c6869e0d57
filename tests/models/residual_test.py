"""Dropped branches and blocks that are computed twice."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config, errors, models, parallel
from rsna_jax.models import residual

SIZE = (32, 40)
NETWORKS = ('cnn', 'convnext_small', 'efficientnetv2_s', 'xception')
# Compiled in a third of the time, for code that runs once.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def network(name, **fields):
  c = config.default()
  c.model.name, c.model.width, c.model.depth = name, 0.05, 0.1
  c.model.update(fields)
  config.validate(c)
  model = models.create(c)
  if hasattr(model, 'depthwise'):
    model = model.clone(depthwise='lax')  # compiles in half the time
  return model


def dropped(x, rate, key=0, axis=None):
  layer = residual.DropPath(rate, axis)
  return layer.apply({}, x, True, rngs={'dropout': jax.random.key(key)})


def test_rates_rise_linearly_to_that_of_the_last_block():
  rates = [residual.drop_rate(0.4, i, 5) for i in range(5)]
  np.testing.assert_allclose(rates, np.linspace(0, 0.4, 6)[1:])
  assert residual.drop_rate(0.4, 0, 1) == 0.4


def test_rows_are_left_out_whole_and_the_expectation_stays():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 2, 5)), 'float32')
  runs = jax.jit(jax.vmap(lambda key: dropped(x, 0.25, key)))(jnp.arange(4000))
  kept = (runs != 0).all(axis=(2, 3, 4))
  assert ((runs == 0).all(axis=(2, 3, 4)) | kept).all()
  np.testing.assert_allclose(
    runs, kept[..., None, None, None] * x / 0.75, rtol=1e-6
  )
  # Four standard errors of a share of 4,000; rows are independent.
  error = 4 * np.sqrt(0.25 * 0.75 / 4000)
  np.testing.assert_allclose(kept.mean(axis=0), 0.75, atol=error)
  np.testing.assert_allclose(np.corrcoef(kept.T) - np.eye(4), 0, atol=0.07)
  np.testing.assert_allclose(runs.mean(axis=0) / x, 1, atol=error / 0.75)


def test_what_is_dropped_does_not_depend_on_the_number_of_devices():
  x = jnp.ones((8, 3))
  plain = np.asarray(dropped(x, 0.5))
  for count in (1, 8):
    found = jax.pmap(
      lambda x: dropped(x, 0.5, axis=parallel.AXIS),
      axis_name=parallel.AXIS,
      devices=jax.devices()[:count],
    )(x.reshape(count, 8 // count, 3))
    np.testing.assert_array_equal(found.reshape(x.shape), plain)
  assert set(np.unique(plain)) == {0.0, 2.0}


def test_nothing_is_dropped_in_prediction_or_at_rate_0():
  x = jnp.ones((2, 3))
  assert residual.DropPath(0.9).apply({}, x, False) is x
  assert residual.DropPath(0.0).apply({}, x, True) is x


class Parent(nn.Module):
  """Three blocks that are functions of it, as Xception's are."""

  remat: str

  @nn.compact
  def __call__(self, x, train):
    def block(i, x):
      y = nn.Dense(x.shape[-1], name=f'dense{i}')(x)
      y = nn.BatchNorm(use_running_average=not train, name=f'norm{i}')(y)
      return residual.DropPath(0.5, name=f'drop{i}')(nn.relu(y), train) + x

    for i in range(3):
      x = residual.call(
        lambda _, x, i=i: block(i, x), self, x, self.remat, train
      )
    return {'cancer': x}


def parents():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6)), 'float32')
  models_of = [Parent(remat) for remat in ('none', 'blocks')]
  return models_of, models_of[1].init(jax.random.key(0), x, False), (x,)


def networks():
  image = np.random.default_rng(0).random((4, *SIZE, 1)).astype(np.float32)
  models_of = [
    network('cnn', drop_path=0.5, remat=remat) for remat in ('none', 'blocks')
  ]
  variables = models.init(models_of[0], jax.random.key(0), SIZE, 0)
  return models_of, variables, (image, np.zeros((4, 0), np.float32))


@pytest.mark.parametrize('made', [parents, networks])
def test_blocks_computed_twice_give_the_same_and_drop_the_same(made):
  models_of, variables, inputs = made()

  def total(params, model):
    logits, moved = model.apply(
      {**variables, 'params': params},
      *inputs,
      True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(3)},
    )
    return jnp.sum(logits['cancer'] ** 2), (logits, moved)

  @quick_jit
  def run(params):
    return [
      jax.value_and_grad(total, has_aux=True)(params, model)
      for model in models_of
    ]

  one, other = run(variables['params'])
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
    one,
    other,
  )


def test_a_compiled_step_needs_less_memory_where_xla_keeps_its_barriers():
  def memory(remat):
    model = Parent(remat)
    x = jax.ShapeDtypeStruct((512, 64), jnp.float32)
    variables = jax.eval_shape(
      functools.partial(model.init, train=False), jax.random.key(0), x
    )

    def total(variables, x):
      logits, _ = model.apply(
        variables,
        x,
        True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(0)},
      )
      return jnp.sum(logits['cancer'])

    lowered = jax.jit(jax.grad(total)).lower(variables, x)
    # On CPUs this pass takes the barriers out, and the second computation with
    # them; accelerators keep them.
    compiled = lowered.compile(
      compiler_options={'xla_disable_hlo_passes': 'cse_barrier_expander'}
    )
    return compiled.memory_analysis().temp_size_in_bytes

  assert memory('blocks') < 0.8 * memory('none')


@functools.cache
def traced(name, **fields):
  """Names of parameters, rates of drop path, and bytes kept for gradients."""
  model = network(name, **fields)
  image, meta = jnp.zeros((2, *SIZE, 1)), jnp.zeros((2, 0))
  rates, key = [], {'dropout': jax.random.key(0)}

  def note(call, args, kwargs, context):
    if isinstance(context.module, residual.DropPath):
      rates.append(context.module.rate)
    return call(*args, **kwargs)

  def gradient(variables):
    def total(params):
      return model.apply(
        {**variables, 'params': params},
        image,
        meta,
        True,
        mutable=['batch_stats'],
        rngs=key,
      )[0]

    return jax.vjp(total, variables['params'])[1]

  variables = jax.eval_shape(model.init, jax.random.key(0), image, meta)
  with nn.intercept_methods(note):
    kept = jax.tree.leaves(jax.eval_shape(gradient, variables))
  size = sum(x.size * x.dtype.itemsize for x in kept)
  return jax.tree.map(jnp.shape, variables), tuple(dict.fromkeys(rates)), size


@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_drops_and_computes_again_under_the_same_names(name):
  names, rates, size = traced(name)
  assert set(rates) == {0.0}
  more = traced(name, drop_path=0.5, remat='blocks')
  assert more[0] == names
  assert more[2] < 0.75 * size
  # Blocks without a shortcut have no branch that could be left out.
  count = {'cnn': 4, 'convnext_small': 6, 'efficientnetv2_s': 7, 'xception': 5}
  expected = np.linspace(0, 0.5, count[name] + 1)[1:]
  if name == 'efficientnetv2_s':
    expected = expected[[0, 4, 6]]
  np.testing.assert_allclose(more[1], expected)


@pytest.mark.parametrize('field', [{'drop_path': 0.1}, {'remat': 'blocks'}])
def test_a_network_without_residual_blocks_refuses_it(field):
  with pytest.raises(errors.ConfigError, match='density_cnn has no such field'):
    network('density_cnn', **field)


@pytest.mark.parametrize(
  ('field', 'remedy'),
  [
    ({'drop_path': 1.0}, 'from 0 to below 1'),
    ({'remat': 'all'}, 'choose none'),
  ],
)
def test_values_that_mean_nothing_are_refused(field, remedy):
  with pytest.raises(errors.ConfigError, match=remedy):
    network('cnn', **field)
