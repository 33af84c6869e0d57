"""Optimisers by name, their learning-rate schedule and what decays."""

import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax

from rsna_jax import errors

_DECAYS = types.MappingProxyType(
  {
    'constant': jnp.ones_like,
    'cosine': lambda t: 0.5 * (1 + jnp.cos(jnp.pi * t)),
    'linear': lambda t: 1 - t,
  }
)


def kernels(params):
  """True for what has more than one axis: not for biases and norms."""
  return jax.tree.map(lambda x: x.ndim > 1, params)


def _adamw(rate, decay):
  return optax.adamw(rate, weight_decay=decay, mask=kernels)


def _adam(rate, decay):
  return optax.chain(
    optax.add_decayed_weights(decay, kernels) if decay else optax.identity(),
    optax.adam(rate),
  )


def _sgd(rate, decay):
  return optax.chain(
    optax.add_decayed_weights(decay, kernels) if decay else optax.identity(),
    optax.sgd(rate, momentum=0.9),
  )


# Weight decay is apart from the gradient in adamw, part of it in the others.
OPTIMIZERS = types.MappingProxyType(
  {'adam': _adam, 'adamw': _adamw, 'sgd': _sgd}
)


def schedule(
  config: ml_collections.ConfigDict,
) -> Callable[[jax.Array | int], jax.Array]:
  """The learning rate by step.

  It climbs in `optim.warmup_steps` equal parts to `optim.learning_rate`, the
  first step having one part, then falls to 0 at `train.steps` as
  `optim.schedule` says; 'constant' stays.

  Raises:
    errors.ConfigError: `optim.schedule` is unknown.
  """
  options = config.optim
  if options.schedule not in _DECAYS:
    raise errors.ConfigError(
      f'optim.schedule={options.schedule!r}: choose '
      + ', '.join(sorted(_DECAYS))
    )
  decay = _DECAYS[options.schedule]
  peak, warmup = options.learning_rate, options.warmup_steps
  rest = max(config.train.steps - warmup, 1)

  def rate(step):
    step = jnp.asarray(step, jnp.float32)
    climb = jnp.minimum(1.0, (step + 1) / (warmup + 1e-9)) if warmup else 1.0
    return peak * climb * decay(jnp.clip((step - warmup) / rest, 0.0, 1.0))

  return rate


def create(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  """The optimiser that a config asks for, gradients clipped by their norm.

  Raises:
    errors.ConfigError: `optim.name` or `optim.schedule` is unknown.
  """
  options = config.optim
  if options.name not in OPTIMIZERS:
    raise errors.ConfigError(
      f'optim.name={options.name!r}: choose {", ".join(sorted(OPTIMIZERS))}'
    )
  tx = OPTIMIZERS[options.name](schedule(config), options.weight_decay)
  if options.clip_norm:
    tx = optax.chain(optax.clip_by_global_norm(options.clip_norm), tx)
  return tx
