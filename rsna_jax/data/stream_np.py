"""Batches without TensorFlow: a pool of threads decodes ahead of the reader.

Batch t is a function of the order and t alone, so that a run that starts at
any step sees what an uninterrupted one saw.
"""

import collections
import concurrent.futures
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rsna_jax import auxiliary as auxiliary_lib
from rsna_jax import errors, schema
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import groups as groups_lib
from rsna_jax.data import metadata, preprocess

_NEVER = 2**62


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
  """Yields the batches of steps.

  Args:
    dataset: what to read.
    rows: (N,) row numbers of the dataset, which the order's positions index,
      or the groups.
    order: an object of `data/order.py`.
    encoder: of the metadata; None for none.
    target: a key of `schema.TARGETS`.
    auxiliary: keys of `auxiliary.TARGETS`.
    groups: of `rows`; an example is one of them, and the order's positions
      number them. None: an example is an image.
    start_step: the first step.
    stop_step: the step to stop before; None: the order's number of steps, or
      never.
    threads: that decode.
    prefetch: batches under way beyond the one asked for.
    process_index: of this process; it gets its part of each batch.
    process_count: number of processes that share a batch.

  Yields:
    `image` (B, H, W, 1) uint8 or uint16 ((B, 0, 0, 1) uint8 without images),
    `meta` (B, M) float32, `label_<target>` (B,) int32 (0 where missing),
    `weight` (B,) float32 (0 for padding and for missing labels), a
    `label_<name>` and a `weight_<name>` of each auxiliary target likewise, `id`
    (B,) int64: the image_id, -1 for padding. With groups, `image` is
    (B, V, H, W, 1), black in empty slots; there is `slots` (B, V, 3) int32 as
    `Groups.choose` has them; a label is that of the group's first image that
    has one, and `meta` and `id` are of its first image.

  Raises:
    errors.DataError: an image cannot be decoded or has another size.
    errors.ConfigError: the batch cannot be shared by the processes.
  """
  plan = Plan(
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
  steps = iter(plan.steps(start_step, stop_step))
  waiting: collections.deque[_Batch] = collections.deque()
  pool = concurrent.futures.ThreadPoolExecutor(threads, 'decode')
  try:
    while True:
      while len(waiting) <= prefetch:
        step = next(steps, None)
        if step is None:
          break
        waiting.append(_Batch(plan, step, pool, threads))
      if not waiting:
        return
      yield waiting.popleft().result()
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


class Plan:
  """All of a batch but its images, as a function of the step."""

  def __init__(
    self,
    dataset: dataset_lib.Dataset,
    rows: np.ndarray,
    order: Any,
    encoder: metadata.Encoder | None,
    *,
    target: str,
    auxiliary: Sequence[str] = (),
    groups: groups_lib.Groups | None = None,
    process_index: int,
    process_count: int,
  ):
    if order.batch_size % process_count:
      raise errors.ConfigError(
        f'train.batch_size={order.batch_size}: give a multiple of the '
        f'{process_count} processes'
      )
    self.dataset = dataset
    self.size = order.batch_size // process_count
    self._rows = np.asarray(rows, np.int64)
    self._order = order
    self._part = slice(
      process_index * self.size, (process_index + 1) * self.size
    )
    table = dataset.table.take(self._rows)
    self._name = f'label_{target}'
    self._labels = schema.target_labels(table.columns, target)
    self._auxiliary = {
      name: auxiliary_lib.labels(table.columns, name) for name in auxiliary
    }
    self._ids = table['image_id']
    self._meta = (
      np.zeros((len(self._rows), 0), np.float32)
      if encoder is None
      else encoder.encode(table)
    )
    self._groups = groups
    if groups is not None:
      self._group()

  def _group(self) -> None:
    """From values of images to those of groups."""
    lead = self._groups.lead
    self._labels = self._labels[lead(self._labels != schema.MISSING)]
    for name, (values, known) in self._auxiliary.items():
      places = lead(known)
      self._auxiliary[name] = values[places], known[places]
    self._ids = self._ids[self._groups.first]
    self._meta = self._meta[self._groups.first]

  @property
  def image_shape(self) -> tuple[int, ...]:
    """(B, H, W, 1), of groups (B, V, H, W, 1); H and W are 0 without images."""
    spec = self.dataset.spec
    size = (0, 0) if spec is None else spec.size
    slots = () if self._groups is None else (self._groups.slots,)
    return (self.size, *slots, *size, 1)

  @property
  def image_dtype(self) -> np.dtype:
    """uint8 or uint16."""
    spec = self.dataset.spec
    wide = spec is not None and spec.bits > 8
    return np.dtype(np.uint16 if wide else np.uint8)

  def steps(self, start: int, stop: int | None) -> range:
    """The steps to yield."""
    if stop is None:
      stop = getattr(self._order, 'steps', _NEVER)
    return range(start, stop)

  def rows(self, step: int) -> np.ndarray:
    """(B,) or, of groups, (B, V) row numbers of the dataset; -1 for none."""
    places = self._order.indices(step)[self._part]
    if self._groups is None:
      return self._rows[places]
    images, _ = self._groups.choose(places, step)
    return np.where(images < 0, -1, self._rows[images])

  def fields(self, step: int) -> dict[str, np.ndarray]:
    """The batch without `image`."""
    places = self._order.indices(step)[self._part]
    labels = self._labels[places]
    weight = (labels != schema.MISSING).astype(np.float32)
    ids = self._ids[places]
    more = {}
    for name, (values, known) in self._auxiliary.items():
      more[f'label_{name}'] = values[places]
      more[f'weight_{name}'] = known[places].astype(np.float32)
    if hasattr(self._order, 'weights'):
      real = self._order.weights(step)[self._part]
      weight = weight * real
      for name in self._auxiliary:
        more[f'weight_{name}'] = more[f'weight_{name}'] * real
      ids = np.where(real > 0, ids, -1)
    return {
      'meta': self._meta[places],
      self._name: np.where(labels == schema.MISSING, 0, labels).astype(
        np.int32
      ),
      'weight': weight,
      'id': ids,
      **more,
      **self._slots(places, step),
    }

  def _slots(self, places: np.ndarray, step: int) -> dict[str, np.ndarray]:
    if self._groups is None:
      return {}
    return {'slots': self._groups.choose(places, step)[1]}

  def bad_image(self, row: int, what: object) -> errors.DataError:
    """The error of an image that cannot be used."""
    return errors.DataError(
      f'{self.dataset.name}: image_id {self.dataset.table["image_id"][row]}: '
      f'{what}: the data set is damaged; delete the folder and run '
      'rsna-jax prepare again'
    )


class _Batch:
  """A batch whose images are being decoded."""

  def __init__(
    self,
    plan: Plan,
    step: int,
    pool: concurrent.futures.Executor,
    threads: int,
  ):
    self._fields = plan.fields(step)
    self._image = np.zeros(plan.image_shape, plan.image_dtype)
    self._futures = []
    if plan.dataset.has_images:
      rows = plan.rows(step).ravel()
      images = self._image.reshape(-1, *plan.image_shape[-3:])
      # A few images a task: less to hand over, and still every thread busy.
      for places in np.array_split(np.flatnonzero(rows >= 0), 4 * threads):
        if len(places):
          future = pool.submit(_decode, plan, rows[places], places, images)
          self._futures.append(future)

  def result(self) -> dict[str, np.ndarray]:
    for future in self._futures:
      future.result()
    return {'image': self._image, **self._fields}


def _decode(
  plan: Plan, rows: np.ndarray, places: Sequence[int], out: np.ndarray
) -> None:
  """Decodes rows into their places of a batch."""
  encoded = plan.dataset.read(rows)
  for row, place, png in zip(rows.tolist(), places, encoded, strict=True):
    try:
      pixels = preprocess.decode_png(png)
    except (OSError, ValueError, SyntaxError) as error:
      raise plan.bad_image(row, error) from error
    if pixels.shape != out.shape[1:3] or pixels.dtype != out.dtype:
      raise plan.bad_image(row, f'{pixels.shape} {pixels.dtype}')
    out[place, :, :, 0] = pixels
