"""Both readers of batches, and what it means that two streams are equal."""

import numpy as np
import pytest

from rsna_jax.data import stream_np


def of(name: str):
  """The reader module, numpy or tf; the test is skipped without TensorFlow."""
  if name == 'numpy':
    return stream_np
  pytest.importorskip('tensorflow')
  from rsna_jax.data import stream_tf

  return stream_tf


def assert_equal(first, second):
  """The batches of two readers have the same arrays, bit for bit."""
  assert len(first) == len(second)
  for a, b in zip(first, second, strict=True):
    assert set(a) == set(b)
    for name in a:
      assert a[name].dtype == b[name].dtype, name
      assert isinstance(b[name], np.ndarray)
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)
