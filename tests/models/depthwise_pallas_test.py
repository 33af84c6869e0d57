"""The Pallas kernel in interpret mode, against the operation of lax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import depthwise, depthwise_pallas


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('size', [(4, 17), (1, 3)])
def test_it_equals_the_plain_convolution_and_its_gradient(size, dtype):
  chance = np.random.default_rng(0)
  x = jnp.asarray(chance.normal(size=(2, *size, 5)), dtype)
  kernel = jnp.asarray(chance.normal(size=(3, 3, 5)), dtype)
  weights = jnp.asarray(chance.normal(size=x.shape), dtype)

  def both(convolve):
    y, pull = jax.vjp(convolve, x, kernel)
    return y, *pull(weights)

  found = both(lambda x, k: depthwise_pallas.convolve(x, k, True))
  expected = both(
    lambda x, k: depthwise.depthwise3x3(x, k[:, :, None], form='lax')
  )
  tolerance = {'float32': 1e-5, 'bfloat16': 2e-2}[dtype]
  for a, b in zip(found, expected, strict=True):
    assert a.dtype == b.dtype == dtype and a.shape == b.shape
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def test_it_is_lowered_for_gpus():
  shapes = (
    jax.ShapeDtypeStruct((2, 19, 19, 728), jnp.bfloat16),
    jax.ShapeDtypeStruct((3, 3, 728), jnp.bfloat16),
  )
  traced = jax.jit(depthwise_pallas.convolve).trace(*shapes)
  assert 'triton' in traced.lower(lowering_platforms=('cuda',)).as_text()
