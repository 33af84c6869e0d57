"""The density network of a published study, with nearly all weights in a Dense.

224x224x1 -> Conv 32 -> Conv 64 -> BatchNorm -> MaxPool 2x2 stride 1 -> Dropout
-> Conv 64 -> BatchNorm -> MaxPool 2x2 stride 1 -> Dropout -> Dropout -> Flatten
(3,154,176) -> Dense 64 -> BatchNorm -> Dropout -> Dense 128 -> BatchNorm ->
Dropout -> Dense 8. Convolutions are 3x3, SAME; they and the hidden Dense
layers end in ReLU. 201,933,704 parameters, 640 of them moving statistics.
"""

from typing import Any

import flax.linen as nn
import jax

from rsna_jax.models import heads, layers


class Trunk(nn.Module):
  """The convolutions, up to what is flattened."""

  width: float
  rates: tuple[float, float, float]
  dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, image: jax.Array, train: bool) -> jax.Array:
    """(B, H, W, 1) in [0, 1] -> (B, H - 2, W - 2, 64)."""

    def conv(x, count):
      size = heads.channels(count, self.width)
      return nn.relu(layers.Conv3x3(size, use_bias=True, dtype=self.dtype)(x))

    def pool(x):
      x = layers.BatchNorm(self.axis_name, self.dtype)(x, train)
      return layers.max_pool(x, 2, 1)

    def drop(x, rate):
      return layers.ExampleDropout(rate, self.axis_name)(x, train)

    x = pool(conv(conv(image, 32), 64))
    x = drop(x, self.rates[0])
    x = pool(conv(x, 64))
    return drop(drop(x, self.rates[1]), self.rates[2])


class Head(nn.Module):
  """The Dense layers; metadata joins before the last one."""

  targets: tuple[tuple[str, int], ...]
  width: float
  rates: tuple[float, float]
  dtype: Any
  axis_name: str | None
  metadata_embedding: int = 0

  @nn.compact
  def __call__(
    self, features: jax.Array, meta: jax.Array, train: bool
  ) -> dict[str, jax.Array]:
    """(B, h, w, C) and (B, M) -> {target: (B, K)}."""
    x = features.reshape(features.shape[0], -1)
    for count, rate in zip((64, 128), self.rates, strict=True):
      x = layers.Dense(heads.channels(count, self.width), self.dtype)(x)
      x = layers.BatchNorm(self.axis_name, self.dtype)(nn.relu(x), train)
      x = layers.ExampleDropout(rate, self.axis_name)(x, train)
    logits = heads.Logits(self.targets, self.metadata_embedding, name='logits')
    return logits(x, meta)


class DensityCNN(heads.Classifier):
  """The network; `depth` and `pool` do nothing.

  Attributes:
    rates: of the five Dropout layers in order; None: `dropout` for each, as
      the study's text names no rates.
  """

  rates: tuple[float, float, float, float, float] | None = None

  def setup(self):
    rates = self.rates or (self.dropout,) * 5
    self.trunk = Trunk(self.width, rates[:3], self.dtype, self.axis_name)
    self.head = Head(
      self.targets,
      self.width,
      rates[3:],
      self.dtype,
      self.axis_name,
      self.metadata_embedding,
    )
