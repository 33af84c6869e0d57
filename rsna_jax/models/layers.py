"""Layers that the networks share, each in the form that `forms` says.

All forms are equal but for rounding. Parameters are float32 whatever the dtype
of the computation.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rsna_jax.models import (
  depthwise,
  forms,
  normalise,
  parts,
  pool_pallas,
  pooling,
  varying,
)

# Up to so many input channels, patches times a matrix beat a convolution.
_PATCH_CHANNELS = 4


def kernel_init(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
  """Normal kernel of variance 2 / fan-in (He et al. 2015, arXiv:1502.01852).

  A key that is not traced is drawn from by numpy: compiling a generator for
  each shape takes XLA half a minute for Xception.

  Args:
    key: PRNG key.
    shape: (..., inputs, outputs).
    dtype: of the kernel.
  """
  fan_in = max(int(np.prod(shape[:-1])), 1)
  scale = (2.0 / fan_in) ** 0.5
  if isinstance(key, jax.core.Tracer):
    return scale * jax.random.normal(key, shape, dtype)
  words = (
    jax.random.key_data(key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    else key
  )
  words = [int(word) for word in np.asarray(words).ravel()]
  values = np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))
  values = values.standard_normal(shape, np.float32)
  return jnp.asarray(values * np.float32(scale), dtype)


def pointwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """1x1 convolution of (B, H, W, C) by (1, 1, C, D); a stride drops pixels.

  Its fast form is one matrix product of the pixels that stay.
  """
  if not forms.fast():
    return _convolution(x, kernel, stride, 'VALID')
  x = x[:, ::stride, ::stride]
  flat = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
  return flat.reshape(*x.shape[:-1], kernel.shape[-1])


def conv3x3(
  x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: str = 'SAME'
) -> jax.Array:
  """3x3 convolution of (B, H, W, C) by (3, 3, C, D); padding SAME or VALID.

  Its fast form, of few channels, is one product of patches and a matrix.
  """
  if x.shape[-1] > _PATCH_CHANNELS or not (forms.fast() or forms.fused()):
    return _convolution(x, kernel, stride, padding)
  pads = lax.padtype_to_pads(x.shape[1:3], (3, 3), (stride, stride), padding)
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  height, width = ((n - 3) // stride + 1 for n in x.shape[1:3])
  patches = jnp.concatenate(
    [
      x[:, i : i + stride * (height - 1) + 1 : stride][
        :, :, j : j + stride * (width - 1) + 1 : stride
      ]
      for i in range(3)
      for j in range(3)
    ],
    axis=-1,
  )
  flat = patches.reshape(-1, patches.shape[-1])
  flat = flat @ kernel.reshape(-1, kernel.shape[-1])
  return flat.reshape(x.shape[0], height, width, -1)


def _convolution(x, kernel, stride: int, padding: str) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def max_pool(
  x: jax.Array | normalise.Deferred,
  size: int,
  stride: int,
  padding: Any = 'VALID',
) -> jax.Array:
  """Maximum over size x size windows.

  Where values tie, the gradient goes to the first of them, row by row.

  Args:
    x: (B, H, W, C).
    size: of the window.
    stride: of the window.
    padding: 'SAME', 'VALID', or (before, after) for both axes; with -inf.
  """
  deferred = isinstance(x, normalise.Deferred)
  shape = (x.x if deferred else x).shape
  if isinstance(padding, str):
    pads = lax.padtype_to_pads(
      shape[1:3],
      (size, size),
      (stride, stride),
      padding,
    )
  else:
    pads = [padding] * 2
  pads = tuple(map(tuple, pads))
  if forms.fused() and pool_pallas.takes(shape, size, stride, pads):
    x, *affine = x if deferred else (x, None, None)
    if deferred:
      affine = [varying.like(x, v) for v in affine]
    return pool_pallas.max_pool(x, *affine, pads, not forms.on_nvidia())
  x = normalise.settle(x)
  if (forms.fast() or forms.fused()) and size <= pooling.LARGEST:
    return pooling.fast(x, size, stride, pads)
  return pooling.plain(x, size, stride, pads)


def plus(x: jax.Array, bias: jax.Array) -> jax.Array:
  """x + bias in the dtype of x, whose gradient for bias is summed in float32.

  The sum is over all examples and places: in bfloat16 it would stop growing
  where a term is less than a 256th of it.
  """
  return (x.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
  """x times the normal distribution's P(X < x), as PyTorch has it by erf.

  Only x is kept for the gradient: of the formula itself XLA keeps two more
  arrays, which cost more to write and read than to make again.
  """
  values = x.astype(jnp.float32)
  return (values * _normal(values)).astype(x.dtype)


def _normal(values: jax.Array) -> jax.Array:
  return 0.5 + 0.5 * lax.erf(values * np.float32(0.5**0.5))


def _gelu_forward(x):
  return gelu(x), x


def _gelu_backward(x, g):
  values = x.astype(jnp.float32)
  density = np.float32((2 * np.pi) ** -0.5) * jnp.exp(-0.5 * values * values)
  slope = _normal(values) + values * density
  return ((g.astype(jnp.float32) * slope).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def times(x: jax.Array, factor: jax.Array) -> jax.Array:
  """x * factor in the dtype of x; its gradient likewise."""
  return (x.astype(jnp.float32) * factor.astype(jnp.float32)).astype(x.dtype)


class Conv3x3(nn.Module):
  """`conv3x3` with its kernel, and a bias if asked."""

  features: int
  stride: int = 1
  padding: str = 'SAME'
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (3, 3, x.shape[-1], self.features)
    kernel = self.param('kernel', kernel_init, shape)
    x = conv3x3(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      stride=self.stride,
      padding=self.padding,
    )
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,))
      x = plus(x, bias)
    return x


class Pointwise(nn.Module):
  """1x1 convolution; a stride drops rows and columns first."""

  features: int
  stride: int = 1
  dtype: Any = jnp.float32
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (1, 1, x.shape[-1], self.features)
    kernel = self.param('kernel', kernel_init, shape)
    x = pointwise(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,))
      x = plus(x, bias)
    return x


class Patches(nn.Module):
  """Convolution of patches that do not overlap, as one matrix product.

  Rows and columns that fill no patch are dropped, as with padding VALID.
  """

  features: int
  size: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(B, H, W, C) -> (B, H // size, W // size, features)."""
    size, channels = self.size, x.shape[-1]
    shape = (size, size, channels, self.features)
    kernel = self.param('kernel', kernel_init, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    height, width = (n // size for n in x.shape[1:3])
    x = x[:, : height * size, : width * size].astype(self.dtype)
    x = x.reshape(x.shape[0], height, size, width, size, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size * channels)
    flat = x @ kernel.reshape(-1, self.features).astype(self.dtype)
    flat = flat.reshape(-1, height, width, self.features)
    return plus(flat, bias)


class Dense(nn.Module):
  """As `nn.Dense`, but that its bias is added by `plus`."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., C) -> (..., features)."""
    shape = (x.shape[-1], self.features)
    kernel = self.param('kernel', kernel_init, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return plus(x.astype(self.dtype) @ kernel.astype(self.dtype), bias)


class Depthwise3x3(nn.Module):
  """`depthwise.depthwise3x3` with its kernel."""

  dtype: Any = jnp.float32
  form: str | None = None

  @nn.compact
  def __call__(
    self, x: jax.Array | normalise.Deferred, relu: bool = False
  ) -> jax.Array:
    if not isinstance(x, normalise.Deferred):
      x = x.astype(self.dtype)
    channels = jax.tree.leaves(x)[0].shape[-1]
    kernel = self.param('kernel', kernel_init, (3, 3, 1, channels))
    return depthwise.depthwise3x3(x, kernel, relu=relu, form=self.form)


class Depthwise(nn.Module):
  """`depthwise.depthwise` with its kernel, and a bias if asked."""

  size: int = 3
  stride: int = 1
  use_bias: bool = False
  dtype: Any = jnp.float32
  form: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    shape = (self.size, self.size, 1, channels)
    kernel = self.param('kernel', kernel_init, shape)
    x = depthwise.depthwise(
      x.astype(self.dtype), kernel, stride=self.stride, form=self.form
    )
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (channels,))
      x = plus(x, bias)
    return x


class LayerNorm(nn.Module):
  """Normalisation over the channels, in float32."""

  epsilon: float = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    norm = nn.LayerNorm(self.epsilon, dtype=jnp.float32, name='norm')
    return norm(x).astype(self.dtype)


class _FastNorm(nn.Module):
  """As `nn.BatchNorm`, by `normalise`; if asked, deferred."""

  axis_name: str | None
  momentum: float
  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, defer: bool):
    shape = (x.shape[-1],)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    variance = self.variable('batch_stats', 'var', jnp.ones, shape)
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    if not train:
      factor = lax.rsqrt(variance.value + self.epsilon) * scale
      return self._applied(x, mean.value, factor, bias, defer)
    found = jnp.stack(normalise.moments(x))
    if self.axis_name is not None and not self.is_initializing():
      found = lax.pmean(found, self.axis_name)
    now = found[0], jnp.maximum(0, found[1] - found[0] ** 2)
    if not self.is_initializing():
      for kept, value in zip((mean, variance), now, strict=True):
        kept.value = self.momentum * kept.value + (1 - self.momentum) * value
    factor = lax.rsqrt(now[1] + self.epsilon) * scale
    return self._applied(x, now[0], factor, bias, defer)

  def _applied(self, x, mean, factor, bias, defer: bool):
    if defer:
      return normalise.Deferred(x, factor, bias - mean * factor)
    return normalise.normalise(x, mean, factor, bias)


class BatchNorm(nn.Module):
  """Batch normalisation over all devices of the axis, with Keras's defaults.

  Under plain jit the batch is whole already and `axis_name` is None. Of what
  `folding.fold` folded into the layer before, the offset is left.

  Attributes:
    SHIFT: the name of that offset.
  """

  SHIFT: ClassVar[str] = 'shift'

  axis_name: str | None = None
  dtype: Any = jnp.float32
  momentum: float = 0.99
  epsilon: float = 1e-3

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, defer: bool = False
  ) -> jax.Array | normalise.Deferred:
    """(..., C); `defer`: for a layer that applies it, where forms are fused."""
    fused = forms.fused()
    if self.has_variable('batch_stats', self.SHIFT):
      shift = self.get_variable('batch_stats', self.SHIFT)
      if defer and fused:
        x = x.astype(self.dtype)
        return normalise.Deferred(x, jnp.ones_like(shift), shift)
      return (x + shift).astype(self.dtype)
    # named `norm` so that a path ends in .../norm/scale for every network.
    if forms.fast() or fused:
      norm = _FastNorm(self.axis_name, self.momentum, self.epsilon, name='norm')
      return norm(x.astype(self.dtype), train, defer and fused)
    return nn.BatchNorm(
      use_running_average=not train,
      axis_name=self.axis_name,
      momentum=self.momentum,
      epsilon=self.epsilon,
      dtype=self.dtype,
      name='norm',
    )(x)


class ExampleDropout(nn.Module):
  """Dropout whose masks do not depend on how the batch is spread.

  Each example has a key of its own, from its place in the whole batch, so any
  number of devices under pmap, shard_map or jit draws the same masks.
  """

  rate: float
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if not train or self.rate == 0:
      return x
    if self.rate >= 1:
      return jnp.zeros_like(x)
    keys = example_keys(self.make_rng('dropout'), x.shape[0], self.axis_name)
    keep = 1.0 - self.rate
    mask = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(
      keys
    )
    return jnp.where(mask, x / jnp.asarray(keep, x.dtype), jnp.zeros_like(x))


def example_keys(
  key: jax.Array, count: int, axis_name: str | None
) -> jax.Array:
  """(count,) keys of this device's examples, by place in the whole batch."""
  index = parts.places(count, axis_name)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)
