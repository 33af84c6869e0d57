import json
import threading

import numpy as np
import pytest
from PIL import Image

from rsna_jax import config, errors, schema
from rsna_jax.data import build, convert, dataset, image, preprocess, table

SPEC = preprocess.Spec(size=(64, 32))


def breast(seed):
  y, x = np.mgrid[:300, :250]
  inside = ((y - 150) / 120) ** 2 + (x / 160) ** 2 < 1
  texture = np.random.default_rng(seed).integers(90, 220, (300, 250))
  return np.where(inside, texture, 3).astype(np.uint8)


def write_rsna(folder, split, ids):
  names = schema.TRAIN_COLUMNS if split == 'train' else schema.TEST_COLUMNS
  lines = [','.join(names)]
  for i in ids:
    values = {
      'site_id': 1,
      'patient_id': i // 2,
      'image_id': i,
      'laterality': 'LR'[i % 2],
      'view': 'CC',
      'age': '' if i % 5 == 0 else 40.5 + i % 7,
      'cancer': i % 2,
      'implant': 0,
      'machine_id': 49,
      'prediction_id': f'{i // 2}_{"LR"[i % 2]}',
    }
    lines.append(','.join(str(values.get(name, '')) for name in names))
    path = folder / f'{split}_images/{i // 2}/{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(breast(i)).save(path)
  (folder / f'{split}.csv').write_text('\n'.join(lines) + '\n')


def config_of(folder, **data):
  c = config.default()
  c.data.dir = str(folder)
  c.data.size = SPEC.size
  c.data.update(data)
  return c


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Source and data folder: 10 training images in shards, and 3 for test."""
  root = tmp_path_factory.mktemp('prepared')
  write_rsna(root / 'src', 'train', range(100, 110))
  write_rsna(root / 'src', 'test', range(200, 203))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(build, 'SHARD_ROWS', 4)
    convert.prepare(root / 'src', root / 'out', spec=SPEC, workers=1)
  return root / 'src', root / 'out'


def wanted_pixels(src, split, i):
  path = src / f'{split}_images/{i // 2}/{i}.png'
  return preprocess.standardise(image.read(path), SPEC).pixels


def test_rows_and_images_belong_together(prepared):
  src, out = prepared
  found = dataset.open_dataset(config_of(out))
  assert found.has_images
  assert found.spec == SPEC
  assert found.split.tolist() == ['train'] * 10 + ['test'] * 3
  assert found.table['image_id'].tolist() == [*range(100, 110), 200, 201, 202]
  assert (found.table['cancer'][10:] == schema.MISSING).all()
  assert np.isnan(found.table['age'][[0, 5, 10]]).all()
  places = [11, 3, 9, 3, 0, 12]
  for place, png in zip(places, found.read(places), strict=True):
    i = found.table['image_id'][place]
    wanted = wanted_pixels(src, found.split[place], i)
    np.testing.assert_array_equal(preprocess.decode_png(png), wanted)
  for place in (-1, 13):
    with pytest.raises(IndexError):
      found.read([place])


def test_one_split_alone(prepared):
  src, out = prepared
  found = dataset.open_dataset(config_of(out), 'test')
  assert found.table['prediction_id'].tolist() == ['100_L', '100_R', '101_L']
  (png,) = found.read([2])
  wanted = wanted_pixels(src, 'test', 202)
  np.testing.assert_array_equal(preprocess.decode_png(png), wanted)
  for place in (-1, 3):
    with pytest.raises(IndexError):
      found.read([place])


def test_many_threads_read_the_right_images(prepared):
  _, out = prepared
  found = dataset.open_dataset(config_of(out))
  wanted = found.read(range(len(found)))
  wrong = []

  def read(seed):
    rng = np.random.default_rng(seed)
    for _ in range(100):
      places = rng.integers(0, len(found), 5)
      if found.read(places) != [wanted[i] for i in places]:
        wrong.append(places)

  threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


def test_the_fingerprint_is_that_of_the_content(prepared, tmp_path):
  _, out = prepared
  wanted = dataset.open_dataset(config_of(out)).fingerprint
  # In other shards, from files with other times.
  write_rsna(tmp_path / 'a', 'train', range(100, 110))
  write_rsna(tmp_path / 'a', 'test', range(200, 203))
  convert.prepare(tmp_path / 'a', tmp_path / 'out', spec=SPEC, workers=1)
  c = config_of(tmp_path / 'out')
  assert dataset.open_dataset(c).fingerprint == wanted
  write_rsna(tmp_path / 'a', 'train', range(100, 109))
  convert.prepare(tmp_path / 'a', tmp_path / 'out', spec=SPEC, workers=1)
  assert dataset.open_dataset(c).fingerprint != wanted


def test_what_is_not_prepared_is_answered_with_the_command(prepared, tmp_path):
  _, out = prepared
  with pytest.raises(errors.DataError) as error:
    dataset.open_dataset(config_of(out, size=(128, 64), bits=16))
  text = str(error.value)
  assert 'no rsna_mammography at 128x64_16bit' in text
  assert '64x32 are there' in text
  assert f'--data-dir {out} --size 128x64 --bits 16' in text
  with pytest.raises(errors.DataError, match='rsna-jax prepare SRC'):
    dataset.open_dataset(config_of(tmp_path / 'absent'))


@pytest.fixture
def copy(prepared, tmp_path):
  """The folder of a data set that may be damaged."""
  _, out = prepared
  folder = tmp_path / 'rsna_mammography/64x32/1.0.0'
  folder.mkdir(parents=True)
  for path in (out / 'rsna_mammography/64x32/1.0.0').iterdir():
    if path.is_file():
      (folder / path.name).write_bytes(path.read_bytes())
  return folder


def test_an_unfinished_data_set_is_not_read(copy, tmp_path):
  (copy / 'dataset_info.json').unlink()
  with pytest.raises(errors.DataError, match='not finished: run the same'):
    dataset.open_dataset(config_of(tmp_path))


@pytest.mark.parametrize(
  'name, text',
  [
    ('dataset_info.json', '{'),
    ('dataset_info.json', '{}'),
    ('preprocess.json', 'x'),
    ('records.json', '[]'),
  ],
)
def test_a_damaged_description_is_named(copy, tmp_path, name, text):
  (copy / name).write_text(text)
  with pytest.raises(errors.DataError, match=name):
    dataset.open_dataset(config_of(tmp_path))


def test_a_missing_shard_is_named(copy, tmp_path):
  path = sorted(copy.glob('*-train.array_record-*'))[1]
  path.unlink()
  with pytest.raises(errors.DataError, match=path.name):
    dataset.open_dataset(config_of(tmp_path))


def test_rows_that_do_not_fit_the_records_are_an_error(copy, tmp_path):
  path = copy / 'rows-train.csv'
  lines = path.read_text().splitlines()
  path.write_text('\n'.join(lines[:-1]) + '\n')
  with pytest.raises(errors.DataError, match='9 rows for 10 images'):
    dataset.open_dataset(config_of(tmp_path))


def test_a_damaged_shard_is_an_error_or_harmless(copy, tmp_path):
  path = sorted(copy.glob('*-train.array_record-*'))[0]
  sound = dataset.open_dataset(config_of(tmp_path)).read(range(4))
  data = bytearray(path.read_bytes())
  rng = np.random.default_rng(0)
  used = [i for i, byte in enumerate(data) if byte]
  caught = 0
  for place in rng.choice(used, 40, replace=False).tolist():
    path.write_bytes(
      data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    )
    found = dataset.open_dataset(config_of(tmp_path))
    try:
      assert found.read(range(4)) == sound
    except errors.DataError as error:
      caught += 1
      assert 'damaged' in str(error)
  assert caught > 30


def test_folders_have_a_source_for_a_patient(tmp_path):
  for folder, name in (
    ('Density2Benign', 'a (1)'),
    ('Density2Benign', 'a (2)'),
    ('Density4Malignant', 'b'),
  ):
    path = tmp_path / 'src' / folder / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(breast(len(name))).save(path)
  convert.prepare(tmp_path / 'src', tmp_path / 'out', spec=SPEC, workers=1)
  c = config_of(tmp_path / 'out', name='mammography_folders')
  found = dataset.open_dataset(c)
  assert found.table['patient_id'].tolist() == [0, 0, 1]
  assert found.table['prediction_id'].tolist() == ['0', '0', '1']
  labels = schema.target_labels(found.table.columns, 'density_cancer')
  names = [schema.DENSITY_CANCER_CLASSES[label] for label in labels]
  assert names == ['Density2Benign', 'Density2Benign', 'Density4Malignant']


def test_a_csv_is_a_data_set_without_images(prepared, tmp_path):
  src, _ = prepared
  for path in (src, src / 'train.csv'):
    found = dataset.open_dataset(config_of(path, name='csv'))
    assert not found.has_images
    assert found.spec is None
    wanted = table.read_csv(src / 'train.csv')
    rows = np.flatnonzero(found.split == 'train')
    assert found.table['image_id'][rows].tolist() == (
      wanted['image_id'].tolist()
    )
    with pytest.raises(errors.DataError, match='without images'):
      found.read([0])
  with pytest.raises(errors.DataError, match=r'no train\.csv'):
    dataset.open_dataset(config_of(tmp_path, name='csv'))


def test_the_info_names_no_place_on_this_machine(prepared):
  _, out = prepared
  for path in (out / 'rsna_mammography/64x32/1.0.0').rglob('*.json'):
    assert str(out) not in path.read_text()
    json.loads(path.read_text())


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'bits': 16, 'window': 'linear'},
    {'quality': 'exact', 'for_processing': 'accept'},
    {'window': 'none', 'quality': 'fine'},
  ],
)
def test_the_name_of_a_folder_says_how_its_images_were_made(fields, tmp_path):
  spec = preprocess.Spec(size=(64, 32), **fields)
  found = dataset._spec_json(tmp_path / spec.name() / '1.0.0')
  assert preprocess.Spec.from_json(found) == spec
