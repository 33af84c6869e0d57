"""ConvNeXt-small (Liu et al. 2022, arXiv:2201.03545), for grey images.

49,451,616 parameters below the last layer at `width` and `depth` 1 with one
input channel; the published network of three has 3,072 more in its first
kernel. Blocks and names follow timm's `convnext_small`.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax

from rsna_jax.models import heads, layers, residual

EPSILON = 1e-6
_WIDTHS = (96, 192, 384, 768)
_DEPTHS = (3, 3, 27, 3)


def depths(depth: float) -> tuple[int, ...]:
  """Blocks of each stage."""
  return tuple(max(1, round(n * depth)) for n in _DEPTHS)


class Block(nn.Module):
  """Depthwise 7x7, then a network of two layers at each place."""

  dtype: Any
  epsilon: float
  depthwise: str | None
  axis_name: str | None = None
  drop: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    width = x.shape[-1]

    def dense(size, name):
      return layers.Dense(size, self.dtype, name=name)

    y = layers.Depthwise(
      7, 1, True, self.dtype, self.depthwise, name='depthwise'
    )(x)
    y = layers.LayerNorm(self.epsilon, self.dtype, name='norm')(y)
    y = layers.gelu(dense(4 * width, 'expand')(y))
    y = dense(width, 'project')(y)
    scale = self.param('scale', nn.initializers.constant(1e-6), (width,))
    y = layers.times(y, scale)
    return x + residual.DropPath(self.drop, self.axis_name)(y, train)


class Trunk(nn.Module):
  """Stem of 4x4 patches, then four stages, each at half the size before."""

  width: float
  depth: float
  dtype: Any
  epsilon: float
  depthwise: str | None
  axis_name: str | None = None
  drop_path: float = 0.0
  remat: str = 'none'

  @nn.compact
  def __call__(self, image: jax.Array, train: bool) -> jax.Array:
    """(B, H, W, 1) in [0, 1] -> (B, H // 32, W // 32, C)."""
    x = image.astype(self.dtype) * 2 - 1

    def norm(x, name):
      return layers.LayerNorm(self.epsilon, self.dtype, name=name)(x)

    number, total = 0, sum(depths(self.depth))
    for stage, (count, width) in enumerate(
      zip(depths(self.depth), _WIDTHS, strict=True)
    ):
      size = heads.channels(width, self.width)
      if stage == 0:
        x = layers.Patches(size, 4, self.dtype, name='stem')(x)
        x = norm(x, 'stem_norm')
      else:
        x = norm(x, f'downsample{stage}_norm')
        x = layers.Patches(size, 2, self.dtype, name=f'downsample{stage}')(x)
      for i in range(count):
        x = residual.module(Block, self.remat, train)(
          self.dtype,
          self.epsilon,
          self.depthwise,
          self.axis_name,
          residual.drop_rate(self.drop_path, number, total),
          name=f'stage{stage}_block{i}',
        )(x, train)
        number += 1
    return x


class ConvNeXtSmall(heads.Classifier):
  """The network; `depth` is a factor of the blocks of each stage.

  Attributes:
    epsilon: of layer normalisation.
    depthwise: form of the depthwise convolution; None: by platform.
    drop_path: rate of the last block; see `residual.DropPath`.
    remat: see `residual.module`.
  """

  SMALLEST: ClassVar[int] = 32

  epsilon: float = EPSILON
  depthwise: str | None = None
  drop_path: float = 0.0
  remat: str = 'none'

  def setup(self):
    self.trunk = Trunk(
      self.width,
      self.depth,
      self.dtype,
      self.epsilon,
      self.depthwise,
      self.axis_name,
      self.drop_path,
      self.remat,
    )
    self.head = self.make_head(self.epsilon)
