"""The Pallas kernels in interpret mode, against the operations of lax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import depthwise, depthwise_pallas, pallas_patch


@pytest.fixture(autouse=True)
def small_patches(monkeypatch):
  """Fast to compile, and so that images are of several patches."""
  patch = pallas_patch.Patch(2, 2, 4)
  monkeypatch.setattr(depthwise_pallas, 'FORWARD', patch)
  monkeypatch.setattr(depthwise_pallas, 'BACKWARD', patch)


def results(convolve, *args):
  """A value and its gradients for all of `args`."""
  y, pull = jax.vjp(convolve, *args)
  weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
  return y, *pull(weights.astype(y.dtype))


# (whether there is a factor and an offset, whether negatives become 0).
@pytest.mark.parametrize(
  'before', [(False, False), (False, True), (True, True)]
)
@pytest.mark.parametrize(
  ('size', 'dtype'),
  [((4, 5), 'float32'), ((1, 3), 'float32'), ((5, 2), 'bfloat16')],
)
def test_it_equals_the_plain_convolution_and_its_gradients(size, dtype, before):
  affine, relu = before
  chance = np.random.default_rng(0)
  args = [
    jnp.asarray(chance.normal(size=(2, *size, 6)), dtype),
    jnp.asarray(chance.normal(size=(3, 3, 6)), dtype),
  ]
  if affine:
    args += [jnp.asarray(chance.normal(size=6), 'float32') for _ in 'ab']

  def plain(x, kernel, factor=1.0, offset=0.0):
    x = (x * factor + offset).astype(jnp.float32)
    x = jax.nn.relu(x) if relu else x
    kernel = kernel.astype(jnp.float32)
    y = depthwise.depthwise3x3(x, kernel[:, :, None], form='lax')
    return y.astype(dtype)

  def ours(x, kernel, factor=None, offset=None):
    return depthwise_pallas.convolve(x, kernel, factor, offset, relu, True)

  found, expected = (
    jax.jit(functools.partial(results, f)) for f in (ours, plain)
  )
  tolerance = {'float32': 1e-5, 'bfloat16': 2e-2}[dtype]
  for a, b in zip(found(*args), expected(*args), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def test_it_and_its_gradient_are_lowered_for_gpus_and_hide_no_nan_there():
  shapes = (
    jax.ShapeDtypeStruct((2, 19, 19, 728), jnp.bfloat16),
    jax.ShapeDtypeStruct((3, 3, 728), jnp.bfloat16),
    *[jax.ShapeDtypeStruct((728,), jnp.float32)] * 2,
  )
  convolve = functools.partial(
    results, lambda *args: depthwise_pallas.convolve(*args, True)
  )
  text = (
    jax.jit(convolve).trace(*shapes).lower(lowering_platforms=('cuda',))
  ).as_text()
  assert '_convolve_kernel' in text and '_gradients_kernel' in text
  # Triton's maximum of a NaN and a number is the number.
  assert 'maxnum' not in text
