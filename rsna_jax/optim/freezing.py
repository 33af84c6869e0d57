"""Parts of a network that do not move at first, or ever.

Which steps freeze is a function of the step alone, so a run that is stopped
and continued thaws where it would have. What is frozen keeps every bit: no
gradient, weight decay, moment or average touches it.
"""

import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from rsna_jax import errors

FOR_EVER = -1

_SHOWN = 12  # names in an error


@dataclasses.dataclass(frozen=True)
class Freeze:
  """What is frozen, and for how long.

  Attributes:
    patterns: paths such as `trunk` or `trunk/block[1-4]_*`, of first names of
      parameters; `*`, `?` and `[...]` stand for what they do in file names,
      within one name.
    steps: that freeze; `FOR_EVER`: all.
    statistics: whether batch normalisation of frozen parts works as in
      prediction, by its moving statistics, which stay.
  """

  patterns: tuple[str, ...]
  steps: int
  statistics: bool = True

  def active(self, step: int) -> bool:
    """Whether the step after `step` steps leaves the parts as they are."""
    return self.steps == FOR_EVER or step < self.steps

  def holds(self, names: Sequence[str]) -> bool:
    """Whether what has this path is frozen."""
    return any(
      len(parts) <= len(names)
      and all(
        fnmatch.fnmatchcase(name, part)
        for name, part in zip(names, parts, strict=False)
      )
      for parts in (pattern.split('/') for pattern in self.patterns)
    )

  def holds_statistics(self, names: Sequence[str]) -> bool:
    """Whether the moving statistics of this path stay."""
    return self.statistics and self.holds(names)

  def mask(self, params: Any) -> Any:
    """A tree of bools: True for what is frozen."""
    return _mask(params, self.holds)

  def names(self, params: Any) -> list[str]:
    """The paths of what is frozen, as in 'trunk/block1_conv1/kernel'."""
    paths = [_names(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
    return ['/'.join(path) for path in paths if self.holds(path)]

  def check(self, params: Any) -> None:
    """Checks the patterns against the paths of a network's parameters.

    Raises:
      errors.ConfigError: one matches nothing, or nothing is left to train.
    """
    paths = [_names(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
    first = ', '.join(sorted({path[0] for path in paths}))
    for pattern in self.patterns:
      one = dataclasses.replace(self, patterns=(pattern,))
      if not any(one.holds(path) for path in paths):
        raise errors.ConfigError(
          f'optim.freeze={self.patterns!r}: {pattern!r} is the path of no '
          f'parameter; {_known(pattern, paths)}'
        )
    if all(self.holds(path) for path in paths):
      raise errors.ConfigError(
        f'optim.freeze={self.patterns!r}: nothing is left to train; the first '
        f'names are: {first}'
      )

  def stopped(self, params: Any) -> Any:
    """The parameters, through whose frozen ones no gradient flows."""
    return jax.tree.map(
      lambda frozen, x: jax.lax.stop_gradient(x) if frozen else x,
      self.mask(params),
      params,
    )

  def keep(self, old: Any, new: Any) -> Any:
    """New parameters, and of those that are frozen the old ones."""
    return _chosen(_mask(old, self.holds), old, new)

  def keep_statistics(self, old: Any, new: Any) -> Any:
    """New moving statistics, and those that stay."""
    return _chosen(_mask(old, self.holds_statistics), old, new)


def of(config: ml_collections.ConfigDict) -> Freeze | None:
  """What a config freezes; None: nothing."""
  options = config.optim
  if not options.freeze or options.freeze_steps == 0:
    return None
  return Freeze(
    tuple(options.freeze), options.freeze_steps, options.freeze_statistics
  )


class FrozenState(NamedTuple):
  """States of two optimisers.

  Attributes:
    free: of what is never frozen.
    frozen: of what is frozen at first; it starts when that thaws.
  """

  free: Any
  frozen: Any


def transform(
  free: optax.GradientTransformation,
  thawed: optax.GradientTransformation,
  freeze: Freeze,
) -> optax.GradientTransformationExtraArgs:
  """Two optimisers: the second starts, from its first step, at the thaw.

  So counts for the correction of moments are right for both. Its `update`
  takes `frozen`: True for a step that `freeze.active`.

  Args:
    free: of what is never frozen.
    thawed: of the rest, with a schedule that counts from the thaw.
    freeze: which is which.
  """
  free = optax.masked(free, lambda tree: _mask(tree, _not(freeze.holds)))
  thawed = (
    optax.masked(optax.set_to_zero(), freeze.mask)
    if freeze.steps == FOR_EVER
    else optax.masked(thawed, freeze.mask)
  )

  def init(params):
    freeze.check(params)
    return FrozenState(free.init(params), thawed.init(params))

  def update(updates, state, params=None, *, frozen=False, **extra):
    updates, first = free.update(updates, state.free, params, **extra)
    if frozen:
      mask = freeze.mask(updates)
      updates = jax.tree.map(
        lambda m, u: jnp.zeros_like(u) if m else u, mask, updates
      )
      return updates, FrozenState(first, state.frozen)
    updates, second = thawed.update(updates, state.frozen, params, **extra)
    return updates, FrozenState(first, second)

  return optax.GradientTransformationExtraArgs(init, update)


def _names(path: tuple) -> tuple[str, ...]:
  return tuple(
    jax.tree_util.keystr((key,), simple=True, separator='/') for key in path
  )


def _known(pattern: str, paths: Sequence[tuple[str, ...]]) -> str:
  """The names that paths have where a pattern first fits none of them."""
  parts = pattern.split('/')
  for depth in reversed(range(len(parts))):
    start = Freeze(('/'.join(parts[:depth]),), FOR_EVER)
    names = {
      path[depth]
      for path in paths
      if len(path) > depth and (not depth or start.holds(path))
    }
    if names:
      where = f'names in {start.patterns[0]!r}' if depth else 'first names'
      few = sorted(names)[:_SHOWN]
      rest = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
      return f'the {where} are: {", ".join(few)}{rest}'
  return 'the network has none'


def _mask(tree: Any, holds) -> Any:
  return jax.tree_util.tree_map_with_path(
    lambda path, _: holds(_names(path)), tree
  )


def _not(holds):
  return lambda names: not holds(names)


def _chosen(mask: Any, old: Any, new: Any) -> Any:
  return jax.tree.map(lambda m, a, b: a if m else b, mask, old, new)
