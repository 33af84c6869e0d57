"""Batches whose examples are breasts, through both readers."""

import dataclasses

import numpy as np
import pytest
import streams
import tiny

from rsna_jax import errors
from rsna_jax.data import (
  dataset,
  groups,
  metadata,
  order,
  preprocess,
  stream_np,
)


@pytest.fixture(scope='module')
def data(tiny_data):
  return dataset.open_dataset(tiny.make_config(tiny_data))


@pytest.fixture(scope='module')
def rows(data):
  """Not in order, and two of the images are away: one breast has one."""
  rows = np.random.default_rng(0).permutation(len(data))
  return rows[~np.isin(data.table['image_id'][rows], [10, 20])]


@pytest.fixture(params=['numpy', 'tf'])
def reader(request):
  return streams.of(request.param)


def test_a_row_is_a_breast_with_its_images(data, rows, reader):
  found = groups.of_rows(data, rows, views=3, compare=True)
  encoder = metadata.Encoder.fit(data.table, ('age',))
  plan = order.EvalOrder(len(found), 16)
  kwargs = {'target': 'cancer', 'auxiliary': ('view',), 'groups': found}
  steps = list(reader.batches(data, rows, plan, encoder, **kwargs))
  table, encoded = data.table, encoder.encode(data.table)
  seen = []
  for batch in steps:
    assert batch['image'].shape == (16, 6, 64, 32, 1)
    assert batch['slots'].shape == (16, 6, 3)
    for row in range(16):
      first = rows[found.first[min(len(seen), len(found) - 1)]]
      number = table['image_id'][first]
      wanted = number if len(seen) < len(found) else -1
      assert batch['id'][row] == wanted
      seen.append(int(batch['id'][row]))
      np.testing.assert_array_equal(batch['meta'][row], encoded[first])
      label = table['cancer'][first]
      assert batch['label_cancer'][row] == max(label, 0)
      assert batch['weight'][row] == (label >= 0 and wanted >= 0)
      patient, side = table['patient_id'][first], table['laterality'][first]
      for which, slot in ((side, 0), ('LR'[side == 'L'], 3)):
        own = [
          one
          for one in rows
          if (table['patient_id'][one], table['laterality'][one])
          == (patient, which)
        ]
        own += [None] * (3 - len(own))
        for k, one in enumerate(own, slot):
          view, code, laterality = batch['slots'][row, k]
          pixels = batch['image'][row, k, :, :, 0]
          if one is None:
            assert code == -1
            assert not pixels.any()
            continue
          assert code == slot // 3
          assert 'LR'[laterality] == which
          assert ('CC', 'MLO')[view] == table['view'][one]
          expected = preprocess.decode_png(data.read([one])[0])
          np.testing.assert_array_equal(pixels, expected)
  assert len({x for x in seen if x >= 0}) == len(found)


def test_readers_starts_and_processes_agree(data, rows):
  pytest.importorskip('tensorflow')
  from rsna_jax.data import stream_tf

  found = groups.of_rows(data, rows, views=1, compare=True, seed=4)
  plan = order.TrainOrder(data.table['cancer'][rows[found.first]], 8, 2, 4)
  args, kwargs = (data, rows, plan, None), {'target': 'cancer', 'groups': found}
  whole = list(stream_np.batches(*args, **kwargs, stop_step=6))
  streams.assert_equal(
    whole, list(stream_tf.batches(*args, **kwargs, stop_step=6))
  )
  for reader in (stream_np, stream_tf):
    late = reader.batches(*args, **kwargs, start_step=4, stop_step=6)
    streams.assert_equal(whole[4:], list(late))
    parts = [
      list(
        reader.batches(
          *args, **kwargs, stop_step=2, process_index=i, process_count=2
        )
      )
      for i in range(2)
    ]
    together = [
      {name: np.concatenate([part[name] for part in step]) for name in step[0]}
      for step in zip(*parts, strict=True)
    ]
    streams.assert_equal(whole[:2], together)
  for batch in whole:
    assert (batch['label_cancer'] == 1).sum() == 2
  # One of two images is drawn, now this one and now that.
  views = np.concatenate([batch['slots'][:, 0, 0] for batch in whole])
  assert set(views.tolist()) == {0, 1}


def test_the_label_is_that_of_an_image_that_has_one(data, rows):
  table = data.table
  density = np.where(table['image_id'] % 2 == 0, -1, table['density'])
  columns = {**table.columns, 'density': density}
  changed = dataclasses.replace(data, table=type(table)(columns))
  found = groups.of_rows(data, rows, views=2, compare=False)
  plan = order.EvalOrder(len(found), 64)
  (batch,) = stream_np.batches(
    changed, rows, plan, None, target='density', groups=found
  )
  for breast in range(len(found)):
    values = density[rows[found.members(breast)]]
    known = values[values >= 0]
    assert batch['weight'][breast] == bool(len(known))
    if len(known):
      assert batch['label_density'][breast] == known[0] - 1


def test_a_damaged_image_of_a_breast_is_named(data, rows, reader):
  class Damaged:
    def read(self, indices):
      raise OSError('cut short')

  bad = dataclasses.replace(data, _shards=Damaged())
  found = groups.of_rows(data, rows, views=2, compare=False)
  plan = order.EvalOrder(len(found), 4)
  with pytest.raises(errors.DataError, match='cut short: the data set is dam'):
    next(reader.batches(bad, rows, plan, None, target='cancer', groups=found))
