"""CBIS-DDSM, small and in the layout of TFDS's own builder."""

import csv
import json
import pathlib
import shutil
import struct

import numpy as np
import pytest
import small_set
import tiny
from PIL import Image
from tensorflow_datasets.image_classification import cbis_ddsm as builder

from rsna_jax import errors, mixing
from rsna_jax.data import cbis_ddsm, dataset


def _finding(pathology, assessment, kind):
  of = {
    'mass': {'mass_shape': 'OVAL', 'mass_margins': 'SPICULATED'},
    'calc': {'calc_type': 'EGGSHELL', 'calc_distribution': 'LINEAR'},
  }
  return {
    'id': 1,
    'mask': np.zeros((4, 4, 1), np.uint8),
    'assessment': assessment,
    'pathology': pathology,
    'subtlety': 3,
    **of[kind],
  }


# name, patient, breast, view, split, findings
MASSES = [
  ('1.2/3', 'P_00001', 'LEFT', 'CC', 'train', [('MALIGNANT', 5)]),
  (
    *('1.2/4', 'P_00001', 'LEFT', 'MLO', 'train'),
    [('BENIGN', 3), ('MALIGNANT', 4)],
  ),
  ('1.2/5', 'P_00007', 'RIGHT', 'CC', 'train', [('BENIGN', 2)]),
  (
    *('1.2/6', 'P_00017', 'RIGHT', 'MLO', 'test'),
    [('BENIGN_WITHOUT_CALLBACK', 2)],
  ),
]
CALCIFICATIONS = [
  ('1.2/5', 'P_00007', 'RIGHT', 'CC', 'train', [('MALIGNANT', 4)]),
  ('1.2/9', 'P_00023', 'LEFT', 'CC', 'test', [('BENIGN', 0)]),
]


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """What TFDS's builder writes, of rows in place of its downloads."""
  root = tmp_path_factory.mktemp('tfds')
  rows = {'original-mass': MASSES, 'original-calc': CALCIFICATIONS}

  def splits(self, unused_manager):
    of = rows[self.builder_config.name]
    return {
      split: self._generate_examples(
        [row for row in of if row[4] == split], self.builder_config.name[9:]
      )
      for split in ('train', 'test')
    }

  def examples(self, rows, kind):
    for name, patient, breast, view, _, findings in rows:
      yield (
        name,
        {
          'id': name,
          'patient': patient,
          'breast': breast,
          'view': view,
          'image': small_set.breast(int(name[-1]))[..., None],
          'abnormalities': [_finding(*one, kind) for one in findings],
        },
      )

  written = {}
  with pytest.MonkeyPatch.context() as patch:
    of = builder.CuratedBreastImagingDDSM
    patch.setattr(of, '_split_generators', splits)
    patch.setattr(of, '_generate_examples', examples)
    for config_name, file_format in zip(
      rows, ('tfrecord', 'array_record'), strict=True
    ):
      made = of(data_dir=root, config=config_name, file_format=file_format)
      made.download_and_prepare()
      written[config_name] = pathlib.Path(made.data_dir)
  return written


@pytest.fixture(scope='module')
def layout(folders, tmp_path_factory):
  out = tmp_path_factory.mktemp('layout')
  assert cbis_ddsm.export(folders.values(), out) == 5
  return out


def test_labels_are_harmonised_with_rsnas_columns(layout):
  with (layout / 'train.csv').open() as file:
    rows = list(csv.DictReader(file))
  found = {
    (int(row['patient_id']) - cbis_ddsm.FIRST_PATIENT, row['view']): tuple(
      row[name]
      for name in ('laterality', 'cancer', 'BIRADS', 'difficult_negative_case')
    )
    for row in rows
  }
  assert found == {
    (1, 'CC'): ('L', '1', '5', 'False'),
    (1, 'MLO'): ('L', '1', '4', 'False'),
    (7, 'CC'): ('R', '1', '4', 'False'),  # in both sets; one says malignant
    (17, 'MLO'): ('R', '0', '2', 'False'),
    (23, 'CC'): ('L', '0', '0', 'True'),
  }
  assert {row['density'] for row in rows} == {''}
  assert len({row['image_id'] for row in rows}) == 5


def test_pictures_are_those_of_the_records(layout):
  pictures = sorted(layout.glob('train_images/*/*.png'))
  seeds = {1: (3, 4), 7: (5,), 17: (6,), 23: (9,)}
  assert len(pictures) == 5
  for path in pictures:
    patient = int(path.parent.name) - cbis_ddsm.FIRST_PATIENT
    pixels = np.asarray(Image.open(path))
    assert any(
      np.array_equal(pixels, small_set.breast(seed)) for seed in seeds[patient]
    )


def test_a_second_export_leaves_pictures_that_are_there(folders, layout):
  before = {p: p.stat().st_mtime_ns for p in layout.rglob('*.png')}
  cbis_ddsm.export(folders.values(), layout)
  assert {p: p.stat().st_mtime_ns for p in layout.rglob('*.png')} == before


def test_the_numbers_of_labels_are_the_builders():
  assert builder._BREAST_LABELS == ('LEFT', 'RIGHT')
  assert builder._IMAGE_VIEW_LABELS == cbis_ddsm.VIEWS
  names = [builder._PATHOLOGY_LABELS[i] for i in range(3)]
  assert names.index('BENIGN') == cbis_ddsm.BENIGN
  assert names.index('MALIGNANT') == cbis_ddsm.MALIGNANT


def test_what_was_exported_is_prepared_and_mixed_in(
  layout, tiny_data, tmp_path
):
  small_set.prepare(layout, tmp_path)
  c = tiny.make_config(
    tiny_data, data__extra=(str(tmp_path),), data__extra_rows='all'
  )
  found = mixing.gather(c, dataset.open_dataset(c))
  extra = found.rows[found.own :]
  assert len(extra) == 5
  assert found.data.table['cancer'][extra].sum() == 3
  batch = found.plan.indices(0)
  assert (batch >= found.own).sum() == 4  # half of 8


def test_what_is_not_that_data_set_is_refused_in_one_line(folders, tmp_path):
  mass = folders['original-mass']
  with pytest.raises(errors.DataError, match='folder of a version'):
    cbis_ddsm.export([mass.parent], tmp_path)
  copy = tmp_path / 'original-mass' / '3.0.0'
  shutil.copytree(mass, copy)
  (shard,) = copy.glob('*-train.tfrecord*')
  data = shard.read_bytes()
  shard.write_bytes(data[:-9])
  with pytest.raises(errors.DataError, match=r'train.*cut short'):
    cbis_ddsm.export([copy], tmp_path / 'out')
  (size,) = struct.unpack('<Q', data[:8])
  shard.write_bytes(data[: size + 16])
  with pytest.raises(errors.DataError, match='1 of 3 examples'):
    cbis_ddsm.export([copy], tmp_path / 'out')
  shard.write_bytes(struct.pack('<QI', 4, 0) + b'none' + bytes(4))
  with pytest.raises(errors.DataError, match='build it again'):
    cbis_ddsm.export([copy], tmp_path / 'out')
  info = json.loads((copy / 'dataset_info.json').read_text())
  info['configName'] = 'patches'
  (copy / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(errors.DataError, match='which hold whole mammograms'):
    cbis_ddsm.export([copy], tmp_path / 'out')
  assert not (tmp_path / 'out' / 'train.csv').exists()
