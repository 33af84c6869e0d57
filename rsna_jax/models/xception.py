"""Xception as Keras has it (Chollet 2017, arXiv:1610.02357), for grey images.

At `width` and `depth` 1 it is the published network, layer by layer, but for
the first kernel's one input channel: 20,806,376 parameters below the last
layer, and 54,528 statistics. Submodules stand in the order and under the names
of Keras's layers, so that weights can be ported by order.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsna_jax.models import heads, layers, residual

_MIDDLE_BLOCKS = 8


def middle_blocks(depth: float) -> int:
  """Blocks of the middle flow."""
  return max(1, round(_MIDDLE_BLOCKS * depth))


class Trunk(nn.Module):
  """All but the last pooling and Dense layer.

  Attributes:
    width: factor of the number of channels.
    depth: factor of the eight blocks of the middle flow, at least one.
    dtype: of the computation.
    axis_name: of the devices that share a batch.
    epsilon: of batch normalisation; 1e-5 for weights from PyTorch.
    momentum: of batch normalisation.
    pool_padding: of the maximum pools; (1, 1) for weights from PyTorch.
    depthwise: form of the depthwise convolution; None: by platform.
    drop_path: rate of the last block with a shortcut; see `residual.DropPath`.
    remat: see `residual.module`.
  """

  width: float = 1.0
  depth: float = 1.0
  dtype: Any = jnp.float32
  axis_name: str | None = None
  epsilon: float = 1e-3
  momentum: float = 0.99
  pool_padding: Any = 'SAME'
  depthwise: str | None = None
  drop_path: float = 0.0
  remat: str = 'none'

  @nn.compact
  def __call__(self, image: jax.Array, train: bool) -> jax.Array:
    """(B, H, W, 1) in [0, 1] -> (B, about H / 32, about W / 32, C)."""

    def size(count):
      return heads.channels(count, self.width)

    def norm(x, name, defer=False):
      return layers.BatchNorm(
        self.axis_name, self.dtype, self.momentum, self.epsilon, name=name
      )(x, train, defer)

    def separable(x, count, name, relu=True, defer=True):
      x = layers.Depthwise3x3(
        self.dtype, self.depthwise, name=f'{name}_depthwise'
      )(x, relu)
      x = layers.Pointwise(
        size(count), 1, self.dtype, name=f'{name}_pointwise'
      )(x)
      return norm(x, f'{name}_bn', defer)

    def added(branch, shortcut, block):
      rate = residual.drop_rate(self.drop_path, block - 2, middle + 4)
      drop = residual.DropPath(rate, self.axis_name, name=f'block{block}_drop')
      return drop(branch, train) + shortcut

    def strided(x, counts, block, first_relu=True):
      shortcut = layers.Pointwise(
        size(counts[1]), 2, self.dtype, name=f'block{block}_shortcut'
      )(x)
      shortcut = norm(shortcut, f'block{block}_shortcut_bn')
      x = separable(x, counts[0], f'block{block}_sepconv1', first_relu)
      x = separable(x, counts[1], f'block{block}_sepconv2')
      x = layers.max_pool(x, 3, 2, self.pool_padding)
      return added(x, shortcut, block)

    def plain(x, block):
      shortcut = x
      for i in (1, 2, 3):
        x = separable(x, 728, f'block{block}_sepconv{i}', defer=i < 3)
      return added(x, shortcut, block)

    def run(block, *args):
      return residual.call(
        lambda _, x: block(x, *args), self, x, self.remat, train
      )

    middle = middle_blocks(self.depth)
    x = image.astype(self.dtype) * 2 - 1
    for i, (count, stride) in enumerate(((32, 2), (64, 1)), start=1):
      x = layers.Conv3x3(
        size(count), stride, 'VALID', dtype=self.dtype, name=f'block1_conv{i}'
      )(x)
      x = nn.relu(norm(x, f'block1_conv{i}_bn'))
    x = run(strided, (128, 128), 2, False)
    x = run(strided, (256, 256), 3)
    x = run(strided, (728, 728), 4)
    for block in range(5, 5 + middle):
      x = run(plain, block)
    x = run(strided, (728, 1024), 5 + middle)
    name = f'block{6 + middle}_sepconv'
    x = separable(x, 1536, f'{name}1', relu=False)
    return nn.relu(separable(x, 2048, f'{name}2', defer=False))


class Xception(heads.Classifier):
  """The network; see `Trunk` for its attributes."""

  epsilon: float = 1e-3
  momentum: float = 0.99
  pool_padding: Any = 'SAME'
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
      self.momentum,
      self.pool_padding,
      self.depthwise,
      self.drop_path,
      self.remat,
    )
    self.head = self.make_head()
