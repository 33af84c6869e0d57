"""The kernels of pooling in interpret mode, against the operation of lax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import pallas_patch, pool_pallas, pooling

PADS = [((0, 1), (1, 1)), ((1, 1), (0, 0))]


@pytest.fixture(autouse=True)
def small_patches(monkeypatch):
  """Fast to compile, and so that images are of several patches."""
  monkeypatch.setattr(pool_pallas, 'FORWARD', pallas_patch.Patch(1, 2, 4))
  monkeypatch.setattr(pool_pallas, 'BACKWARD', pallas_patch.Patch(2, 2, 4))


def results(pool, *args):
  """A value and its gradients for all of `args`."""
  y, pull = jax.vjp(pool, *args)
  weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
  return y, *pull(weights.astype(y.dtype))


def inputs(size=(5, 6)):
  chance = np.random.default_rng(0)
  shapes = (2, *size, 6), (6,), (6,)
  return [jnp.asarray(chance.normal(size=s), 'float32') for s in shapes]


def compare(ours, plain, *args):
  ours, plain = (jax.jit(functools.partial(results, f)) for f in (ours, plain))
  for a, b in zip(ours(*args), plain(*args), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize('pads', PADS)
def test_it_equals_the_plain_maximum_of_what_is_normalised(pads):
  def plain(x, factor, offset):
    return pooling.plain(x * factor + offset, 3, 2, pads)

  x, factor, offset = inputs()
  assert (factor < 0).any()  # then the least counts
  compare(
    lambda *args: pool_pallas.max_pool(*args, pads, True),
    plain,
    x,
    factor,
    offset,
  )


@pytest.mark.parametrize('pads', PADS)
def test_the_first_of_equal_values_takes_the_gradient(pads):
  x = jnp.maximum(inputs((6, 5))[0], 0).round()
  assert (x == 0).mean() > 0.5
  compare(
    lambda x: pool_pallas.max_pool(x, None, None, pads, True),
    lambda x: pooling.plain(x, 3, 2, pads),
    x,
  )


def test_it_hides_no_nan():
  x = inputs()[0].at[0, 2, 2, 0].set(jnp.nan)
  found = pool_pallas.max_pool(x, None, None, PADS[0], True)
  assert jnp.isnan(found).sum() == 2  # of row 2, that two windows have


def test_it_and_its_gradient_are_lowered_for_gpus_and_hide_no_nan_there():
  shapes = (
    jax.ShapeDtypeStruct((2, 37, 37, 128), jnp.bfloat16),
    *[jax.ShapeDtypeStruct((128,), jnp.float32)] * 2,
  )
  pool = functools.partial(
    results, lambda *args: pool_pallas.max_pool(*args, PADS[0])
  )
  text = (
    jax.jit(pool).trace(*shapes).lower(lowering_platforms=('cuda',)).as_text()
  )
  assert '_pool_kernel' in text and '_gradients_kernel' in text
  assert 'maxnum' not in text


def test_it_takes_what_it_has_kernels_for():
  shape = (2, 147, 147, 128)
  assert pool_pallas.takes(shape, 3, 2, PADS[0])
  assert not pool_pallas.takes(shape, 2, 1, PADS[0])
  assert not pool_pallas.takes(shape, 3, 2, ((2, 2), (0, 0)))
  # Offsets in an array of bytes would not fit 32 bits.
  assert not pool_pallas.takes((4096, *shape[1:]), 3, 2, PADS[0])
