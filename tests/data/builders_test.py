import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rsna_jax import config, errors, schema
from rsna_jax.data import convert, dataset, features, preprocess, records
from rsna_jax.data.mammography_folders import (
  mammography_folders_dataset_builder,
)
from rsna_jax.data.rsna_mammography import rsna_mammography_dataset_builder

ROOT = pathlib.Path(__file__).parents[2]
SPEC = preprocess.Spec(size=(64, 32))
BUILDERS = {
  'rsna_mammography': rsna_mammography_dataset_builder.Builder,
  'mammography_folders': mammography_folders_dataset_builder.Builder,
}


def save_breast(path, seed):
  y, x = np.mgrid[:300, :250]
  inside = ((y - 150) / 120) ** 2 + (x / 160) ** 2 < 1
  texture = np.random.default_rng(seed).integers(90, 220, (300, 250))
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.where(inside, texture, 3).astype(np.uint8)).save(path)


def write_rsna(src):
  for split, names in (
    ('train', schema.TRAIN_COLUMNS),
    ('test', schema.TEST_COLUMNS),
  ):
    lines = [','.join(names)]
    for i in range(7 if split == 'train' else 2):
      values = {
        'site_id': 1,
        'patient_id': i,
        'image_id': 900 - i,
        'laterality': 'L',
        'view': 'MLO',
        'age': '' if i == 2 else 50.25 + i,
        'cancer': i % 2,
        'implant': 0,
        'machine_id': 49,
        'prediction_id': f'{i}_L',
      }
      lines.append(','.join(str(values.get(name, '')) for name in names))
      save_breast(src / f'{split}_images/{i}/{900 - i}.png', i)
    (src / f'{split}.csv').write_text('\n'.join(lines) + '\n')


def write_folders(src):
  for i, name in enumerate(('1Benign/a (1)', '1Benign/a (2)', '3Malignant/b')):
    save_breast(src / f'Density{name}.png', i)


@pytest.mark.parametrize('name', BUILDERS)
def test_tfds_builds_the_same_data_set_without_tensorflow(name, tmp_path):
  src = tmp_path / 'src'
  (write_rsna if name == 'rsna_mammography' else write_folders)(src)
  code = (
    'import sys\n'
    'import tensorflow_datasets as tfds\n'
    'from rsna_jax.data import features, preprocess\n'
    f'from rsna_jax.data.{name} import {name}_dataset_builder as module\n'
    'spec = preprocess.Spec(size=(64, 32))\n'
    'builder = module.Builder(\n'
    f'  data_dir={str(tmp_path / "tfds")!r},\n'
    '  config=features.builder_config(spec, workers=1))\n'
    'builder.download_and_prepare(download_config=\n'
    f'  tfds.download.DownloadConfig(manual_dir={str(src)!r}))\n'
    "assert 'tensorflow' not in sys.modules\n"
    "assert 'jax' not in sys.modules\n"
  )
  run = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    check=False,
  )
  assert run.returncode == 0, run.stderr
  convert.prepare(src, tmp_path / 'ours', spec=SPEC, workers=1)
  c = config.default()
  c.data.update({'name': name, 'size': (64, 32)})
  opened = {}
  for where in ('ours', 'tfds', 'tfds again'):
    c.data.dir = str(tmp_path / where.split()[0])
    opened[where] = dataset.open_dataset(c)
  wanted = opened.pop('ours')
  folder = tmp_path / f'tfds/{name}/64x32/1.0.0'
  assert (folder / 'records.json').exists()
  for found in opened.values():
    assert found.fingerprint == wanted.fingerprint
    assert found.spec == wanted.spec
    assert found.split.tolist() == wanted.split.tolist()
    for column, values in wanted.table.columns.items():
      np.testing.assert_array_equal(found.table[column], values)
    every = range(len(wanted))
    assert found.read(every) == wanted.read(every)


def test_a_missing_folder_is_answered_with_the_tree(tmp_path):
  builder = BUILDERS['rsna_mammography'](
    data_dir=tmp_path / 'data', config='512x256'
  )
  empty = tmp_path / 'empty'
  empty.mkdir()
  for manual in (tmp_path / 'absent', empty):
    with pytest.raises(AssertionError) as error:
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual)
      )
    assert str(manual) in str(error.value)
    assert 'train_images/<patient_id>/<image_id>.dcm' in str(error.value)


@pytest.mark.parametrize(
  'name, wanted',
  [
    ('rsna_mammography', 'no train.csv and no test.csv'),
    ('mammography_folders', 'no folder Density1Benign'),
  ],
)
def test_the_first_thing_missing_is_named(name, wanted, tmp_path):
  manual = tmp_path / 'manual'
  (manual / 'images').mkdir(parents=True)
  builder = BUILDERS[name](data_dir=tmp_path / 'data', config='512x256')
  with pytest.raises(errors.DataError, match=wanted):
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=manual)
    )


@pytest.mark.parametrize('name', BUILDERS)
def test_builders_describe_themselves(name, tmp_path):
  builder = BUILDERS[name](data_dir=tmp_path)
  assert builder.name == name
  assert builder.builder_config.name == '512x256'
  assert str(builder.version) == '1.0.0'
  assert builder.info.features['image'].shape == (512, 256, 1)
  assert builder.info.description
  for column in schema.COLUMNS:
    assert column in builder.info.features


def test_our_parser_reads_what_tfds_writes():
  spec = preprocess.Spec(size=(64, 32), bits=16)
  described = features.features(spec)
  example = {
    name: {'i': -1, 'f': np.nan, 'U': 'ÄM'}[dtype.kind]
    for name, dtype in schema.COLUMNS.items()
  }
  example |= {
    'image_id': 2**31,
    'age': 61.3,
    'image': preprocess.encode_png(
      np.arange(2048, dtype=np.uint16).reshape(64, 32)
    ),
    'box': np.array([1.5, 2, 3, 4], np.float32),
    'original_shape': np.array([5000, 4000], np.int32),
    'flipped': True,
    'inverted': False,
    'to_original': np.arange(6.0).reshape(2, 3) / 3,
  }
  record = described.serialize_example(example)
  wanted = described.deserialize_example_np(
    record, decoders={'image': tfds.decode.SkipDecoding()}
  )
  found = records.parse_example(record)
  assert set(found) == set(wanted)
  assert records.parse_bytes(record, 'image') == wanted['image']
  for name, values in found.items():
    if name == 'to_original':
      values = np.frombuffer(values[0], np.float64)
    np.testing.assert_array_equal(
      np.ravel(values), np.ravel(wanted[name]), err_msg=name
    )
  for end in (1, 10, len(record) // 2, len(record) - 1):
    with pytest.raises(ValueError):
      records.parse_example(record[:end])
