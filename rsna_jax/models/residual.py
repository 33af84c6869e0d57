"""What residual blocks of any network may do: be dropped, be computed twice.

Neither changes the names of parameters.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsna_jax.models import layers


def drop_rate(rate: float, block: int, count: int) -> float:
  """Rate of one block, rising linearly to `rate` at the last.

  Args:
    rate: of the last block.
    block: 0 for the first.
    count: of all blocks.

  Source: Huang et al. 2016, arXiv:1603.09382.
  """
  return rate * (block + 1) / count


class DropPath(nn.Module):
  """Leaves out a block's branch for some examples in training.

  What stays is divided by the share that stays, so that the expectation is the
  branch itself. Each example has a key of its own, from its place in the whole
  batch, so any number of devices drops the same.

  Attributes:
    rate: share of the examples without the branch.
    axis_name: of the devices that share a batch.
  """

  rate: float
  axis_name: str | None = None

  @nn.compact
  def __call__(self, branch: jax.Array, train: bool) -> jax.Array:
    """(B, ...) -> (B, ...), each row zero or divided by 1 - rate."""
    if not train or self.rate == 0:
      return branch
    keep = 1.0 - self.rate
    keys = layers.example_keys(
      self.make_rng('dropout'), branch.shape[0], self.axis_name
    )
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep))(keys)
    kept = kept.reshape(-1, *[1] * (branch.ndim - 1))
    return jnp.where(
      kept, branch / jnp.asarray(keep, branch.dtype), jnp.zeros_like(branch)
    )


def module(block: type[nn.Module], remat: str, train: bool) -> type[nn.Module]:
  """A class of blocks called with (x, train), computed twice if asked.

  Args:
    block: the class; name its instances, since a lifted class has another
      name of its own.
    remat: none | blocks, which keeps the block's input alone for the gradient
      and computes what is inside again (Chen et al. 2016, arXiv:1604.06174).
    train: prediction has nothing to compute twice.
  """
  if train and remat == 'blocks':
    return nn.remat(block, static_argnums=(2,))
  return block


def call(
  block: Callable[[nn.Module, jax.Array], jax.Array],
  parent: nn.Module,
  x: jax.Array,
  remat: str,
  train: bool,
) -> jax.Array:
  """A block that is a function of its parent module; see `module`."""
  if train and remat == 'blocks':
    block = nn.remat(block)
  return block(parent, x)
