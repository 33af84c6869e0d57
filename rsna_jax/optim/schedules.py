"""The learning rate by step."""

import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from rsna_jax import errors

Schedule = Callable[[jax.Array | int], jax.Array]

_ONE_CYCLE_START = 1 / 25  # of the peak
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


def _cosine(t: jax.Array) -> jax.Array:
  return 0.5 * (1 + jnp.cos(jnp.pi * t))


_FALLS = types.MappingProxyType({'cosine': _cosine, 'linear': lambda t: 1 - t})


def create(config: ml_collections.ConfigDict, *, offset: int = 0) -> Schedule:
  """The learning rate that a config asks for, as a function of the step.

  It climbs in `optim.warmup_steps` equal parts to where the schedule begins,
  the first step having one part. What follows is spread over the rest of
  `train.steps`: 'constant' stays at `optim.learning_rate`; 'cosine' and
  'linear' fall from it to `optim.floor` times it; 'one_cycle' climbs from 1/25
  of it by a cosine in the first `optim.climb` of the rest, and falls to
  1/250,000 of it by another (Smith & Topin 2017, arXiv:1708.07120); 'piecewise'
  is multiplied by each of `optim.factors` from the step in `optim.boundaries`
  on, counted from the start of the run.

  Args:
    config: of the run.
    offset: what is added to the step, for an optimiser that starts later.

  Raises:
    errors.ConfigError: `optim.schedule` is unknown.
  """
  options = config.optim
  peak, warmup = options.learning_rate, options.warmup_steps
  rest = max(config.train.steps - warmup, 1)
  shape = _shape(options, rest)

  def rate(step):
    step = jnp.asarray(step, jnp.float32) + offset
    climb = jnp.minimum(1.0, (step + 1) / (warmup + 1e-9)) if warmup else 1.0
    done = jnp.clip((step - warmup) / rest, 0.0, 1.0)
    return peak * climb * shape(step, done)

  return rate


def _shape(options: ml_collections.ConfigDict, rest: int) -> Callable:
  """Share of the peak, of (step, done share of the steps after the warmup)."""
  name = options.schedule
  if name == 'constant':
    return lambda step, done: jnp.ones_like(done)
  if name in _FALLS:
    floor, fall = options.floor, _FALLS[name]
    return lambda step, done: floor + (1 - floor) * fall(done)
  if name == 'one_cycle':
    # The peak is at a whole step, so that the rate reaches it.
    top = max(int(options.climb * rest), 1) / rest
    return lambda step, done: _one_cycle(done, top)
  if name == 'piecewise':
    return lambda step, done: _piecewise(step, options)
  raise errors.ConfigError(
    f'optim.schedule={name!r}: choose constant, cosine, linear, one_cycle, '
    'piecewise'
  )


def _one_cycle(done: jax.Array, top: float) -> jax.Array:
  climb = 1 - (1 - _ONE_CYCLE_START) * _cosine(jnp.minimum(done / top, 1.0))
  left = jnp.clip((done - top) / max(1 - top, 1e-9), 0.0, 1.0)
  fall = _ONE_CYCLE_END + (1 - _ONE_CYCLE_END) * _cosine(left)
  return jnp.where(done <= top, climb, fall)


def _piecewise(step: jax.Array, options: ml_collections.ConfigDict):
  share = jnp.ones_like(step)
  for boundary, factor in zip(options.boundaries, options.factors, strict=True):
    share = jnp.where(step >= boundary, share * factor, share)
  return share
