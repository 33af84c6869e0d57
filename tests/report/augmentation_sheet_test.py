import io
import logging

import jax
import numpy as np
import pytest
from PIL import Image

from rsna_jax import config, steps
from rsna_jax.report import augmentation_sheet as sheet


def make_config(**fields):
  c = config.default()
  for name in c.augment:
    c.augment[name] = type(c.augment[name])(0)
  c.augment.update({'sheet': 3, **fields})
  return c


def make_batch(count=4, views=0):
  rng = np.random.default_rng(0)
  shape = (count, *([views] if views else []), 40, 20, 1)
  return {
    'image': rng.integers(0, 120, shape, np.uint8),
    'meta': np.zeros((count, 0), np.float32),
    'label_cancer': np.arange(count, dtype=np.int32) % 2,
    'weight': np.ones(count, np.float32),
    'id': np.arange(count),
  }


def test_the_first_variant_is_what_the_step_gives_the_network():
  c = make_config(flip_vertical=0.5, gamma=0.5, mixup=0.5, mixup_alpha=0.4)
  batch = make_batch(8)
  rows = {name: value for name, value in batch.items() if name != 'id'}
  key, _ = steps.step_keys(jax.random.key(c.seed), 7)
  expected, _, mixed = jax.jit(lambda r, k: steps.seen(r, k, c.augment))(
    rows, key
  )
  first, shares = sheet.variants_of(sheet._first(batch, 3), c, 7)
  np.testing.assert_allclose(first[0], expected[:4], atol=1e-6)
  np.testing.assert_allclose(shares[0], mixed['mix'][:4], atol=1e-6)
  assert shares.shape == (sheet.STEPS, 4) and (shares < 1).any()


def test_a_row_shows_the_original_and_its_variants():
  c = make_config(flip_vertical=1.0)
  picture = Image.open(io.BytesIO(sheet.draw(make_batch(), c)))
  grey = np.asarray(picture.convert('L')).astype(int)
  # 224 x 112 pixels in cells 128 wide; nothing in them is as bright as paper.
  top = int(np.argmax((grey[:, 8:120] < 240).all(axis=1)))
  cells = [grey[top : top + 224, 8 + 128 * k : 120 + 128 * k] for k in range(6)]
  for cell in cells[1:]:
    np.testing.assert_allclose(cell, cells[0][::-1], atol=2)
  assert picture.width == 6 * 128 + 8


def test_what_is_on_is_named():
  assert sheet.switched_on(make_config().augment) == 'no augmentation is on'
  c = make_config(noise=0.05, cutout=3, cutout_size=0.2)
  assert sheet.switched_on(c.augment) == 'cutout 3, noise 0.05'


def test_empty_slots_of_a_breast_are_left_out():
  c = make_config()
  batch = make_batch(views=2)
  batch['slots'] = np.zeros((4, 2, 3), np.int32)
  full = Image.open(io.BytesIO(sheet.draw(batch, c))).height
  batch['slots'][1, 1, 1] = -1
  less = Image.open(io.BytesIO(sheet.draw(batch, c))).height
  # Of six pictures one, 224 pixels and its caption.
  assert full - less == 224 + 17 + 8


def test_a_sheet_is_written_once_and_not_where_none_is_wanted(tmp_path):
  c = make_config()
  path = sheet.write(tmp_path, make_batch(), c)
  assert path == tmp_path / 'plots/augmentations.png'
  before = path.stat().st_mtime_ns
  assert sheet.write(tmp_path, make_batch(), c) is None
  assert path.stat().st_mtime_ns == before
  c.augment.sheet = 0
  assert sheet.write(tmp_path / 'other', make_batch(), c) is None
  c.augment.sheet = 3
  table = {k: v for k, v in make_batch().items() if k != 'image'}
  assert sheet.write(tmp_path / 'other', table, c) is None
  assert not (tmp_path / 'other').exists()


def test_a_sheet_that_cannot_be_written_is_one_line(tmp_path, caplog):
  (tmp_path / 'plots').write_text('a file where the folder should be')
  with caplog.at_level(logging.WARNING):
    assert sheet.write(tmp_path, make_batch(), make_config()) is None
  (record,) = caplog.records
  text = record.getMessage()
  assert 'augmentations.png' in text and 'the run goes on' in text
  assert '\n' not in text


@pytest.mark.parametrize('process', [1, 3])
def test_other_processes_write_nothing(tmp_path, monkeypatch, process):
  monkeypatch.setattr(jax, 'process_index', lambda: process)
  assert sheet.write(tmp_path, make_batch(), make_config()) is None
  assert not list(tmp_path.iterdir())
