"""A small residual network for mammograms, to be trained from scratch.

1,221,616 parameters below the last layer, and 2,912 statistics, at `width` and
`depth` 1.
"""

from typing import Any

import flax.linen as nn
import jax

from rsna_jax.models import heads, layers, residual

_STEM = 16
_STAGES = (32, 64, 128, 256)


class Block(nn.Module):
  """Two 3x3 convolutions with a shortcut (He et al. 2016, arXiv:1512.03385)."""

  features: int
  stride: int
  dtype: Any
  axis_name: str | None
  drop: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    def norm(y):
      return layers.BatchNorm(self.axis_name, self.dtype, 0.9, 1e-5)(y, train)

    def conv(y, stride=1):
      return layers.Conv3x3(self.features, stride, dtype=self.dtype)(y)

    y = nn.relu(norm(conv(x, self.stride)))
    y = norm(conv(y))
    if x.shape != y.shape:
      x = layers.Pointwise(self.features, self.stride, self.dtype)(x)
      x = norm(x)
    y = residual.DropPath(self.drop, self.axis_name)(y, train)
    return nn.relu(x + y)


class Trunk(nn.Module):
  """Stem at half the size, then a stage for each further halving."""

  width: float
  depth: float
  dtype: Any
  axis_name: str | None
  drop_path: float = 0.0
  remat: str = 'none'

  @nn.compact
  def __call__(self, image: jax.Array, train: bool) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1
    x = layers.Conv3x3(heads.channels(_STEM, self.width), 2, dtype=self.dtype)(
      x
    )
    x = layers.BatchNorm(self.axis_name, self.dtype, 0.9, 1e-5)(x, train)
    x = nn.relu(x)
    each = max(1, round(self.depth))
    count = each * len(_STAGES)
    for number in range(count):
      stage, i = divmod(number, each)
      x = residual.module(Block, self.remat, train)(
        heads.channels(_STAGES[stage], self.width),
        2 if i == 0 else 1,
        self.dtype,
        self.axis_name,
        residual.drop_rate(self.drop_path, number, count),
        name=f'Block_{number}',
      )(x, train)
    return x


class CNN(heads.Classifier):
  """Feature maps are 1/32 of the image, 256 channels wide at `width` 1.

  `depth` is the number of residual blocks in each of the four stages.

  Attributes:
    drop_path: rate of the last block; see `residual.DropPath`.
    remat: see `residual.module`.
  """

  drop_path: float = 0.0
  remat: str = 'none'

  def setup(self):
    self.trunk = Trunk(
      self.width,
      self.depth,
      self.dtype,
      self.axis_name,
      self.drop_path,
      self.remat,
    )
    self.head = self.make_head()
