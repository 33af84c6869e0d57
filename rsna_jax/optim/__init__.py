"""Optimisers by name, what decays, and what is put around them.

A gradient is clipped, goes through the optimiser of its parameter (frozen ones
have their own), is scaled by its depth, and is looked ahead with.
"""

import types
from typing import Any

import jax
import ml_collections
import optax

from rsna_jax import errors, models
from rsna_jax.optim import depth, freezing, lookahead, schedules

schedule = schedules.create
slow_weights = lookahead.slow_weights
freeze_of = freezing.of


def kernels(params: Any) -> Any:
  """True for what has more than one axis: not for biases and norms."""
  return jax.tree.map(lambda x: x.ndim > 1, params)


def _moments(options, b2: float = 0.999, eps: float = 1e-8) -> dict:
  return {
    'b1': options.b1,
    'b2': options.b2 or b2,
    'eps': options.eps or eps,
  }


def _adamw(rate, options):
  return optax.adamw(
    rate, weight_decay=options.weight_decay, mask=kernels, **_moments(options)
  )


def _lamb(rate, options):
  return optax.lamb(
    rate,
    weight_decay=options.weight_decay,
    mask=kernels,
    **_moments(options, eps=1e-6),
  )


def _lion(rate, options):
  return optax.lion(
    rate,
    b1=options.b1,
    b2=options.b2 or 0.99,
    weight_decay=options.weight_decay,
    mask=kernels,
  )


def _decayed(options, optimiser):
  """With weight decay as a part of the gradient."""
  decay = options.weight_decay
  return optax.chain(
    optax.add_decayed_weights(decay, kernels) if decay else optax.identity(),
    optimiser,
  )


def _adam(rate, options):
  return _decayed(options, optax.adam(rate, **_moments(options)))


def _radam(rate, options):
  return _decayed(options, optax.radam(rate, **_moments(options)))


def _sgd(rate, options):
  return _decayed(
    options,
    optax.sgd(rate, momentum=options.momentum, nesterov=options.nesterov),
  )


def _rmsprop(rate, options):
  return _decayed(
    options,
    optax.rmsprop(
      rate,
      decay=options.b2 or 0.9,
      eps=options.eps or 1e-8,
      momentum=options.momentum or None,
      nesterov=options.nesterov,
    ),
  )


# Weight decay is apart from the gradient in adamw, lamb and lion, a part of it
# in the others.
OPTIMIZERS = types.MappingProxyType(
  {
    'adam': _adam,
    'adamw': _adamw,
    'lamb': _lamb,
    'lion': _lion,
    'radam': _radam,
    'rmsprop': _rmsprop,
    'sgd': _sgd,
  }
)


def create(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """The optimiser that a config asks for.

  With `optim.freeze` its `update` takes `frozen=True` for the steps in which
  `freeze_of(config).active`.

  Raises:
    errors.ConfigError: `optim.name` or `optim.schedule` is unknown; later, in
      `init`, if the network lacks what `optim.freeze` or `optim.layer_decay`
      name.
  """
  options = config.optim
  if options.name not in OPTIMIZERS:
    raise errors.ConfigError(
      f'optim.name={options.name!r}: choose {", ".join(sorted(OPTIMIZERS))}'
    )

  def optimiser(offset=0):
    rate = schedules.create(config, offset=offset)
    return OPTIMIZERS[options.name](rate, options)

  tx = optimiser()
  freeze = freezing.of(config)
  if freeze is not None:
    tx = freezing.transform(tx, optimiser(max(freeze.steps, 0)), freeze)
  # What is off leaves no trace in the state: older checkpoints have its form.
  if options.layer_decay != 1:
    network = models.trunk_name(config)
    tx = optax.chain(tx, depth.scale(options.layer_decay, network))
  if options.lookahead:
    tx = lookahead.lookahead(tx, options.lookahead, options.lookahead_rate)
  clips = []
  if options.clip_value:
    clips.append(optax.clip(options.clip_value))
  if options.clip_norm:
    clips.append(optax.clip_by_global_norm(options.clip_norm))
  return optax.chain(*clips, tx) if clips else tx
