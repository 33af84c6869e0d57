import csv
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rsna_jax import errors, schema
from rsna_jax.data import build, convert, image, preprocess, records, table

ROOT = pathlib.Path(__file__).parents[2]
REAL = pathlib.Path(os.environ.get('RSNA_JAX_DATA', ROOT / '../shared/data'))
SPEC = preprocess.Spec(size=(64, 32))


def breast(seed, shape=(300, 250)):
  """A half ellipse at the left edge, with some texture."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[: shape[0], : shape[1]]
  inside = ((y - shape[0] / 2) / 120) ** 2 + (x / 160) ** 2 < 1
  return np.where(inside, rng.integers(90, 220, shape), 3).astype(np.uint8)


def row_text(i, cancer=0):
  laterality = 'LR'[i % 2]
  return (
    f'1,{i // 2},{1000 + i},{laterality},CC,{40 + i},{cancer},0,0,,0,B,49,False'
  )


def write_rsna(folder, n, split='train', suffix='.png'):
  header = ','.join(schema.TRAIN_COLUMNS)
  folder.mkdir(parents=True, exist_ok=True)
  lines = [header, *(row_text(i, cancer=int(i % 3 == 0)) for i in range(n))]
  (folder / f'{split}.csv').write_text('\n'.join(lines) + '\n')
  for i in range(n):
    path = folder / f'{split}_images' / str(i // 2) / f'{1000 + i}{suffix}'
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == '.dcm':
      write_dicom(path, breast(i))
    else:
      Image.fromarray(breast(i)).save(path)
  return folder


def write_dicom(path, pixels):
  found = pydicom.Dataset()
  found.file_meta = pydicom.dataset.FileMetaDataset()
  found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  found.SOPClassUID = '1.2.840.10008.5.1.4.1.1.1.2'
  found.SOPInstanceUID = '1.2.3.4'
  found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
  found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
  found.PhotometricInterpretation = 'MONOCHROME2'
  found.SamplesPerPixel = 1
  found.Rows, found.Columns = pixels.shape
  found.BitsAllocated, found.BitsStored, found.HighBit = 16, 12, 11
  found.PixelRepresentation = 0
  found.PixelData = (pixels.astype(np.uint16) * 16).tobytes()
  found.save_as(path, enforce_file_format=True)


def prepare(src, out, **kwargs):
  return convert.prepare(src, out, spec=SPEC, **{'workers': 1, **kwargs})


def skipped_of(folder):
  with (folder / 'skipped.csv').open(newline='') as file:
    return list(csv.DictReader(file))


@pytest.fixture
def small_shards(monkeypatch):
  monkeypatch.setattr(build, 'SHARD_ROWS', 4)


def test_tfds_reads_what_was_prepared(tmp_path, small_shards):
  src = write_rsna(tmp_path / 'src', 10, suffix='.dcm')
  folder = prepare(src, tmp_path / 'out')
  assert folder == tmp_path / 'out/rsna_mammography/64x32/1.0.0'
  builder = tfds.builder_from_directory(folder)
  assert builder.info.splits['train'].shard_lengths == [4, 4, 2]
  source = builder.as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  rows = table.read_csv(src / 'train.csv')
  assert len(source) == 10
  for i, example in enumerate(source):
    path = src / f'train_images/{i // 2}/{1000 + i}.dcm'
    wanted = preprocess.standardise(image.read(path), SPEC)
    np.testing.assert_array_equal(
      preprocess.decode_png(example['image']), wanted.pixels
    )
    np.testing.assert_array_equal(example['box'], wanted.box)
    np.testing.assert_array_equal(example['to_original'], wanted.to_original)
    assert tuple(example['original_shape']) == (300, 250)
    assert example['flipped'] == wanted.flipped
    assert example['inverted'] == wanted.inverted
    for name, values in rows.columns.items():
      found = example[name]
      found = found.decode() if isinstance(found, bytes) else found
      assert found == values[i], name
  assert not list(folder.rglob('*.tmp'))


def test_rows_are_written_beside_the_shards(tmp_path):
  src = write_rsna(tmp_path / 'src', 6)
  folder = prepare(src, tmp_path / 'out')
  wanted = table.read_csv(src / 'train.csv')
  found = table.read_csv(folder / 'rows-train.csv')
  for name in wanted.columns:
    np.testing.assert_array_equal(found[name], wanted[name])
  assert json.loads((folder / 'preprocess.json').read_text()) == SPEC.to_json()
  assert not (folder / 'skipped.csv').exists()


def test_a_second_run_redoes_nothing(tmp_path, small_shards, capsys):
  src = write_rsna(tmp_path / 'src', 10)
  folder = prepare(src, tmp_path / 'out')
  before = {p: p.stat().st_mtime_ns for p in folder.glob('*.array_record-*')}
  capsys.readouterr()
  prepare(src, tmp_path / 'out')
  assert 'all 10 images are done' in capsys.readouterr().out
  assert before == {
    p: p.stat().st_mtime_ns for p in folder.glob('*.array_record-*')
  }


def test_only_the_shard_of_a_changed_file_is_redone(tmp_path, small_shards):
  src = write_rsna(tmp_path / 'src', 10)
  folder = prepare(src, tmp_path / 'out')
  fingerprint = json.loads((folder / 'records.json').read_text())
  shards = sorted(folder.glob('*.array_record-*'))
  before = [p.stat().st_mtime_ns for p in shards]
  Image.fromarray(breast(99)).save(src / 'train_images/2/1005.png')
  prepare(src, tmp_path / 'out')
  after = [p.stat().st_mtime_ns for p in shards]
  changed = [a != b for a, b in zip(before, after, strict=True)]
  assert changed == [False, True, False]
  assert json.loads((folder / 'records.json').read_text()) != fingerprint


def test_a_table_that_grew_keeps_its_finished_shards(tmp_path, small_shards):
  src = write_rsna(tmp_path / 'src', 8)
  folder = prepare(src, tmp_path / 'out')
  before = [p.stat().st_mtime_ns for p in sorted(folder.glob('*record-*'))]
  write_more = write_rsna(tmp_path / 'more', 10)
  for name in ('1008', '1009'):
    path = write_more / f'train_images/4/{name}.png'
    (src / 'train_images/4').mkdir(exist_ok=True)
    path.rename(src / f'train_images/4/{name}.png')
  (write_more / 'train.csv').rename(src / 'train.csv')
  prepare(src, tmp_path / 'out')
  shards = sorted(folder.glob('*.array_record-*'))
  assert [p.name[-14:] for p in shards] == [
    f'0000{i}-of-00003' for i in range(3)
  ]
  assert [p.stat().st_mtime_ns for p in shards[:2]] == before
  assert len(list((folder / 'shards').iterdir())) == 3


def test_another_spec_is_another_data_set(tmp_path):
  src = write_rsna(tmp_path / 'src', 2)
  first = prepare(src, tmp_path / 'out')
  spec = preprocess.Spec(size=(64, 32), bits=16)
  second = convert.prepare(src, tmp_path / 'out', spec=spec, workers=1)
  assert first != second
  assert (first / 'dataset_info.json').exists()
  assert (second / 'dataset_info.json').exists()


def test_an_interrupted_run_goes_on_where_it_ended(tmp_path):
  src = write_rsna(tmp_path / 'src', 24)
  out = tmp_path / 'out'
  folder = out / 'rsna_mammography/64x32/1.0.0'
  # Slow, so that the signal comes in the middle.
  code = (
    'import sys, time\n'
    'from rsna_jax.data import build, convert, preprocess, records\n'
    'build.SHARD_ROWS = 4\n'
    'write = records.ShardWriter.write\n'
    'def slow(self, record):\n'
    '  time.sleep(0.1)\n'
    '  write(self, record)\n'
    'records.ShardWriter.write = slow\n'
    'convert.prepare(sys.argv[1], sys.argv[2], workers=1,\n'
    '  spec=preprocess.Spec(size=(64, 32)))\n'
  )
  for signal_number in (signal.SIGINT, signal.SIGKILL):
    done = len(list((folder / 'shards').glob('*.json')))
    run = subprocess.Popen(
      [sys.executable, '-c', code, str(src), str(out)],
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    end = time.monotonic() + 60
    while len(list((folder / 'shards').glob('*.json'))) < done + 2:
      assert run.poll() is None and time.monotonic() < end
      time.sleep(0.02)
    run.send_signal(signal_number)
    assert run.wait(30) != 0
    assert not (folder / 'dataset_info.json').exists()
    if signal_number == signal.SIGINT:
      assert not list(folder.rglob('*.tmp'))
  finished = {p: p.stat().st_mtime_ns for p in folder.glob('shards/*.json')}
  assert 4 <= len(finished) < 6
  build_rows, build.SHARD_ROWS = build.SHARD_ROWS, 4
  try:
    prepare(src, out)
  finally:
    build.SHARD_ROWS = build_rows
  for path, when in finished.items():
    assert path.stat().st_mtime_ns == when
  assert not list(folder.rglob('*.tmp'))
  builder = tfds.builder_from_directory(folder)
  assert builder.info.splits['train'].num_examples == 24
  source = builder.as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  assert [example['image_id'] for example in source] == list(range(1000, 1024))


def test_a_missing_file_is_named_before_anything_is_decoded(
  tmp_path, monkeypatch
):
  src = write_rsna(tmp_path / 'src', 6)
  (src / 'train_images/1/1003.png').unlink()
  (src / 'train_images/2/1004.png').unlink()

  def never(*args):
    raise AssertionError

  monkeypatch.setattr(convert, 'examples', never)
  with pytest.raises(errors.DataError) as error:
    prepare(src, tmp_path / 'out')
  text = str(error.value)
  assert 'train_images/1/1003.dcm' in text
  assert '2 of 6' in text
  assert '--bad-files skip' in text
  assert '\n' not in text


def test_skip_lists_what_is_missing_or_bad_and_finishes_the_rest(
  tmp_path, small_shards, capsys
):
  src = write_rsna(tmp_path / 'src', 24)
  bad = {}
  rng = np.random.default_rng(0)
  for i in rng.choice(24, 6, replace=False).tolist():
    bad[i] = src / f'train_images/{i // 2}/{1000 + i}.png'
  kinds = iter(bad.items())
  next(kinds)[1].unlink()
  next(kinds)[1].write_bytes(b'')
  next(kinds)[1].write_bytes(b'no picture at all' * 10)
  path = next(kinds)[1]
  path.write_bytes(path.read_bytes()[:3000])
  Image.fromarray(np.zeros((300, 250), np.uint8)).save(next(kinds)[1])
  row = next(kinds)[0]
  text = (src / 'train.csv').read_text().splitlines()
  text[row + 1] = text[row + 1].replace(',CC,', ',XX,')
  (src / 'train.csv').write_text('\n'.join(text))
  extra = src / 'train_images/3/77.png'
  Image.fromarray(breast(0)).save(extra)

  with pytest.raises(errors.DataError):
    prepare(src, tmp_path / 'out')
  capsys.readouterr()
  folder = prepare(src, tmp_path / 'out', bad_files='skip', workers=2)
  # The bad row's image and the stranger.
  assert f'{src}: 2 images that no row' in capsys.readouterr().out

  found = skipped_of(folder)
  assert sorted(int(entry['image_id']) for entry in found) == sorted(
    1000 + i for i in bad
  )
  assert all(entry['reason'] and entry['file'] for entry in found)
  (in_table,) = (entry for entry in found if entry['line'])
  assert in_table['line'] == str(row + 2)
  kept = table.read_csv(folder / 'rows-train.csv')
  good = [1000 + i for i in range(24) if i not in bad]
  assert kept['image_id'].tolist() == good
  source = tfds.builder_from_directory(folder).as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  assert [example['image_id'] for example in source] == good


def test_a_shard_of_bad_files_alone_is_an_empty_one(tmp_path, small_shards):
  src = write_rsna(tmp_path / 'src', 12)
  for i in range(4, 8):
    (src / f'train_images/{i // 2}/{1000 + i}.png').write_bytes(b'bad')
  folder = prepare(src, tmp_path / 'out', bad_files='skip')
  builder = tfds.builder_from_directory(folder)
  assert builder.info.splits['train'].shard_lengths == [4, 0, 4]
  source = builder.as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  wanted = [1000, 1001, 1002, 1003, 1008, 1009, 1010, 1011]
  assert [example['image_id'] for example in source] == wanted


def test_stop_names_the_first_bad_file_and_keeps_what_was_done(
  tmp_path, small_shards
):
  src = write_rsna(tmp_path / 'src', 12)
  for name in ('3/1006', '4/1009'):
    (src / f'train_images/{name}.png').write_bytes(b'bad')
  with pytest.raises(errors.DataError, match=r'1006\.png.*--bad-files skip'):
    prepare(src, tmp_path / 'out')
  folder = tmp_path / 'out/rsna_mammography/64x32/1.0.0'
  assert len(list((folder / 'shards').iterdir())) == 1
  assert not (folder / 'dataset_info.json').exists()
  assert not list(folder.rglob('*.tmp'))
  # Skipping is not forgotten by a stricter run.
  prepare(src, tmp_path / 'out', bad_files='skip')
  with pytest.raises(errors.DataError, match=r'1006\.png'):
    prepare(src, tmp_path / 'out')


def test_a_rebuild_that_fails_leaves_no_half_data_set(tmp_path):
  src = write_rsna(tmp_path / 'src', 3)
  folder = prepare(src, tmp_path / 'out')
  assert (folder / 'dataset_info.json').exists()
  (src / 'train_images/0/1001.png').write_bytes(b'bad')
  with pytest.raises(errors.DataError):
    prepare(src, tmp_path / 'out')
  assert not (folder / 'dataset_info.json').exists()


def test_nothing_but_bad_files_is_an_error(tmp_path):
  src = write_rsna(tmp_path / 'src', 3)
  for path in src.rglob('*.png'):
    path.write_bytes(b'bad')
  with pytest.raises(errors.DataError, match='all 3 images are bad'):
    prepare(src, tmp_path / 'out', bad_files='skip')


def test_an_image_that_takes_too_long_is_a_bad_one(tmp_path, monkeypatch):
  src = write_rsna(tmp_path / 'src', 2)
  (tmp_path / 'slow_for_a_test.py').write_text(
    'import time\n'
    'from rsna_jax.data import convert\n'
    'def example(item):\n'
    "  time.sleep(600 if '1001' in item[0] else 0)\n"
    '  return convert.standard_example(item)\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(convert, 'standard_example', 'slow_for_a_test:example')
  folder = prepare(src, tmp_path / 'out', bad_files='skip', time_s=2)
  (entry,) = skipped_of(folder)
  assert 'not done after 2 s' in entry['reason']


def test_a_full_disk_is_one_error_with_a_path(tmp_path):
  src = write_rsna(tmp_path / 'src', 6)
  code = (
    'import resource, signal, sys\n'
    'from rsna_jax.data import build, convert, preprocess\n'
    'build.SHARD_ROWS = 2\n'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n'
    'try:\n'
    '  convert.prepare(sys.argv[1], sys.argv[2], workers=1,\n'
    '    spec=preprocess.Spec(size=(64, 32)))\n'
    'except OSError as error:\n'
    '  print(error.errno, error.filename)\n'
  )
  run = subprocess.run(
    [sys.executable, '-c', code, str(src), str(tmp_path / 'out')],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert 'array_record-00000' in run.stdout, run.stderr
  assert not list((tmp_path / 'out').rglob('*.tmp'))
  assert not list((tmp_path / 'out').rglob('*.array_record*'))
  assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 60_000


def test_two_runs_on_one_folder_do_not_meet(tmp_path):
  src = write_rsna(tmp_path / 'src', 2)
  folder = prepare(src, tmp_path / 'out')
  with (
    build._locked(folder),
    pytest.raises(errors.DataError, match='another rsna-jax prepare'),
  ):
    prepare(src, tmp_path / 'out')
  prepare(src, tmp_path / 'out')


def test_a_folder_of_neither_layout_shows_both_trees(tmp_path):
  with pytest.raises(errors.DataError, match='no such folder'):
    prepare(tmp_path / 'absent', tmp_path / 'out')
  inner = tmp_path / 'src/rsna'
  write_rsna(inner, 1)
  with pytest.raises(errors.DataError) as error:
    prepare(tmp_path / 'src', tmp_path / 'out')
  text = str(error.value)
  assert 'no train.csv' in text
  assert 'train_images/<patient_id>/<image_id>.dcm' in text
  assert 'Density1Benign' in text
  assert f'Did you mean {inner}?' in text
  for path in sorted((inner / 'train_images').rglob('*'), reverse=True):
    path.unlink() if path.is_file() else path.rmdir()
  (inner / 'train_images').rmdir()
  with pytest.raises(errors.DataError, match='train_images: no such folder'):
    prepare(inner, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_folders_are_split_by_source_image(tmp_path):
  src = tmp_path / 'src'
  names = {
    'Density1Benign': ['a (1).png', 'a (2).png', 'b (1).jpg'],
    'Density3Malignant': ['c (1).pgm', 'c (10).png'],
    'Density4Malignant': ['d.png'],
  }
  for folder, files in names.items():
    (src / folder).mkdir(parents=True)
    for i, file in enumerate(files):
      Image.fromarray(breast(i)).save(src / folder / file)
  (src / 'Density1Benign' / 'notes.txt').write_text('x')
  folder = prepare(src, tmp_path / 'out')
  assert folder.parts[-3] == 'mammography_folders'
  source = tfds.builder_from_directory(folder).as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  found = [
    (e['patient_id'], e['image_id'], e['density'], e['cancer']) for e in source
  ]
  assert found == [
    (0, 0, 1, 0),
    (0, 1, 1, 0),
    (1, 2, 1, 0),
    (2, 3, 3, 1),
    (2, 4, 3, 1),
    (3, 5, 4, 1),
  ]
  Image.fromarray(breast(7)).save(src / 'Density4Malignant' / 'a (3).png')
  with pytest.raises(errors.DataError, match=r"a \(3\).png.*source image 'a'"):
    prepare(src, tmp_path / 'out')
  prepare(src, tmp_path / 'out', bad_files='skip')
  assert len(skipped_of(folder)) == 3


def test_the_digest_of_a_record_does_not_depend_on_its_bytes():
  columns = dict.fromkeys(schema.COLUMNS, 1)
  first = records.digest(columns, b'png')
  assert first == records.digest(dict(reversed(columns.items())), b'png')
  assert first != records.digest(columns, b'pnh')
  assert first != records.digest(columns | {'age': float('nan')}, b'png')


def test_decoding_in_a_child_imports_little():
  code = (
    'import sys, rsna_jax.data.convert\n'
    "print([m for m in ('jax', 'tensorflow', 'tensorflow_datasets') "
    'if m in sys.modules])'
  )
  run = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, check=True
  )
  assert run.stdout.strip() == b'[]'


def test_real_files_and_missing_ones(tmp_path):
  real = REAL / 'rsna_dicom'
  if not real.is_dir():
    pytest.skip(f'no {real}: set RSNA_JAX_DATA')
  src = tmp_path / 'src'
  src.mkdir()
  (src / 'train_images').symlink_to((real / 'train_images').resolve())
  csv_path = real / 'train_with_missing_files.csv'
  named = table.read_csv(csv_path)
  there = {int(p.stem) for p in (real / 'train_images').rglob('*.dcm')}
  missing = [i for i in named['image_id'].tolist() if i not in there]
  with pytest.raises(errors.DataError, match=str(missing[0])):
    prepare(src, tmp_path, train_csv=csv_path)
  folder = prepare(
    src, tmp_path, train_csv=csv_path, bad_files='skip', workers=2
  )
  found = [int(entry['image_id']) for entry in skipped_of(folder)]
  assert sorted(found) == sorted(missing)
  info = tfds.builder_from_directory(folder).info
  assert info.splits['train'].num_examples == len(named) - len(missing) > 0
