"""EfficientNetV2-S (Tan & Le 2021, arXiv:2104.00298), for grey images.

20,177,056 parameters below the last layer, and 153,872 statistics, at `width`
and `depth` 1 with one input channel. Blocks and names follow Keras; strided
layers pad as TensorFlow does.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsna_jax.models import heads, layers, residual

_STEM, _TOP = 24, 1280


@dataclasses.dataclass(frozen=True)
class Stage:
  """Blocks of one size; `fused` ones have a full 3x3 in place of a depthwise.

  Attributes:
    squeeze: whether channels are weighed by what the whole image shows.
  """

  blocks: int
  features: int
  expand: int
  stride: int
  fused: bool

  @property
  def squeeze(self) -> bool:
    return not self.fused


_STAGES = (
  Stage(2, 24, 1, 1, True),
  Stage(4, 48, 4, 2, True),
  Stage(4, 64, 4, 2, True),
  Stage(6, 128, 4, 2, False),
  Stage(9, 160, 6, 1, False),
  Stage(15, 256, 6, 2, False),
)


def blocks(depth: float) -> Iterator[tuple[str, int, int, Stage]]:
  """(name in Keras, number of the stage, of the block in it, stage)."""
  for number, stage in enumerate(_STAGES):
    for i in range(max(1, round(stage.blocks * depth))):
      yield f'block{number + 1}{chr(ord("a") + i)}', number, i, stage


class Block(nn.Module):
  """MBConv, or fused MBConv, with a shortcut where the shape stays."""

  features: int
  expand: int
  stride: int
  fused: bool
  dtype: Any
  axis_name: str | None
  epsilon: float
  depthwise: str | None
  drop: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    inputs, width = x, x.shape[-1]

    def norm(x, name):
      return layers.BatchNorm(
        self.axis_name, self.dtype, 0.9, self.epsilon, name=name
      )(x, train)

    def conv3x3(x, features, name):
      return layers.Conv3x3(features, self.stride, dtype=self.dtype, name=name)(
        x
      )

    def pointwise(x, features, name, bias=False):
      return layers.Pointwise(features, 1, self.dtype, bias, name=name)(x)

    if self.fused and self.expand == 1:
      x = conv3x3(x, self.features, 'project_conv')
      x = nn.silu(norm(x, 'project_bn'))
    else:
      if self.fused:
        x = conv3x3(x, width * self.expand, 'expand_conv')
      else:
        x = pointwise(x, width * self.expand, 'expand_conv')
      x = nn.silu(norm(x, 'expand_bn'))
      if not self.fused:
        x = layers.Depthwise(
          3, self.stride, False, self.dtype, self.depthwise, name='dwconv2'
        )(x)
        x = nn.silu(norm(x, 'bn'))
        seen = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        seen = nn.silu(pointwise(seen, max(1, width // 4), 'se_reduce', True))
        gate = nn.sigmoid(pointwise(seen, x.shape[-1], 'se_expand', True))
        x = layers.times(x, gate)
      x = norm(pointwise(x, self.features, 'project_conv'), 'project_bn')
    if x.shape != inputs.shape:
      return x
    return residual.DropPath(self.drop, self.axis_name)(x, train) + inputs


class Trunk(nn.Module):
  """Stem, blocks, and the 1x1 convolution at the top."""

  width: float
  depth: float
  dtype: Any
  axis_name: str | None
  epsilon: float
  input_scale: float
  depthwise: str | None
  drop_path: float = 0.0
  remat: str = 'none'

  @nn.compact
  def __call__(self, image: jax.Array, train: bool) -> jax.Array:
    """(B, H, W, 1) in [0, 1] -> (B, about H / 32, about W / 32, C)."""

    def norm(x, name):
      x = layers.BatchNorm(
        self.axis_name, self.dtype, 0.9, self.epsilon, name=name
      )(x, train)
      return nn.silu(x)

    def size(count):
      return heads.channels(count, self.width)

    x = image.astype(self.dtype) * self.input_scale - 1
    x = layers.Conv3x3(size(_STEM), 2, dtype=self.dtype, name='stem_conv')(x)
    x = norm(x, 'stem_bn')
    found = list(blocks(self.depth))
    for number, (name, _, i, stage) in enumerate(found):
      x = residual.module(Block, self.remat, train)(
        size(stage.features),
        stage.expand,
        stage.stride if i == 0 else 1,
        stage.fused,
        self.dtype,
        self.axis_name,
        self.epsilon,
        self.depthwise,
        residual.drop_rate(self.drop_path, number, len(found)),
        name=name,
      )(x, train)
    x = layers.Pointwise(size(_TOP), 1, self.dtype, name='top_conv')(x)
    return norm(x, 'top_bn')


class EfficientNetV2S(heads.Classifier):
  """The network; `depth` is a factor of the blocks of each stage.

  Attributes:
    epsilon: of batch normalisation.
    input_scale: the input is the image times this, less 1; Keras's weights were
      trained with 255 / 128.
    depthwise: form of the depthwise convolution; None: by platform.
    drop_path: rate of the last block; see `residual.DropPath`.
    remat: see `residual.module`.
  """

  epsilon: float = 1e-3
  input_scale: float = 2.0
  depthwise: str | None = None
  drop_path: float = 0.0
  remat: str = 'none'

  def setup(self):
    self.trunk = Trunk(
      self.width,
      self.depth,
      self.dtype,
      self.axis_name,
      self.epsilon,
      self.input_scale,
      self.depthwise,
      self.drop_path,
      self.remat,
    )
    self.head = self.make_head()
