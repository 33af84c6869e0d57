"""With bfloat16 for the computation, all that is kept or summed is float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax import config, losses, models, optim, steps
from rsna_jax.models import layers

_SUMS = ('reduce_sum', 'reduce', 'psum')


def equations(jaxpr):
  """All equations of a program, those of inner programs included."""
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else [value]:
        inner = getattr(inner, 'jaxpr', inner)
        if hasattr(inner, 'eqns'):
          yield from equations(inner)


def traced(name, forms):
  """The program of a step in bfloat16, and the shapes that it returns."""
  c = config.default()
  c.train.dtype, c.optim.ema = 'bfloat16', 0.9
  c.model.name, c.model.forms = name, forms
  c.model.width = c.model.depth = 0.1
  model, tx = models.create(c), optim.create(c)

  def first():
    image, meta = jnp.zeros((1, 64, 64, 1)), jnp.zeros((1, 2))
    made = model.init(jax.random.key(0), image, meta, False)
    params, stats = made['params'], made.get('batch_stats', {})
    return steps.TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=stats,
      opt_state=tx.init(params),
      ema_params=params,
      ema_batch_stats=stats,
    )

  batch = {
    'image': jax.ShapeDtypeStruct((2, 64, 64, 1), np.uint8),
    'meta': jax.ShapeDtypeStruct((2, 2), np.float32),
    'label_cancer': jax.ShapeDtypeStruct((2,), np.int32),
    'weight': jax.ShapeDtypeStruct((2,), np.float32),
  }
  step = functools.partial(
    steps.train_step,
    model=model,
    tx=tx,
    loss=losses.create(c),
    ema=c.optim.ema,
  )
  return jax.make_jaxpr(step, return_shape=True)(
    jax.eval_shape(first), batch, jax.random.key(0)
  )


@pytest.mark.parametrize(
  ('name', 'forms'),
  [
    ('cnn', 'fast'),
    ('convnext_small', 'fast'),
    ('density_cnn', 'plain'),
    ('efficientnetv2_s', 'plain'),
    ('xception', 'plain'),
  ],
)
def test_what_is_kept_and_what_is_summed_is_float32(name, forms):
  program, returned = traced(name, forms)
  for path, leaf in jax.tree_util.tree_leaves_with_path(returned):
    if jnp.issubdtype(leaf.dtype, jnp.floating):
      assert leaf.dtype == jnp.float32, jax.tree_util.keystr(path)
  kinds = set()
  for equation in equations(program.jaxpr):
    operands = [x.aval for x in equation.invars if hasattr(x.aval, 'dtype')]
    kinds |= {x.dtype for x in operands}
    if equation.primitive.name in _SUMS:
      for x in operands:
        # Broadcasting of what has one place is undone by a sum of one term.
        assert x.dtype != jnp.bfloat16 or x.size == x.shape[-1], equation
  assert np.dtype(jnp.bfloat16) in kinds  # the computation itself


def test_a_bias_of_many_places_has_the_gradient_of_float32():
  x = jnp.ones((1, 64, 64, 2), jnp.bfloat16)

  def total(bias):
    return jnp.sum(layers.plus(x, bias).astype(jnp.float32))

  found = jax.grad(total)(jnp.zeros(2))
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, 64 * 64)
