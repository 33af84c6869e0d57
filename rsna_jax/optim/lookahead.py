"""Lookahead around any optimiser, with its slow weights in the state.

optax keeps fast and slow weights as one pair of parameters, which a training
state, a checkpoint and a network would all have to know. Here the parameters
are the fast ones, and the slow ones, which predict, lie beside the optimiser's
moments.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class LookaheadState(NamedTuple):
  """What is kept beside the parameters.

  Attributes:
    slow: the slow weights.
    since: () int32, steps since slow and fast weights met.
    fast: state of the optimiser within.
  """

  slow: Any
  since: jax.Array
  fast: Any


def lookahead(
  fast: optax.GradientTransformation, every: int, rate: float
) -> optax.GradientTransformationExtraArgs:
  """Every few steps the fast weights go back, part of the way they came.

  Args:
    fast: the optimiser within.
    every: steps between two meetings.
    rate: share of the way that the slow weights follow the fast ones.

  Source: Zhang et al. 2019, arXiv:1907.08610.
  """
  fast = optax.with_extra_args_support(fast)

  def init(params):
    return LookaheadState(
      # A copy, since a donated state may hold no array twice.
      slow=jax.tree.map(jnp.copy, params),
      since=jnp.zeros((), jnp.int32),
      fast=fast.init(params),
    )

  def update(updates, state, params=None, **extra):
    updates, inner = fast.update(updates, state.fast, params, **extra)
    meet = state.since == every - 1
    ahead = jax.tree.map(lambda p, u, s: p + u - s, params, updates, state.slow)
    slow = jax.tree.map(
      lambda s, gap: jnp.where(meet, s + rate * gap, s), state.slow, ahead
    )
    updates = jax.tree.map(
      lambda u, gap: jnp.where(meet, u - (1 - rate) * gap, u), updates, ahead
    )
    since = (state.since + 1) % every
    return updates, LookaheadState(slow=slow, since=since, fast=inner)

  return optax.GradientTransformationExtraArgs(init, update)


def slow_weights(opt_state: Any) -> Any | None:
  """The slow weights in the state of an optimiser; None: it has none."""
  leaves = jax.tree.leaves(
    opt_state, is_leaf=lambda x: isinstance(x, LookaheadState)
  )
  found = [leaf for leaf in leaves if isinstance(leaf, LookaheadState)]
  return found[0].slow if found else None
