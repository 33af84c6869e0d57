"""ConvNeXt-small (Liu et al. 2022, arXiv:2201.03545), for grey images.

49,451,616 parameters below the last layer at `width` and `depth` 1 with one
input channel; the published network of three has 3,072 more in its first
kernel. Blocks and names follow timm's `convnext_small`.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax

from rsna_jax.models import heads, layers

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

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]

    def dense(size, name):
      return nn.Dense(
        size, dtype=self.dtype, kernel_init=layers.kernel_init, name=name
      )

    y = layers.Depthwise(
      7, 1, True, self.dtype, self.depthwise, name='depthwise'
    )(x)
    y = layers.LayerNorm(self.epsilon, self.dtype, name='norm')(y)
    y = nn.gelu(dense(4 * width, 'expand')(y), approximate=False)
    y = dense(width, 'project')(y)
    scale = self.param('scale', nn.initializers.constant(1e-6), (width,))
    return x + y * scale.astype(self.dtype)


class Trunk(nn.Module):
  """Stem of 4x4 patches, then four stages, each at half the size before."""

  width: float
  depth: float
  dtype: Any
  epsilon: float
  depthwise: str | None

  @nn.compact
  def __call__(self, image: jax.Array, train: bool) -> jax.Array:
    """(B, H, W, 1) in [0, 1] -> (B, H // 32, W // 32, C)."""
    del train
    x = image.astype(self.dtype) * 2 - 1

    def norm(x, name):
      return layers.LayerNorm(self.epsilon, self.dtype, name=name)(x)

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
        x = Block(
          self.dtype,
          self.epsilon,
          self.depthwise,
          name=f'stage{stage}_block{i}',
        )(x)
    return x


class ConvNeXtSmall(heads.Classifier):
  """The network; `depth` is a factor of the blocks of each stage.

  Attributes:
    epsilon: of layer normalisation.
    depthwise: form of the depthwise convolution; None: by platform.
  """

  SMALLEST: ClassVar[int] = 32

  epsilon: float = EPSILON
  depthwise: str | None = None

  def setup(self):
    self.trunk = Trunk(
      self.width, self.depth, self.dtype, self.epsilon, self.depthwise
    )
    self.head = heads.Head(
      self.targets,
      self.pool,
      self.dropout,
      self.axis_name,
      norm_epsilon=self.epsilon,
    )
