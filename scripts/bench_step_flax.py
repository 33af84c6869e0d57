"""Xception as Flax's own layers give it: what `bench_step.py` compares with."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class Xception(nn.Module):
  """Chollet 2017, arXiv:1610.02357; a mean over all places, then a Dense."""

  classes: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """(B, H, W, C) -> (B, classes)."""

    def norm(x):
      return nn.BatchNorm(not train, momentum=0.99, epsilon=1e-3)(x)

    def conv(x, count, side, stride, padding='SAME', groups=1):
      return nn.Conv(
        count,
        (side, side),
        (stride, stride),
        padding,
        use_bias=False,
        feature_group_count=groups,
      )(x)

    def separable(x, count):
      x = conv(x, x.shape[-1], 3, 1, groups=x.shape[-1])
      return norm(conv(x, count, 1, 1))

    def strided(x, counts: Sequence[int], first_relu: bool = True):
      shortcut = norm(conv(x, counts[1], 1, 2))
      x = separable(nn.relu(x) if first_relu else x, counts[0])
      x = separable(nn.relu(x), counts[1])
      return nn.max_pool(x, (3, 3), (2, 2), 'SAME') + shortcut

    x = nn.relu(norm(conv(x, 32, 3, 2, 'VALID')))
    x = nn.relu(norm(conv(x, 64, 3, 1, 'VALID')))
    x = strided(x, (128, 128), first_relu=False)
    x = strided(x, (256, 256))
    x = strided(x, (728, 728))
    for _ in range(8):
      y = x
      for _ in range(3):
        y = separable(nn.relu(y), 728)
      x = x + y
    x = strided(x, (728, 1024))
    for count in (1536, 2048):
      x = nn.relu(separable(x, count))
    return nn.Dense(self.classes)(jnp.mean(x, axis=(1, 2)))
