"""A gradient of a batch that goes through the network in parts.

The sum over the parts is the gradient of the whole, since losses are divided by
the weights of the whole batch; memory is that of one part.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rsna_jax import errors
from rsna_jax.models import parts


def split(examples: Any, count: int) -> Any:
  """Each array (B, ...) as (count, B / count, ...).

  Part k has the rows k, k + count, and so on: where devices hold stretches of
  the batch, each has its share of every part.

  Raises:
    errors.ConfigError: the parts cannot be equal.
  """

  def one(x):
    if x.shape[0] % count:
      raise errors.ConfigError(
        f'train.accumulate={count}: a device has {x.shape[0]} examples of a '
        'batch, which are no equal parts; change train.batch_size'
      )
    rows = x.shape[0] // count  # spelled out, since metadata may be 0 wide
    return jnp.swapaxes(x.reshape(rows, count, *x.shape[1:]), 0, 1)

  return jax.tree.map(one, examples)


def summed(
  function: Callable[..., Any], examples: Mapping[str, Any], count: int
) -> Any:
  """The sum of what a function returns for each part of a batch.

  Args:
    function: of a part of `examples`, to a tree of float arrays.
    examples: arrays of B rows, or of this device's.
    count: of the parts.

  Raises:
    errors.ConfigError: the parts cannot be equal.
  """
  stacked = split(examples, count)
  rows = jax.tree.leaves(stacked)[0].shape[1]

  def part(number, examples):
    with parts.of(number, count, rows):
      return function(examples)

  shapes = jax.eval_shape(part, 0, jax.tree.map(lambda x: x[0], stacked))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  def add(total, numbered):
    return jax.tree.map(jnp.add, total, part(*numbered)), None

  total, _ = jax.lax.scan(add, zeros, (jnp.arange(count), stacked))
  return total
