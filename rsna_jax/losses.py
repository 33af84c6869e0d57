"""Losses by name: one number per example, left to the step to reduce."""

import types
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import optax

from rsna_jax import errors

Loss = Callable[[Mapping[str, jax.Array], Mapping[str, jax.Array]], jax.Array]


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
    loss(logits, batch) -> (B,) float32: the sum over the targets in `logits`
    ({target: (B, K)}); `batch` has a `label_<target>` (B,) for each.

  Raises:
    errors.ConfigError: `loss.name` is not in `LOSSES`.
  """
  options = config.loss
  if options.name not in LOSSES:
    raise errors.ConfigError(
      f'loss.name={options.name!r}: choose {", ".join(sorted(LOSSES))}'
    )
  function = LOSSES[options.name]

  def loss(logits, batch):
    terms = [
      function(
        value,
        batch[f'label_{target}'],
        label_smoothing=options.label_smoothing,
        positive_weight=options.positive_weight,
      )
      for target, value in sorted(logits.items())
    ]
    return sum(terms[1:], start=terms[0])

  return loss
