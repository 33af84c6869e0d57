"""The batches of `data/stream_np.py` through tf.data; needs TensorFlow.

tf.data runs over steps: the order of examples comes from numpy, so that both
readers agree and any step can be the first one.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rsna_jax import errors
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import groups as groups_lib
from rsna_jax.data import metadata, preprocess, stream_np

# TensorFlow would take the memory of the GPUs that JAX computes on. Once it
# has started them, it is too late, and it refuses.
with contextlib.suppress(RuntimeError):
  tf.config.set_visible_devices([], 'GPU')


def batches(
  dataset: dataset_lib.Dataset,
  rows: np.ndarray,
  order: Any,
  encoder: metadata.Encoder | None,
  *,
  target: str,
  auxiliary: Sequence[str] = (),
  groups: groups_lib.Groups | None = None,
  start_step: int = 0,
  stop_step: int | None = None,
  threads: int = 2,
  prefetch: int = 2,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields what `stream_np.batches` yields, with its arguments and errors."""
  plan = stream_np.Plan(
    dataset,
    rows,
    order,
    encoder,
    target=target,
    auxiliary=auxiliary,
    groups=groups,
    process_index=process_index,
    process_count=process_count,
  )
  steps = plan.steps(start_step, stop_step)
  if not dataset.has_images:
    for step in steps:
      empty = np.empty(plan.image_shape, plan.image_dtype)
      yield {'image': empty, **plan.fields(step)}
    return
  failed: dict[int, Exception] = {}
  images = _images(plan, start_step, stop_step, threads, prefetch, failed)
  iterator = images.as_numpy_iterator()
  for step in steps:
    try:
      image = next(iterator)
    except tf.errors.OpError as error:
      raise _bad_batch(plan, step, error) from error
    if step in failed:
      raise failed[step]
    yield {'image': image, **plan.fields(step)}


def _images(
  plan: stream_np.Plan,
  start: int,
  stop: int | None,
  threads: int,
  prefetch: int,
  failed: dict[int, Exception],
) -> tf.data.Dataset:
  """Data set of the batches' images; notes the steps that cannot be read."""
  shape = (int(np.prod(plan.image_shape[:-3])), *plan.image_shape[-3:])
  dtype = tf.dtypes.as_dtype(plan.image_dtype)

  blank = preprocess.encode_png(np.zeros(shape[1:3], plan.image_dtype))

  def read(step: int) -> np.ndarray:
    found = [blank] * shape[0]
    rows = plan.rows(int(step)).ravel()
    places = np.flatnonzero(rows >= 0)
    try:
      encoded = plan.dataset.read(rows[places])
      for place, png in zip(places.tolist(), encoded, strict=True):
        found[place] = png
    except Exception as error:
      # TensorFlow would keep its text alone, and print a traceback.
      failed[int(step)] = error
    return np.array(found, object)

  def read_batch(step):
    encoded = tf.numpy_function(read, [step], tf.string, stateful=False)
    return tf.ensure_shape(encoded, shape[:1])

  def decode(encoded):
    return tf.ensure_shape(tf.io.decode_png(encoded, 1, dtype), shape[1:])

  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = False
  options.threading.private_threadpool_size = threads + 1
  options.threading.max_intra_op_parallelism = 1
  steps = plan.steps(start, stop)
  return (
    tf.data.Dataset.range(steps.start, steps.stop)
    .map(read_batch)
    .unbatch()
    .map(decode, num_parallel_calls=threads)
    .batch(shape[0], drop_remainder=True)
    .map(lambda images: tf.reshape(images, plan.image_shape))
    .prefetch(prefetch)
    .with_options(options)
  )


def _bad_batch(
  plan: stream_np.Plan, step: int, error: Exception
) -> errors.DataError:
  """Names the image of a batch that TensorFlow could not decode."""
  rows = plan.rows(step).ravel()
  for row in rows[rows >= 0].tolist():
    try:
      (png,) = plan.dataset.read([row])
      pixels = tf.io.decode_png(png, 1, tf.dtypes.as_dtype(plan.image_dtype))
      if pixels.shape != plan.image_shape[-3:]:
        return plan.bad_image(row, f'{tuple(pixels.shape)}')
    except tf.errors.OpError as reason:
      return plan.bad_image(row, str(reason.message).splitlines()[0])
  return errors.DataError(f'{plan.dataset.name}: {error}')
