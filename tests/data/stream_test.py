import dataclasses
import gc
import threading

import numpy as np
import pytest
import streams
from PIL import Image

from rsna_jax import config, errors, schema
from rsna_jax.data import (
  build,
  convert,
  dataset,
  joined,
  metadata,
  order,
  preprocess,
  stream_np,
  table,
)

N = 22


@pytest.fixture(scope='module', params=[8, 16])
def data(request, tmp_path_factory):
  """22 rows in 4 shards; every fourth has no density."""
  src = tmp_path_factory.mktemp('src')
  lines = [','.join(schema.TRAIN_COLUMNS)]
  y, x = np.mgrid[:300, :250]
  inside = ((y - 150) / 120) ** 2 + (x / 160) ** 2 < 1
  for i in range(N):
    density = '' if i % 4 == 0 else 'ABCD'[i % 4]
    lines.append(f'1,{i},{500 + i},L,CC,{40 + i},{i % 2},0,0,,0,{density},9,0')
    path = src / f'train_images/{i}/{500 + i}.png'
    path.parent.mkdir(parents=True)
    texture = np.random.default_rng(i).integers(90, 220, inside.shape)
    pixels = np.where(inside, texture, 3).astype(np.uint16)
    Image.fromarray(pixels * 257).save(path)
  (src / 'train.csv').write_text('\n'.join(lines) + '\n')
  out = tmp_path_factory.mktemp('out')
  spec = preprocess.Spec(size=(64, 32), bits=request.param)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(build, 'SHARD_ROWS', 6)
    convert.prepare(src, out, spec=spec, workers=1)
  c = config.default()
  c.data.update({'dir': str(out), 'size': (64, 32), 'bits': request.param})
  return dataset.open_dataset(c)


@pytest.fixture(params=['numpy', 'tf'])
def reader(request):
  return streams.of(request.param)


def test_batches_hold_what_the_order_says(data, reader):
  rows = np.random.default_rng(0).permutation(N)[:13]
  plan = order.EvalOrder(13, 5)
  encoder = metadata.Encoder.fit(data.table, ('age', 'view'))
  found = list(reader.batches(data, rows, plan, encoder, target='density'))
  assert len(found) == 3
  dtype = np.uint8 if data.spec.bits == 8 else np.uint16
  encoded = encoder.encode(data.table)
  for step, batch in enumerate(found):
    assert set(batch) == {'image', 'meta', 'label_density', 'weight', 'id'}
    assert batch['image'].shape == (5, 64, 32, 1)
    assert batch['image'].dtype == dtype
    assert batch['meta'].dtype == batch['weight'].dtype == np.float32
    assert batch['label_density'].dtype == np.int32
    assert batch['id'].dtype == np.int64
    for k in range(5):
      place = step * 5 + k
      row = rows[min(place, 12)]
      pixels = preprocess.decode_png(data.read([row])[0])
      np.testing.assert_array_equal(batch['image'][k, :, :, 0], pixels)
      np.testing.assert_array_equal(batch['meta'][k], encoded[row])
      density = data.table['density'][row]
      known = density != schema.MISSING
      assert batch['label_density'][k] == (density - 1 if known else 0)
      assert batch['weight'][k] == (place < 13 and known)
      wanted = data.table['image_id'][row] if place < 13 else -1
      assert batch['id'][k] == wanted


def test_auxiliary_labels_come_where_they_are_asked_for(data, reader):
  rows = np.arange(N)
  names = ('density', 'birads', 'age', 'view')
  found = list(
    reader.batches(
      data,
      rows,
      order.EvalOrder(N, 16),
      None,
      target='cancer',
      auxiliary=names,
    )
  )
  assert set(found[0]) - {
    f'{k}_{n}' for k in ('label', 'weight') for n in names
  } == {
    'image',
    'meta',
    'label_cancer',
    'weight',
    'id',
  }
  joined_up = {k: np.concatenate([b[k] for b in found]) for k in found[0]}
  real = np.arange(32) < N
  table = data.table
  for name in names:
    assert joined_up[f'weight_{name}'].dtype == np.float32
    assert not joined_up[f'weight_{name}'][~real].any()
  assert joined_up['label_density'].dtype == np.int32
  assert joined_up['label_age'].dtype == np.float32
  known = table['density'] != schema.MISSING
  assert 0 < known.sum() < N
  np.testing.assert_array_equal(joined_up['weight_density'][:N], known)
  np.testing.assert_array_equal(
    joined_up['label_density'][:N], np.where(known, table['density'] - 1, 0)
  )
  assert not joined_up['weight_birads'].any()  # the column is empty
  assert not joined_up['label_birads'].any()
  np.testing.assert_allclose(
    joined_up['label_age'][:N] * 10 + 58.5, table['age'], rtol=1e-6
  )
  assert (joined_up['label_view'][:N] == schema.VIEWS.index('CC')).all()
  assert (joined_up['weight'][:N] == 1).all()


def test_both_readers_give_equal_batches(data):
  pytest.importorskip('tensorflow')
  from rsna_jax.data import stream_tf

  rows = np.arange(N)[::-1]
  encoder = metadata.Encoder.fit(data.table, ('age',))
  labels = data.table['cancer'][rows]
  train = order.TrainOrder(labels, 8, 2, seed=3)
  for plan, kwargs in (
    (order.EvalOrder(N, 8), {}),
    (train, {'start_step': 5, 'stop_step': 11, 'threads': 3}),
    (
      train,
      {'stop_step': 3, 'process_index': 1, 'process_count': 4, 'prefetch': 1},
    ),
  ):
    args = (data, rows, plan, encoder)
    first = list(stream_np.batches(*args, target='density_cancer', **kwargs))
    second = list(stream_tf.batches(*args, target='density_cancer', **kwargs))
    assert first
    streams.assert_equal(first, second)


def test_a_late_start_gives_the_same_batches(data, reader):
  rows = np.arange(N)
  plan = order.TrainOrder(data.table['cancer'], 4, 1, seed=0)
  args = (data, rows, plan, None)
  whole = list(reader.batches(*args, target='cancer', stop_step=9))
  late = list(reader.batches(*args, target='cancer', start_step=6, stop_step=9))
  streams.assert_equal(whole[6:], late)
  assert whole[0]['meta'].shape == (4, 0)


def test_processes_share_the_global_batch(data, reader):
  rows = np.arange(N)
  plan = order.TrainOrder(data.table['cancer'], 6, 2, seed=1)
  kwargs = {'target': 'cancer', 'stop_step': 2}
  whole = list(reader.batches(data, rows, plan, None, **kwargs))
  parts = [
    list(
      reader.batches(
        data, rows, plan, None, process_index=i, process_count=3, **kwargs
      )
    )
    for i in range(3)
  ]
  joined = [
    {name: np.concatenate([b[name] for b in step]) for name in step[0]}
    for step in zip(*parts, strict=True)
  ]
  streams.assert_equal(whole, joined)
  with pytest.raises(errors.ConfigError, match='batch_size=6'):
    next(reader.batches(data, rows, plan, None, process_count=4, **kwargs))


def test_the_number_of_threads_changes_nothing(data, reader):
  plan = order.TrainOrder(data.table['cancer'], 7, 1, seed=1)
  args = (data, np.arange(N), plan, None)
  first, *others = (
    list(
      reader.batches(
        *args, target='cancer', stop_step=6, threads=threads, prefetch=prefetch
      )
    )
    for threads, prefetch in ((1, 1), (4, 3), (8, 1))
  )
  for other in others:
    streams.assert_equal(first, other)


def _damaged(data, bad_row, bad_png):
  """The data set with another image in one row."""

  class Damaged(dataset.Dataset):
    def read(self, indices):
      found = zip(indices, super().read(indices), strict=True)
      return [bad_png if row == bad_row else png for row, png in found]

  fields = dataclasses.fields(data)
  return Damaged(**{field.name: getattr(data, field.name) for field in fields})


def test_a_bad_image_is_named_after_the_batches_before_it(data, reader):
  plan = order.EvalOrder(N, 4)
  other = preprocess.encode_png(np.zeros((8, 8), np.uint8))
  for png in (b'\x89PNG\r\n\x1a\n broken', other):
    bad = _damaged(data, 13, png)
    stream = reader.batches(bad, np.arange(N), plan, None, target='cancer')
    for step in range(3):
      assert next(stream)['id'].tolist() == list(
        range(500 + 4 * step, 504 + 4 * step)
      )
    with pytest.raises(errors.DataError, match='image_id 513'):
      next(stream)


def test_an_error_of_reading_keeps_its_type_and_text(data, reader):
  class Shards:
    def read(self, indices):
      raise OSError(5, 'Input/output error', 'a-shard')

  bad = dataclasses.replace(data, _shards=Shards())
  plan = order.EvalOrder(N, 4)
  stream = reader.batches(bad, np.arange(N), plan, None, target='cancer')
  with pytest.raises(errors.DataError, match='a-shard'):
    next(stream)


def test_a_stream_that_is_left_stops_its_threads(data):
  before = threading.active_count()
  plan = order.TrainOrder(data.table['cancer'], 4, 1, seed=0)
  stream = stream_np.batches(data, np.arange(N), plan, None, target='cancer')
  for _ in range(3):
    next(stream)
  assert threading.active_count() > before
  stream.close()
  gc.collect()
  assert threading.active_count() == before


def test_a_table_without_images_streams_empty_ones(data, reader):
  bare = dataclasses.replace(data, _shards=None, spec=None)
  plan = order.EvalOrder(N, 8)
  encoder = metadata.Encoder.fit(data.table, ('age',))
  args = (np.arange(N), plan, encoder)
  found = list(reader.batches(bare, *args, target='cancer'))
  assert len(found) == 3
  assert found[0]['image'].shape == (8, 0, 0, 1)
  assert found[0]['image'].dtype == np.uint8
  full = list(reader.batches(data, *args, target='cancer'))
  for batch in (*found, *full):
    del batch['image']
  streams.assert_equal(found, full)


def test_both_readers_mix_sets_alike(data):
  pytest.importorskip('tensorflow')
  from rsna_jax.data import stream_tf

  other = dataclasses.replace(
    data,
    table=table.Table(
      {**data.table.columns, 'image_id': data.table['image_id'] + 1000}
    ),
  )
  both = joined.join([data, other])
  rows = np.r_[np.arange(4, 18), N + np.arange(3, N)]
  labels = both.table['cancer'][rows]
  plan = order.MixedOrder(labels[:14], labels[14:], 8, 3, 2, seed=3)
  encoder = metadata.Encoder.fit(data.table, ('age',))
  args = (both, rows, plan, encoder)
  kwargs = {'target': 'density_cancer', 'start_step': 3, 'stop_step': 9}
  first = list(stream_np.batches(*args, **kwargs))
  second = list(stream_tf.batches(*args, **kwargs))
  streams.assert_equal(first, second)
  whole = list(stream_np.batches(*args, target='density_cancer', stop_step=9))
  streams.assert_equal(whole[3:], first)
  for batch in first:
    assert (batch['id'] >= 1500).sum() == 3
    for name, pixels in zip(batch['id'], batch['image'], strict=True):
      png = data.read([int(name) % 1000 - 500])[0]
      np.testing.assert_array_equal(pixels[:, :, 0], preprocess.decode_png(png))


def test_sets_of_other_specs_are_not_mixed(data):
  other = dataclasses.replace(data, spec=preprocess.Spec(size=(32, 32)))
  with pytest.raises(errors.DataError, match='with one spec'):
    joined.join([data, other])
