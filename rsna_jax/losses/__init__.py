"""What training minimises, reduced over the examples of all devices.

The main target's loss is of `loss.name`, with a surrogate of the metric beside
it or in its place. Auxiliary targets, and what a network says of itself while
it trains, are added.
"""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rsna_jax import auxiliary, errors, parallel
from rsna_jax.losses import pointwise, surrogates

Loss = Callable[..., Mapping[str, jax.Array]]

LOSSES = types.MappingProxyType(
  {'cross_entropy': pointwise.cross_entropy, 'focal': pointwise.focal}
)
# Name of `loss.surrogate` -> (logit, positive, weight, axis, options) -> ().
SURROGATES = types.MappingProxyType(
  {
    'pf1': lambda *x: surrogates.soft_f1(*x[:4]),
    'auc': lambda *x: surrogates.pairwise_logistic(*x[:4]),
    'average_precision': lambda *x: surrogates.smooth_average_precision(
      *x[:4], x[4].temperature
    ),
  }
)
# Collections that a network may sow into while it trains.
SUPERVISION, PENALTY = 'supervision', 'penalty'
SOWN = (SUPERVISION, PENALTY)

_FIELDS = ('label_smoothing', 'smoothing', 'positive_weight', 'class_weights')


def create(config: ml_collections.ConfigDict) -> Loss:
  """The loss that a config asks for.

  Returns:
    loss(outputs, batch, axis=None, whole=None) -> {name: () float32}, reduced
    over the devices of `axis` already. `outputs` has (B, K) logits of the main
    target, and may have those of auxiliary ones and what `sown` returns.
    `batch` has a `label_<target>` (B,) for each, `weight` (B,) of the main
    target, and `weight_<target>` (B,) of each auxiliary one. `whole` is what
    `batch` is a part of, whose weights normalise; the sum over the parts is
    then the loss of the whole, but for a surrogate, of which it is the mean.

    The terms are one for each of `outputs`, by its name and as it is,
    `surrogate` where there is one, and `total`: the main target's, of which
    `loss.surrogate_weight` gives a share to the surrogate, and the others times
    their coefficients.

  Raises:
    errors.ConfigError: `loss.name` is not in `LOSSES`, or `loss.surrogate` not
      in `SURROGATES`.
  """
  options, main = config.loss, config.data.target
  if options.surrogate and options.surrogate not in SURROGATES:
    raise errors.ConfigError(
      f'loss.surrogate={options.surrogate!r}: choose '
      + ', '.join(sorted(SURROGATES))
    )
  each = functools.partial(_each, main=main, function=_main_function(options))

  def loss(outputs, batch, axis=None, whole=None):
    whole = batch if whole is None else whole
    terms, total = {}, jnp.float32(0)
    for name, values in sorted(outputs.items()):
      weight = _weight_name(_target_of(name, main), batch)
      terms[name] = mean(
        each(name, values, batch), batch[weight], axis, whole[weight]
      )
      if name == main and options.surrogate:
        share = options.surrogate_weight
        terms['surrogate'] = _surrogate(
          options, values, batch[f'label_{main}'], batch['weight'], axis
        ) * _part(batch['weight'], whole['weight'], axis)
        total += (1 - share) * terms[name] + share * terms['surrogate']
      else:
        total += _coefficient(options, name, main) * terms[name]
    return {**terms, 'total': total}

  return loss


def mean_loss(
  config: ml_collections.ConfigDict, logits: jax.Array, labels: jax.Array
) -> jax.Array:
  """Mean of the main target's loss without its surrogate, () float32.

  Args:
    config: as in `create`.
    logits: (N, K).
    labels: (N,) integers.
  """
  function = _main_function(config.loss)
  return jnp.mean(function(jnp.asarray(logits), jnp.asarray(labels)))


def balanced(labels: np.ndarray, classes: int) -> tuple[float, ...]:
  """Weights of classes in inverse proportion to how often each is there.

  The mean weight of an example is 1; a class without one has weight 0.

  Args:
    labels: (N,) integers from 0 on; negative ones are unknown.
    classes: how many there are; 2 of a sigmoid.
  """
  labels = np.asarray(labels)
  counts = np.bincount(labels[labels >= 0], minlength=classes)
  share = counts.sum() / max(np.count_nonzero(counts), 1)
  return tuple(float(share / n) if n else 0.0 for n in counts)


def sown(updates: Mapping[str, Any]) -> dict[str, jax.Array]:
  """What a network sowed while it was applied, as further outputs.

  Args:
    updates: the changed collections, as `apply` returns them. Under
      `supervision` are (B, K) logits of the main target, or of the target T
      where the name is `T:name`; under `penalty` are (B,) scalars.

  Returns:
    {'<collection>/<module>/<name>': array}, with `_1`, `_2` and so on behind
    what the same name was sown again as.
  """
  found = {}
  for collection in SOWN:
    paths = jax.tree_util.tree_flatten_with_path(updates.get(collection, {}))
    for path, value in paths[0]:
      *names, again = path
      name = '/'.join([collection, *(str(part.key) for part in names)])
      found[name + (f'_{again.idx}' if again.idx else '')] = value
  return found


def mean(
  values: jax.Array, weight: jax.Array, axis: str | None, whole: jax.Array
) -> jax.Array:
  """Weighted mean over the examples of all devices, () float32.

  Args:
    values: (B,).
    weight: (B,).
    axis: of the devices that share a batch; None under plain jit.
    whole: the weights that normalise: `weight`, or those of all parts.
  """
  total = parallel.psum(jnp.sum(values * weight.astype(jnp.float32)), axis)
  count = parallel.psum(jnp.sum(whole.astype(jnp.float32)), axis)
  # A batch without any weight teaches nothing, and must not divide by 0.
  return total / jnp.maximum(count, jnp.finfo(jnp.float32).tiny)


def _main_function(options) -> Callable[..., jax.Array]:
  """The loss of the main target, (logits, labels) -> (B,)."""
  if options.name not in LOSSES:
    raise errors.ConfigError(
      f'loss.name={options.name!r}: choose {", ".join(sorted(LOSSES))}'
    )
  fields = _FIELDS
  if options.name == 'focal':
    fields = (*fields, 'focal_gamma', 'focal_alpha')
  return functools.partial(
    LOSSES[options.name], **{field: options[field] for field in fields}
  )


def _each(name, values, batch, *, main, function) -> jax.Array:
  """(B,) losses of one output."""
  if name.startswith(f'{PENALTY}/'):
    return values.astype(jnp.float32)
  target = _target_of(name, main)
  labels = batch[f'label_{target}']
  if target == main:
    return function(values, labels)
  if target == 'age':
    return pointwise.huber(values, labels)
  return pointwise.cross_entropy(values, labels)


def _surrogate(options, logits, labels, weight, axis) -> jax.Array:
  positive = pointwise.is_positive(labels, logits.shape[-1])
  return SURROGATES[options.surrogate](
    surrogates.cancer_logit(logits), positive, weight, axis, options
  )


def _part(weight: jax.Array, whole: jax.Array, axis: str | None) -> jax.Array:
  """() float32: which share of the whole's weight a part has."""
  if weight is whole:
    return jnp.float32(1)
  return mean(jnp.ones_like(weight, jnp.float32), weight, axis, whole)


def _target_of(name: str, main: str) -> str:
  """Which target's labels an output is held against."""
  if not name.startswith(f'{SUPERVISION}/'):
    return main if name.startswith(f'{PENALTY}/') else name
  target, colon, _ = name.rpartition('/')[2].partition(':')
  return target if colon else main


def _weight_name(target: str, batch: Mapping[str, jax.Array]) -> str:
  own = f'weight_{target}'
  return own if own in batch else 'weight'


def _coefficient(options, name: str, main: str) -> float:
  if name.startswith(f'{PENALTY}/'):
    return options.penalty
  target = _target_of(name, main)
  own = options.auxiliary[target] if target in auxiliary.TARGETS else 1.0
  if target == main:
    own = 1.0
  return own * options.supervision if name.startswith(SUPERVISION) else own
