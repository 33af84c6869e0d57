import json
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest
import small_set
import tensorflow_datasets as tfds
from PIL import Image

from rsna_jax import errors, schema
from rsna_jax.data import build, convert, image, preprocess, records, table

ROOT = pathlib.Path(__file__).parents[2]
REAL = pathlib.Path(os.environ.get('RSNA_JAX_DATA', ROOT / '../shared/data'))


@pytest.fixture
def small_shards(monkeypatch):
  monkeypatch.setattr(build, 'SHARD_ROWS', 4)


def test_tfds_reads_what_was_prepared(tmp_path, small_shards):
  src = small_set.write_rsna(tmp_path / 'src', 10, suffix='.dcm')
  folder = small_set.prepare(src, tmp_path / 'out')
  assert folder == tmp_path / 'out/rsna_mammography/64x32/1.0.0'
  builder = tfds.builder_from_directory(folder)
  lengths = builder.info.splits['train'].shard_lengths
  assert sum(lengths) == 10
  assert len(lengths) > 1
  source = builder.as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  rows = table.read_csv(src / 'train.csv')
  assert len(source) == 10
  for i, example in enumerate(source):
    path = src / f'train_images/{i // 2}/{1000 + i}.dcm'
    wanted = preprocess.standardise(image.read(path), small_set.SPEC)
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
  src = small_set.write_rsna(tmp_path / 'src', 6)
  folder = small_set.prepare(src, tmp_path / 'out')
  wanted = table.read_csv(src / 'train.csv')
  found = table.read_csv(folder / 'rows-train.csv')
  for name in wanted.columns:
    np.testing.assert_array_equal(found[name], wanted[name])
  assert (
    json.loads((folder / 'preprocess.json').read_text())
    == small_set.SPEC.to_json()
  )
  assert not (folder / 'skipped.csv').exists()


def test_another_spec_is_another_data_set(tmp_path):
  src = small_set.write_rsna(tmp_path / 'src', 2)
  first = small_set.prepare(src, tmp_path / 'out')
  spec = preprocess.Spec(size=(64, 32), bits=16)
  second = convert.prepare(src, tmp_path / 'out', spec=spec, workers=1)
  assert first != second
  assert (first / 'dataset_info.json').exists()
  assert (second / 'dataset_info.json').exists()


def test_a_missing_file_is_named_before_anything_is_decoded(
  tmp_path, monkeypatch
):
  src = small_set.write_rsna(tmp_path / 'src', 6)
  (src / 'train_images/1/1003.png').unlink()
  (src / 'train_images/2/1004.png').unlink()

  def never(*args):
    raise AssertionError

  monkeypatch.setattr(convert, 'examples', never)
  with pytest.raises(errors.DataError) as error:
    small_set.prepare(src, tmp_path / 'out')
  text = str(error.value)
  assert 'train_images/1/1003.dcm' in text
  assert '2 of 6' in text
  assert '--bad-files skip' in text
  assert '\n' not in text


def test_skip_lists_what_is_missing_or_bad_and_finishes_the_rest(
  tmp_path, small_shards, capsys
):
  src = small_set.write_rsna(tmp_path / 'src', 24)
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
  Image.fromarray(small_set.breast(0)).save(extra)

  with pytest.raises(errors.DataError):
    small_set.prepare(src, tmp_path / 'out')
  capsys.readouterr()
  folder = small_set.prepare(src, tmp_path / 'out', bad_files='skip', workers=2)
  # The bad row's image and the stranger.
  assert f'{src}: 2 images that no row' in capsys.readouterr().out

  found = small_set.skipped_of(folder)
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
  src = small_set.write_rsna(tmp_path / 'src', 20)
  whole = list(small_set.shards_of(small_set.prepare(src, tmp_path / 'whole')))
  bad = whole[1]
  for i in bad:
    (src / f'train_images/{(i - 1000) // 2}/{i}.png').write_bytes(b'bad')
  folder = small_set.prepare(src, tmp_path / 'out', bad_files='skip')
  builder = tfds.builder_from_directory(folder)
  lengths = list(map(len, whole))
  lengths[1] = 0
  assert builder.info.splits['train'].shard_lengths == lengths
  source = builder.as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  wanted = [i for i in range(1000, 1020) if i not in bad]
  assert [example['image_id'] for example in source] == wanted


def test_stop_names_the_first_bad_file_and_keeps_what_was_done(
  tmp_path, small_shards
):
  src = small_set.write_rsna(tmp_path / 'src', 20)
  whole = list(small_set.shards_of(small_set.prepare(src, tmp_path / 'whole')))
  out = tmp_path / 'out'
  first, second = whole[1][0], whole[-1][0]
  for i in (first, second):
    (src / f'train_images/{(i - 1000) // 2}/{i}.png').write_bytes(b'bad')
  with pytest.raises(errors.DataError, match=rf'{first}.*--bad-files skip'):
    small_set.prepare(src, out)
  assert len(list((small_set.unfinished(out) / 'shards').glob('*.jsonl'))) == 1
  assert not (out / 'rsna_mammography/64x32/1.0.0').exists()
  assert not list(out.rglob('*.tmp'))
  # Skipping is not forgotten by a stricter run.
  folder = small_set.prepare(src, out, bad_files='skip')
  before = small_set.states(folder)
  with pytest.raises(errors.DataError, match=str(first)):
    small_set.prepare(src, out)
  assert before == small_set.states(folder)


def test_nothing_but_bad_files_is_an_error(tmp_path):
  src = small_set.write_rsna(tmp_path / 'src', 3)
  for path in src.rglob('*.png'):
    path.write_bytes(b'bad')
  with pytest.raises(errors.DataError, match='all 3 images are bad'):
    small_set.prepare(src, tmp_path / 'out', bad_files='skip')


def test_an_image_that_takes_too_long_is_a_bad_one(tmp_path, monkeypatch):
  src = small_set.write_rsna(tmp_path / 'src', 2)
  (tmp_path / 'slow_for_a_test.py').write_text(
    'import time\n'
    'from rsna_jax.data import convert\n'
    'def example(item):\n'
    "  time.sleep(600 if '1001' in item[0] else 0)\n"
    '  return convert.standard_example(item)\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(convert, 'standard_example', 'slow_for_a_test:example')
  folder = small_set.prepare(src, tmp_path / 'out', bad_files='skip', time_s=2)
  (entry,) = small_set.skipped_of(folder)
  assert 'not done after 2 s' in entry['reason']


def test_a_full_disk_is_one_error_with_a_path(tmp_path):
  src = small_set.write_rsna(tmp_path / 'src', 6)
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
  assert '.array_record' in run.stdout, run.stderr
  assert str(small_set.unfinished(tmp_path / 'out')) in run.stdout
  assert not list((tmp_path / 'out').rglob('*.tmp'))
  assert not list((tmp_path / 'out').rglob('*.array_record*'))
  assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 60_000


def test_two_runs_on_one_folder_do_not_meet(tmp_path):
  src = small_set.write_rsna(tmp_path / 'src', 2)
  folder = small_set.prepare(src, tmp_path / 'out')
  with (
    build._locked(folder),
    pytest.raises(errors.DataError, match='another rsna-jax prepare'),
  ):
    small_set.prepare(src, tmp_path / 'out')
  small_set.prepare(src, tmp_path / 'out')


def test_a_folder_of_neither_layout_shows_both_trees(tmp_path):
  with pytest.raises(errors.DataError, match='no such folder'):
    small_set.prepare(tmp_path / 'absent', tmp_path / 'out')
  inner = tmp_path / 'src/rsna'
  small_set.write_rsna(inner, 1)
  with pytest.raises(errors.DataError) as error:
    small_set.prepare(tmp_path / 'src', tmp_path / 'out')
  text = str(error.value)
  assert 'no train.csv' in text
  assert 'train_images/<patient_id>/<image_id>.dcm' in text
  assert 'Density1Benign' in text
  assert f'Did you mean {inner}?' in text
  for path in sorted((inner / 'train_images').rglob('*'), reverse=True):
    path.unlink() if path.is_file() else path.rmdir()
  (inner / 'train_images').rmdir()
  with pytest.raises(errors.DataError, match='train_images: no such folder'):
    small_set.prepare(inner, tmp_path / 'out')
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
      Image.fromarray(small_set.breast(i)).save(src / folder / file)
  (src / 'Density1Benign' / 'notes.txt').write_text('x')
  folder = small_set.prepare(src, tmp_path / 'out')
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
  Image.fromarray(small_set.breast(7)).save(
    src / 'Density4Malignant' / 'a (3).png'
  )
  with pytest.raises(errors.DataError, match=r"a \(3\).png.*source image 'a'"):
    small_set.prepare(src, tmp_path / 'out')
  small_set.prepare(src, tmp_path / 'out', bad_files='skip')
  assert len(small_set.skipped_of(folder)) == 3


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
    small_set.prepare(src, tmp_path, train_csv=csv_path)
  folder = small_set.prepare(
    src, tmp_path, train_csv=csv_path, bad_files='skip', workers=2
  )
  found = [int(entry['image_id']) for entry in small_set.skipped_of(folder)]
  assert sorted(found) == sorted(missing)
  info = tfds.builder_from_directory(folder).info
  assert info.splits['train'].num_examples == len(named) - len(missing) > 0
