"""Losses by name, reduced over the examples of all devices."""

import types
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import optax

from rsna_jax import errors, parallel

Loss = Callable[..., Mapping[str, jax.Array]]


def cross_entropy(
  logits: jax.Array,
  labels: jax.Array,
  *,
  label_smoothing: float = 0.0,
  positive_weight: float = 1.0,
) -> jax.Array:
  """Cross-entropy of a sigmoid (one logit) or a softmax (more).

  Args:
    logits: (B, K).
    labels: (B,) integers: 0 or 1 where K is 1, else 0 to K - 1.
    label_smoothing: share of the label that is spread over all classes.
    positive_weight: factor for examples with label 1 where K is 1, and with
      an odd label where K is 8 (density by cancer); other targets have no
      positives.

  Returns:
    (B,) float32, in nats.
  """
  logits = logits.astype(jnp.float32)
  count = logits.shape[-1]
  if count == 1:
    wanted = labels.astype(jnp.float32)
    wanted = wanted * (1 - label_smoothing) + label_smoothing / 2
    loss = optax.sigmoid_binary_cross_entropy(logits[:, 0], wanted)
  else:
    wanted = jax.nn.one_hot(labels, count)
    wanted = wanted * (1 - label_smoothing) + label_smoothing / count
    loss = optax.softmax_cross_entropy(logits, wanted)
  if positive_weight != 1.0 and count in (1, 8):
    loss = loss * jnp.where(labels % 2 == 1, positive_weight, 1.0)
  return loss


LOSSES = types.MappingProxyType({'cross_entropy': cross_entropy})


def create(config: ml_collections.ConfigDict) -> Loss:
  """The loss that a config asks for.

  Returns:
    loss(outputs, batch, axis=None, whole=None) -> {name: () float32}: a term
    for each of `outputs` ({target: (B, K)}), and `total`, their sum. They are
    reduced over the devices of `axis` already. `batch` has a `label_<target>`
    (B,) for each, and `weight` (B,), or `weight_<target>` where a target has
    its own. `whole` is what `batch` is a part of, whose weights normalise.

  Raises:
    errors.ConfigError: `loss.name` is not in `LOSSES`.
  """
  options = config.loss
  if options.name not in LOSSES:
    raise errors.ConfigError(
      f'loss.name={options.name!r}: choose {", ".join(sorted(LOSSES))}'
    )
  function = LOSSES[options.name]

  def loss(outputs, batch, axis=None, whole=None):
    whole = batch if whole is None else whole
    terms = {}
    for target, logits in sorted(outputs.items()):
      each = function(
        logits,
        batch[f'label_{target}'],
        label_smoothing=options.label_smoothing,
        positive_weight=options.positive_weight,
      )
      own = f'weight_{target}'
      name = own if own in batch else 'weight'
      terms[target] = mean(each, batch[name], axis, whole[name])
    terms['total'] = sum(
      list(terms.values())[1:], start=next(iter(terms.values()))
    )
    return terms

  return loss


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
