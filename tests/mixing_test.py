import csv
import json

import jax
import numpy as np
import pytest
import tiny

from rsna_jax import division, errors, evaluate, mixing, run, train, transfer
from rsna_jax.data import convert, dataset, preprocess
from rsna_jax.report import leaks

_SPEC = preprocess.Spec(size=(64, 32))


def _prepare(folder, change, seed=None):
  """A prepared tiny layout whose rows `change` has changed."""
  src = folder / 'layout'
  tiny.write_layout(src)
  (src / 'test.csv').unlink()
  with (src / 'train.csv').open() as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    old = src / 'train_images' / row['patient_id'] / f'{row["image_id"]}.png'
    change(row)
    new = src / 'train_images' / row['patient_id'] / f'{row["image_id"]}.png'
    new.parent.mkdir(exist_ok=True)
    if new != old:
      old.rename(new)
    if seed is not None:  # other pixels
      new.write_bytes(_brighter(new.read_bytes()))
  with (src / 'train.csv').open('w') as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  convert.prepare(src, folder / 'data', spec=_SPEC, workers=2)
  return folder / 'data'


def _brighter(png: bytes) -> bytes:
  pixels = preprocess.decode_png(png)
  return preprocess.encode_png(
    np.where(pixels, pixels // 2 + 30, 0).astype('u1')
  )


def _rename(row):
  row['patient_id'] = str(int(row['patient_id']) + 1000)
  row['image_id'] = str(int(row['image_id']) + 10_000)


@pytest.fixture(scope='module')
def other_data(tmp_path_factory):
  """Other patients, and other pixels."""
  return _prepare(tmp_path_factory.mktemp('other'), _rename, seed=1)


def _gather(c):
  data = dataset.open_dataset(c)
  return data, mixing.gather(c, data)


def test_without_sets_mixed_in_a_run_trains_on_its_training_rows(tiny_data):
  c = tiny.make_config(tiny_data)
  data, found = _gather(c)
  parts = division.divide(c, data)
  assert found.rows.tolist() == np.flatnonzero(parts == 'train').tolist()
  assert found.own == len(found.rows) and found.fingerprints == ()


def test_the_training_rows_of_a_set_are_drawn_or_all(tiny_data, other_data):
  c = tiny.make_config(tiny_data, data__extra=(str(other_data),))
  data, found = _gather(c)
  extra = found.rows[found.own :]
  names = found.data.table['patient_id'][extra]
  c.data.dir, c.data.extra = str(other_data), ()
  other = dataset.open_dataset(c)
  of = other.table['patient_id'][division.divide(c, other) == 'train']
  assert set(names) == set(of) and len(names) == len(of)
  assert found.fingerprints == (other.fingerprint,)
  c.data.dir, c.data.extra = str(tiny_data), (str(other_data),)
  c.data.extra_rows = 'all'
  _, found = _gather(c)
  assert len(found.rows) - found.own == len(other)
  assert found.data.fingerprint == data.fingerprint


def test_no_patient_that_is_held_out_comes_back_through_a_mixture(
  tiny_data, tmp_path
):
  def shift(row):  # the same patients, other images
    row['image_id'] = str(int(row['image_id']) + 10_000)

  again = _prepare(tmp_path, shift, seed=1)
  c = tiny.make_config(
    tiny_data, data__extra=(str(again),), data__extra_rows='all'
  )
  data, found = _gather(c)
  labelled = np.flatnonzero(data.split == 'train')
  held = data.table['patient_id'][labelled[division.divide(c, data) != 'train']]
  drawn = found.data.table['patient_id'][found.rows]
  assert len(set(held)) == 4
  assert not set(held) & set(drawn)
  assert len(found.rows) == 2 * found.own


def test_no_picture_that_is_held_out_comes_back_under_another_name(
  tiny_data, tmp_path
):
  copies = _prepare(tmp_path, _rename)
  c = tiny.make_config(
    tiny_data, data__extra=(str(copies),), data__extra_rows='all'
  )
  data, found = _gather(c)
  held = np.flatnonzero(data.split == 'train')[
    division.divide(c, data) != 'train'
  ]
  own = leaks.read_hashes(data.name)
  secret = {own[x] for x in data.table['image_id'][held].tolist()}
  theirs = leaks.read_hashes(found.data.sets[1].name)
  drawn = found.data.table['image_id'][found.rows[found.own :]].tolist()
  assert len(drawn) == found.own and len(secret) == 16
  assert not {theirs[x] for x in drawn} & secret


def test_a_set_of_which_nothing_can_be_drawn_is_refused(
  tiny_data, other_data, tmp_path
):
  def unlabel(row):
    _rename(row)
    row['density'] = ''

  bare = _prepare(tmp_path, unlabel)
  c = tiny.make_config(
    tiny_data, data__extra=(str(bare),), data__target='density'
  )
  with pytest.raises(errors.DataError, match='have no density'):
    _gather(c)
  c.data.extra = (str(tmp_path / 'absent'),)
  with pytest.raises(
    errors.DataError, match=r'data\.extra: .*rsna-jax prepare'
  ):
    _gather(c)


def test_a_held_out_site_that_a_set_lacks_divides_it_as_folds(
  tiny_data, other_data
):
  c = tiny.make_config(tiny_data, data__split='machine', data__held_out=49)
  c.data.dir = str(other_data)
  other = dataset.open_dataset(c)
  other.table['machine_id'][:] = 3
  parts = division.divide_extra(c, other)
  c.data.split = 'folds'
  assert (parts == division.divide(c, other)).all()


@pytest.fixture(scope='module')
def mixed_run(tiny_data, other_data, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('mixed') / 'run'
  c = tiny.make_config(tiny_data, data__extra=(str(other_data),))
  c.train.steps = 4
  train.train_and_evaluate(c, workdir)
  return workdir


def test_a_mixed_run_names_its_sets_and_validates_on_its_own(
  mixed_run, tiny_run, other_data, tiny_data
):
  found, plain = run.load(mixed_run), run.load(tiny_run)
  c = tiny.make_config(other_data)
  assert found.extra_fingerprints == (dataset.open_dataset(c).fingerprint,)
  assert found.fingerprint == plain.fingerprint
  assert found.encoder.to_json() == plain.encoder.to_json()
  with (mixed_run / 'eval/validation/predictions.csv').open() as file:
    ours = {row['image_id'] for row in csv.DictReader(file)}
  with (tiny_run / 'eval/validation/predictions.csv').open() as file:
    assert ours == {row['image_id'] for row in csv.DictReader(file)}


def test_a_restart_with_other_sets_is_refused(
  mixed_run, tiny_data, other_data, tmp_path
):
  c = tiny.make_config(tiny_data)
  c.train.steps = 4
  with pytest.raises(errors.RunError, match=r'with other data mixed in .*none'):
    train.train_and_evaluate(c, mixed_run)
  moved = tmp_path / 'moved'
  moved.symlink_to(other_data)
  c.data.extra = (str(moved),)
  train.train_and_evaluate(c, mixed_run)  # the same data in another place


def test_figures_on_a_set_that_was_mixed_in_come_with_a_warning(
  mixed_run, other_data, caplog
):
  evaluate.evaluate(mixed_run, data_dir=other_data, split='all', write=False)
  assert 'trained on' in caplog.text


def test_a_run_that_has_drawn_what_is_held_out_here_cannot_be_started_from(
  mixed_run, tiny_data, other_data
):
  c = tiny.make_config(other_data, data__fold=1)
  c.model.init_from = str(mixed_run)
  there = run.load(mixed_run)
  here = run.Run(
    workdir=mixed_run / 'new',
    config=c,
    spec=there.spec,
    encoder=there.encoder,
    fingerprint=dataset.open_dataset(c).fingerprint,
  )
  with pytest.raises(errors.RunError, match=r'data\.fold=0, here 1'):
    transfer.begin(_state(c, there), here)
  c.data.fold = 0
  transfer.begin(_state(c, there), here)
  # All rows were drawn: then no division helps.
  path = mixed_run / 'config.json'
  text = path.read_text()
  value = json.loads(text)
  value['data']['extra_rows'] = 'all'
  path.write_text(json.dumps(value))
  try:
    with pytest.raises(errors.RunError, match='extra_rows=all'):
      transfer.begin(_state(c, there), here)
  finally:
    path.write_text(text)


def _state(c, there):
  from rsna_jax import models, optim, steps

  return steps.create_state(
    models.create(c),
    optim.create(c),
    c,
    jax.random.key(0),
    meta_width=there.encoder.width,
  )


def test_positives_and_hard_negatives_are_drawn_as_the_config_says(tiny_data):
  c = tiny.make_config(tiny_data, data__positives_per_batch=4)
  c.data.positives_final, c.data.positives_until = 1, 6
  c.data.hard_weight = 3.0
  data = dataset.open_dataset(c)
  table = data.table
  with pytest.raises(errors.DataError, match=r'hard_weight=3\.0: no row'):
    mixing.gather(c, data)
  sick = table['cancer'] == 1
  table['difficult_negative_case'][::5] = 1
  table['BIRADS'][::3] = 0
  hard = (table['difficult_negative_case'] == 1) | (table['BIRADS'] == 0)
  found = mixing.gather(c, data)
  drawn = [found.rows[found.plan.indices(t)] for t in range(400)]
  assert [int(sick[batch].sum()) for batch in drawn[:8]] == [
    *(4, 4, 3, 2, 2, 2, 1, 1)
  ]
  counts = np.bincount(np.concatenate(drawn), minlength=len(table))
  there = np.isin(np.arange(len(table)), found.rows) & ~sick
  rate = counts[there & hard].mean() / counts[there & ~hard].mean()
  assert rate == pytest.approx(3, rel=0.02)
  # One of the two alone.
  c.data.hard_negatives = ('birads_0',)
  assert (
    mixing._hard(c, data, found.rows).sum()
    == ((table['BIRADS'] == 0) & ~sick)[found.rows].sum()
  )
