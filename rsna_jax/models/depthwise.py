"""Depthwise convolution, and forms of it that are fast on CPUs and on GPUs.

XLA runs a convolution with as many groups as channels 26 to 70 times slower on
CPUs than shifted products do. So on CPUs the convolution is written as sums of
slices: the inner part has all nine taps, each border its own few, and nothing
is padded or masked. Its gradient for the kernel is one reduction with many
operands, which reads the images once. On NVIDIA GPUs it is `depthwise_pallas`,
elsewhere the plain operation.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from rsna_jax.models import depthwise_pallas, forms, normalise, varying

FORMS = ('edge', 'shift', 'lax', 'pallas')


def depthwise3x3(
  x: jax.Array | normalise.Deferred,
  kernel: jax.Array,
  *,
  relu: bool = False,
  form: str | None = None,
) -> jax.Array:
  """Convolves each channel with its own 3x3 kernel: stride 1, padding SAME.

  Args:
    x: (B, H, W, C), float32 or bfloat16; H and W may be 1.
    kernel: (3, 3, 1, C), as Flax has it; it is used in the dtype of `x`.
    relu: whether it convolves relu(x).
    form: 'edge', 'shift' (sums of slices of the padded images), 'lax', 'pallas'
      or None: as `forms` says, edge where fast, pallas where fused, else lax.

  Returns:
    (B, H, W, C) in the dtype of `x`; sums are taken in float32.
  """
  if form is None:
    form = 'edge' if forms.fast() else 'pallas' if forms.fused() else 'lax'
  if form not in FORMS:
    raise ValueError(f'form={form!r}: choose {", ".join(FORMS)}')
  if form == 'pallas':
    return _pallas(x, kernel, relu)
  x = normalise.settle(x)
  if relu:
    x = jax.nn.relu(x)
  kernel = kernel.astype(x.dtype)
  if form == 'lax':
    return _lax(x, kernel)
  kernel = varying.like(x, kernel)
  dtype, taps = x.dtype, kernel[:, :, 0].astype(jnp.float32)
  x = x.astype(jnp.float32)
  if form == 'shift':
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return _shift(padded, taps).astype(dtype)
  return _edge(x, taps).astype(dtype)


def _pallas(x, kernel: jax.Array, relu: bool = False) -> jax.Array:
  affine = ()
  if isinstance(x, normalise.Deferred):
    x, *affine = x
  kernel = kernel[:, :, 0].astype(x.dtype)
  vectors = [
    v if v is None else varying.like(x, v)
    for v in (kernel, *(affine or (None, None)))
  ]
  return depthwise_pallas.convolve(x, *vectors, relu, not forms.on_nvidia())


def _lax(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def _bands(n: int) -> list[tuple[tuple[int, ...], int, int]]:
  """(taps that stay inside, first, last + 1) for stretches of n positions."""
  if n == 1:
    return [((1,), 0, 1)]
  inner = [((0, 1, 2), 1, n - 1)] if n > 2 else []
  return [((1, 2), 0, 1), *inner, ((0, 1), n - 1, n)]


def _shifted(x: jax.Array, rows, columns, i: int, j: int) -> jax.Array:
  _, top, bottom = rows
  _, left, right = columns
  return x[:, top + i - 1 : bottom + i - 1, left + j - 1 : right + j - 1]


def _forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
  _, height, width, _ = x.shape
  strips = []
  for rows in _bands(height):
    tiles = []
    for columns in _bands(width):
      terms = [
        _shifted(x, rows, columns, i, j) * kernel[i, j]
        for i in rows[0]
        for j in columns[0]
      ]
      tiles.append(functools.reduce(jnp.add, terms))
    strips.append(jnp.concatenate(tiles, axis=2))
  return jnp.concatenate(strips, axis=1)


def _kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
  # One reduction of padded images compiles seven times faster than one for the
  # inner part and each border, and runs as fast. Without the barrier XLA would
  # pad anew for each of the nine taps.
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return _taps_gradient(lax.optimization_barrier(padded), g, 3)


def _taps_gradient(padded: jax.Array, g: jax.Array, size: int) -> jax.Array:
  """(size, size, C) sums of what each tap sees times the gradient."""
  sums = normalise.sums([x * g for x in _slices(padded, size)])
  return jnp.stack(sums).reshape(size, size, -1)


@jax.custom_vjp
def _edge(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return _forward(x, kernel)


def _edge_forward(x, kernel):
  return _forward(x, kernel), (x, kernel)


def _edge_backward(residuals, g):
  x, kernel = residuals
  return _forward(g, kernel[::-1, ::-1]), _kernel_gradient(x, g)


_edge.defvjp(_edge_forward, _edge_backward)


def depthwise(
  x: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  form: str | None = None,
) -> jax.Array:
  """Convolves each channel with its own kernel: padding SAME.

  Args:
    x: (B, H, W, C), float32 or bfloat16.
    kernel: (K, K, 1, C) with odd K; it is used in the dtype of `x`.
    stride: of both axes.
    form: 'lax' or None: of 3x3 at stride 1 as `depthwise3x3` has it, else sums
      of slices of the padded images where `forms` says fast, lax elsewhere.

  Returns:
    (B, about H / stride, about W / stride, C) in the dtype of `x`.
  """
  if kernel.shape[:2] == (3, 3) and stride == 1:
    return depthwise3x3(x, kernel, form=form)
  kernel = kernel.astype(x.dtype)
  if form == 'lax' or not forms.fast():
    return _lax(x, kernel, stride)
  kernel = varying.like(x, kernel)
  size = kernel.shape[0]
  pads = lax.padtype_to_pads(
    x.shape[1:3], (size, size), (stride, stride), 'SAME'
  )
  padded = jnp.pad(x.astype(jnp.float32), ((0, 0), *pads, (0, 0)))
  taps = kernel[:, :, 0].astype(jnp.float32)
  if stride == 1:
    return _shift(padded, taps).astype(x.dtype)
  return _slices_times_taps(padded, taps, stride).astype(x.dtype)


def _slices(padded: jax.Array, size: int, stride: int = 1) -> list[jax.Array]:
  """What each tap of the kernel sees, row by row."""
  height, width = ((n - size) // stride + 1 for n in padded.shape[1:3])
  return [
    padded[:, i : i + stride * (height - 1) + 1 : stride][
      :, :, j : j + stride * (width - 1) + 1 : stride
    ]
    for i in range(size)
    for j in range(size)
  ]


def _slices_times_taps(
  padded: jax.Array, taps: jax.Array, stride: int = 1
) -> jax.Array:
  size, _, channels = taps.shape
  flat = taps.reshape(-1, channels)
  slices = _slices(padded, size, stride)
  return functools.reduce(
    jnp.add, [x * tap for x, tap in zip(slices, flat, strict=True)]
  )


@jax.custom_vjp
def _shift(padded: jax.Array, taps: jax.Array) -> jax.Array:
  return _slices_times_taps(padded, taps)


def _shift_forward(padded, taps):
  return _slices_times_taps(padded, taps), (padded, taps)


def _shift_backward(residuals, g):
  padded, taps = residuals
  size = taps.shape[0]
  edge = size - 1
  g_padded = jnp.pad(g, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
  return (
    _slices_times_taps(g_padded, taps[::-1, ::-1]),
    _taps_gradient(padded, g, size),
  )


_shift.defvjp(_shift_forward, _shift_backward)
