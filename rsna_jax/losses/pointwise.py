"""Losses of one example at a time, in nats."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax


def cross_entropy(
  logits: jax.Array,
  labels: jax.Array,
  *,
  label_smoothing: float = 0.0,
  smoothing: str = 'all',
  positive_weight: float = 1.0,
  class_weights: Sequence[float] = (),
) -> jax.Array:
  """Cross-entropy of a sigmoid (one logit) or a softmax (more).

  Args:
    logits: (B, K).
    labels: (B,) integers: 0 or 1 where K is 1, else 0 to K - 1.
    label_smoothing: share of the label that is spread over all classes.
    smoothing: of which labels: all | positives.
    positive_weight: factor for positive examples: those with label 1 where K
      is 1, and with an odd label where K is 8 (density by cancer); other
      targets have no positives.
    class_weights: a factor for the examples of each class; a sigmoid has two.
      Like `positive_weight`, they do not change what the sum is divided by.

  Returns:
    (B,) float32.
  """
  said = _log_probabilities(logits)
  wanted = _wanted(labels, logits.shape[-1], label_smoothing, smoothing)
  loss = -jnp.sum(wanted * said, axis=-1)
  return loss * _factor(
    labels, logits.shape[-1], positive_weight, class_weights
  )


def focal(
  logits: jax.Array,
  labels: jax.Array,
  *,
  focal_gamma: float = 2.0,
  focal_alpha: float = 0.25,
  label_smoothing: float = 0.0,
  smoothing: str = 'all',
  positive_weight: float = 1.0,
  class_weights: Sequence[float] = (),
) -> jax.Array:
  """The focal loss (Lin et al. 2017, arXiv:1708.02002).

  Each class's term of the cross-entropy is multiplied by (1 - p)^gamma, p being
  the probability that the class is given: what is known already counts less.

  Args:
    logits: as in `cross_entropy`, like all that is not named here.
    labels: likewise.
    focal_gamma: the exponent; 0 is the cross-entropy.
    focal_alpha: factor of the term of class 1 of a sigmoid, that of class 0
      being 1 - alpha; 0: neither has one. A softmax has `class_weights`.
    label_smoothing: likewise.
    smoothing: likewise.
    positive_weight: likewise.
    class_weights: likewise.

  Returns:
    (B,) float32.
  """
  count = logits.shape[-1]
  said = _log_probabilities(logits)
  wanted = _wanted(labels, count, label_smoothing, smoothing)
  # As an exponential, so that the slope stays finite where p nears 1.
  terms = wanted * jnp.exp(focal_gamma * _log_others(said)) * said
  if count == 1 and focal_alpha:
    terms = terms * jnp.array([1 - focal_alpha, focal_alpha], jnp.float32)
  return -jnp.sum(terms, axis=-1) * _factor(
    labels, count, positive_weight, class_weights
  )


def huber(outputs: jax.Array, labels: jax.Array) -> jax.Array:
  """Half the square of the error up to 1, and linear beyond (Huber 1964).

  Args:
    outputs: (B, 1).
    labels: (B,) floats of the same unit.

  Returns:
    (B,) float32.
  """
  return optax.huber_loss(
    outputs[:, 0].astype(jnp.float32), labels.astype(jnp.float32)
  )


def is_positive(labels: jax.Array, count: int) -> jax.Array | None:
  """(B,) bool: examples with cancer; None where no class of the K says so."""
  return labels % 2 == 1 if count in (1, 8) else None


def _log_probabilities(logits: jax.Array) -> jax.Array:
  """(B, K) logits -> (B, K) float32, or (B, 2) for a sigmoid: no, yes."""
  logits = logits.astype(jnp.float32)
  if logits.shape[-1] == 1:
    both = jnp.concatenate([-logits, logits], axis=-1)
    return jax.nn.log_sigmoid(both)
  return jax.nn.log_softmax(logits)


def _log_others(said: jax.Array) -> jax.Array:
  """(B, K) log-probabilities -> log(1 - p) of each, exact where p is near 1."""
  count = said.shape[-1]
  others = 1 - jnp.eye(count)
  return jax.nn.logsumexp(said[:, None, :], axis=-1, b=others)


def _wanted(
  labels: jax.Array, count: int, share: float, smoothing: str
) -> jax.Array:
  """(B, K) probabilities that labels ask for; (B, 2) for a sigmoid."""
  classes = max(count, 2)
  wanted = jax.nn.one_hot(labels, classes)
  soft = wanted * (1 - share) + share / classes
  if smoothing == 'positives':
    positive = is_positive(labels, count)
    if positive is None:
      return wanted
    return jnp.where(positive[:, None], soft, wanted)
  return soft


def _factor(
  labels: jax.Array,
  count: int,
  positive_weight: float,
  class_weights: Sequence[float],
) -> jax.Array:
  """() or (B,) float32: what an example's loss is multiplied by."""
  factor = jnp.float32(1)
  positive = is_positive(labels, count)
  if positive_weight != 1.0 and positive is not None:
    factor = factor * jnp.where(positive, positive_weight, 1.0)
  if len(class_weights):
    factor = factor * jnp.asarray(class_weights, jnp.float32)[labels]
  return factor
