"""The forms of the depthwise convolution against float64 loops of numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsna_jax.models import depthwise

SIZES = [(6, 5), (5, 8), (1, 4), (2, 2), (3, 1)]


def reference(x, kernel):
  """Value of the convolution, written as nine shifted products in float64."""
  x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  _, height, width, _ = x.shape
  return sum(
    padded[:, i : i + height, j : j + width] * kernel[i, j, 0]
    for i in range(3)
    for j in range(3)
  )


def inputs(size, dtype=jnp.float32):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *size, 5)), dtype)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 1, 5)), jnp.float32)
  weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
  return x, kernel, weights


@pytest.mark.parametrize('form', depthwise.FORMS)
@pytest.mark.parametrize('size', SIZES)
def test_values_equal_the_plain_sum(form, size):
  x, kernel, _ = inputs(size)
  found = depthwise.depthwise3x3(x, kernel, form=form)
  np.testing.assert_allclose(found, reference(x, kernel), atol=1e-5)


@pytest.mark.parametrize('form', ['edge', 'shift'])
@pytest.mark.parametrize('size', SIZES)
def test_gradients_equal_those_of_the_plain_form(size, form):
  x, kernel, weights = inputs(size)

  def total(x, kernel, form):
    y = depthwise.depthwise3x3(x, kernel, form=form)
    return jnp.sum(jnp.sin(y) * weights)

  gradient = jax.grad(total, argnums=(0, 1))
  for found, plain in zip(
    gradient(x, kernel, form), gradient(x, kernel, 'lax'), strict=True
  ):
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)


def test_bfloat16_comes_back_as_bfloat16_and_sums_in_float32():
  x, kernel, weights = inputs((6, 5), jnp.bfloat16)
  rounded = kernel.astype(jnp.bfloat16)
  found = depthwise.depthwise3x3(x, kernel, form='edge')
  assert found.dtype == jnp.bfloat16
  expected = jnp.asarray(reference(x, rounded)).astype(jnp.bfloat16)
  np.testing.assert_array_equal(
    np.asarray(found, np.float32), np.asarray(expected, np.float32)
  )
  gradient = jax.grad(
    lambda k: jnp.sum(depthwise.depthwise3x3(x, k, form='edge') * weights)
  )(kernel)
  assert gradient.dtype == jnp.float32 and np.isfinite(gradient).all()


def test_an_unknown_form_is_refused():
  with pytest.raises(ValueError, match='choose edge, shift, lax'):
    depthwise.depthwise3x3(*inputs((3, 3))[:2], form='fft')


@pytest.mark.parametrize('size', [(9, 8), (8, 5), (3, 4)])
@pytest.mark.parametrize(('side', 'stride'), [(7, 1), (3, 2), (5, 2)])
def test_any_kernel_and_stride_equal_the_operation_of_lax(size, side, stride):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(side, side, 1, 3)), jnp.float32)

  def total(x, kernel, form):
    y = depthwise.depthwise(x, kernel, stride=stride, form=form)
    return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape))), y

  results = [
    jax.grad(total, (0, 1), has_aux=True)(x, kernel, form)
    for form in (None, 'lax')
  ]
  for found, expected in zip(*map(jax.tree.leaves, results), strict=True):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_the_fast_form_is_chosen_on_cpus():
  x, kernel, _ = inputs((3, 3))
  text = str(jax.make_jaxpr(depthwise.depthwise3x3)(x, kernel))
  assert ('conv_general_dilated' in text) == (jax.default_backend() != 'cpu')
