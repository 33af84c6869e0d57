"""Smooth stand-ins for pF1, ROC AUC and average precision, over all devices.

They are of a whole batch, not means of examples: each device compares its own
examples with everybody's. A batch without a positive says nothing of any of
them, and has no gradient; keep `data.positives_per_batch` at 1 or more.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rsna_jax import parallel


def cancer_logit(logits: jax.Array) -> jax.Array:
  """Log odds of cancer, (B,) float32, from (B, 1) or (B, 8) logits.

  Of eight classes (density by cancer) the odd ones are with cancer.
  """
  logits = logits.astype(jnp.float32)
  if logits.shape[-1] == 1:
    return logits[:, 0]
  return jax.nn.logsumexp(logits[:, 1::2], axis=-1) - jax.nn.logsumexp(
    logits[:, 0::2], axis=-1
  )


def soft_f1(
  logit: jax.Array, positive: jax.Array, weight: jax.Array, axis: str | None
) -> jax.Array:
  """1 - F1 with probabilities in place of calls, () float32: 1 - pF1 itself.

  The competition's probabilistic F1 is 2 sum(p y) / (sum(p) + sum(y)), which is
  differentiable as it stands. Here it is of the images of a batch, so that a
  batch's share of positives decides what it asks for: with more of them than
  there are in life, probabilities grow too large for life, which a calibration
  mends.

  Args:
    logit: (B,) log odds of cancer.
    positive: (B,) bool or 0 and 1.
    weight: (B,), 0 for what does not count.
    axis: of the devices that share the batch; None under plain jit.
  """
  weight = weight.astype(jnp.float32)
  said = weight * jax.nn.sigmoid(logit)
  label = positive.astype(jnp.float32)
  hits, total = parallel.psum(
    (jnp.sum(said * label), jnp.sum(said) + jnp.sum(weight * label)), axis
  )
  return 1 - 2 * hits / _divisor(total)


def pairwise_logistic(
  logit: jax.Array, positive: jax.Array, weight: jax.Array, axis: str | None
) -> jax.Array:
  """Mean of log(1 + exp(n - p)) over pairs of a positive p and a negative n.

  ROC AUC is the share of pairs in the right order; the logistic loss of the
  difference is a convex bound of its complement (after division by log 2), and
  minimising it maximises AUC in the limit (Gao and Zhou 2015, arXiv:1208.0645).

  Args:
    logit: as in `soft_f1`, like the others.
    positive: likewise.
    weight: likewise.
    axis: likewise.
  """
  weight = weight.astype(jnp.float32)
  label = positive.astype(jnp.float32)
  up, down = weight * label, weight * (1 - label)
  others, down = _gather((logit, down), axis)
  apart = jax.nn.softplus(others[None, :] - logit[:, None])
  pairs = up[:, None] * down[None, :]
  total, count = parallel.psum((jnp.sum(pairs * apart), jnp.sum(pairs)), axis)
  return total / _divisor(count)


def smooth_average_precision(
  logit: jax.Array,
  positive: jax.Array,
  weight: jax.Array,
  axis: str | None,
  temperature: float = 1.0,
) -> jax.Array:
  """1 - Smooth-AP (Brown et al. 2020, arXiv:2007.12163), () float32.

  Average precision is the mean over positives of their rank among positives by
  their rank among all. Ranks count those above, and here a sigmoid of the
  difference counts in place of a step. As the temperature goes to 0 it becomes
  average precision itself; its gradient vanishes then.

  Args:
    logit: as in `soft_f1`, like the others.
    positive: likewise.
    weight: likewise.
    axis: likewise.
    temperature: differences of log odds are divided by it.
  """
  weight = weight.astype(jnp.float32)
  up = weight * positive.astype(jnp.float32)
  others, all_up, all_weight = _gather((logit, up, weight), axis)
  above = jax.nn.sigmoid((others[None, :] - logit[:, None]) / temperature)
  # Each stands above itself by a half, and has to count as one.
  among_positives = up / 2 + above @ all_up
  among_all = weight / 2 + above @ all_weight
  precision = among_positives / _divisor(among_all)
  total, count = parallel.psum((jnp.sum(up * precision), jnp.sum(up)), axis)
  return jnp.where(count > 0, 1 - total / _divisor(count), 0.0)


def _divisor(total: jax.Array) -> jax.Array:
  """What is not negative, and 1 for 0: a tiny one would have no slope."""
  return jnp.where(total > 0, total, 1.0)


def _gather(values: Any, axis: str | None) -> Any:
  """(B, ...) arrays of all devices, one after the other."""
  if axis is None:
    return values
  return jax.tree.map(lambda x: lax.all_gather(x, axis, tiled=True), values)
