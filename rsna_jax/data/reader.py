"""Chooses the reader of batches: tf.data where it is installed, or numpy."""

import importlib.util
from collections.abc import Iterator

from rsna_jax import errors


def batches(which: str, *args, **kwargs) -> Iterator[dict]:
  """The batches of `stream_tf.batches` or `stream_np.batches`, which are equal.

  Args:
    which: auto | tf | numpy. Auto takes tf.data where TensorFlow is installed.
    *args: as the two functions take them.
    **kwargs: likewise.

  Raises:
    errors.ConfigError: tf was asked for and is not installed.
  """
  installed = importlib.util.find_spec('tensorflow') is not None
  if which == 'tf' and not installed:
    raise errors.ConfigError(
      "data.reader='tf': TensorFlow is not installed; pip install "
      "'rsna_jax[tf]', or choose numpy"
    )
  if which == 'tf' or (which == 'auto' and installed):
    from rsna_jax.data import stream_tf

    return stream_tf.batches(*args, **kwargs)
  from rsna_jax.data import stream_np

  return stream_np.batches(*args, **kwargs)
