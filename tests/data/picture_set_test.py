import csv
import hashlib
import json

import imagecodecs
import numpy as np
import pytest
import volumes
from PIL import Image

from rsna_jax import errors, files, schema
from rsna_jax.data import (
  convert,
  dataset,
  picture_journal,
  picture_plan,
  picture_set,
  pictures,
  preprocess,
  table,
)

SLABS = picture_plan.Frames(kind='slabs', slab_frames=3)


def made(src, out, **kwargs):
  inputs = src if isinstance(src, list) else [src]
  return picture_set.convert(inputs, out, **kwargs)


def names(folder):
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.is_file() and not path.name.startswith('.')
  )


def manifest(out):
  with (out / 'manifest.csv').open(newline='') as file:
    return list(csv.DictReader(file))


def stack(frames=7, seed=0):
  return np.stack([volumes.breast(seed=seed + i)[0] for i in range(frames)])


def write_layout(folder, frames=7):
  """Two patients, both sides: three volumes and a plain mammogram."""
  lines = [','.join([*schema.TRAIN_COLUMNS, 'patient_name'])]
  for number in range(4):
    patient, side = 5 + number // 2, 'LR'[number % 2]
    path = folder / 'train_images' / str(patient) / f'{100 + number}.dcm'
    pixels = stack(frames, seed=10 * number)
    volumes.write(path, pixels[0] if number == 3 else pixels, enhanced=True)
    lines.append(
      f'1,{patient},{100 + number},{side},CC,50,{number % 2},0,0,,0,B,49,False,'
      'CANARYDOE'
    )
  (folder / 'train.csv').write_text('\n'.join(lines) + '\n')
  return folder


def test_pictures_keep_their_relative_paths(tmp_path):
  src = tmp_path / 'src'
  volumes.write(src / 'a' / 'b' / '1.dcm', volumes.breast()[0])
  volumes.write(src / '1.2.840.7', stack(3))
  grey = (volumes.breast()[0] >> 4).astype(np.uint8)
  Image.fromarray(grey).save(src / 'a' / 'c.png')
  (src / 'notes.txt').write_text('no image')
  (src / '.hidden.png').write_bytes(b'')
  out = tmp_path / 'out'
  outcome = made(src, out)
  assert names(out) == [
    '1.2.840.7_000.png',
    '1.2.840.7_001.png',
    '1.2.840.7_002.png',
    'a/b/1.png',
    'a/c.png',
    'manifest.csv',
  ]
  assert (outcome.written, outcome.reused, outcome.skipped) == (5, 0, [])
  for row in manifest(out):
    data = (out / row['output']).read_bytes()
    assert row['sha256'] == hashlib.sha256(data).hexdigest()
    shape = imagecodecs.png_decode(data).shape
    assert (int(row['rows']), int(row['columns'])) == shape
  assert {row['input'] for row in manifest(out)} == {
    'a/b/1.dcm',
    'a/c.png',
    '1.2.840.7',
  }


def test_several_folders_get_one_each_and_a_file_none(tmp_path):
  for name in ('x', 'y'):
    volumes.write(tmp_path / name / '1.dcm', volumes.breast()[0])
  volumes.write(tmp_path / '2.dcm', volumes.breast()[0])
  out = tmp_path / 'out'
  made([tmp_path / 'x', tmp_path / 'y', tmp_path / '2.dcm'], out)
  assert names(out) == ['2.png', 'manifest.csv', 'x/1.png', 'y/1.png']


def test_slices_and_slabs_of_both_projections(tmp_path):
  pixels = stack(7)
  volumes.write(tmp_path / 'v.dcm', pixels, jpeg2000=True, enhanced=True)
  frames = picture_plan.Frames(
    kind='both', slab_mm=4.5, projections=('max', 'mean')
  )
  options = pictures.Options(format='npy')
  out = tmp_path / 'out'
  made(tmp_path / 'v.dcm', out, frames=frames, options=options)
  rows = manifest(out)
  assert [(r['frames'], r['projection']) for r in rows] == [
    *((f'{i:03}', '') for i in range(7)),
    *(('000-002', kind) for kind in ('max', 'mean')),
    *(('003-006', kind) for kind in ('max', 'mean')),
  ]
  assert rows[-1]['output'] == 'v_003-006_mean.npy'
  np.testing.assert_array_equal(np.load(out / 'v_004.npy'), pixels[4])
  most = np.load(out / 'v_003-006_max.npy')
  np.testing.assert_array_equal(most, pixels[3:7].max(axis=0))


def test_a_volume_without_a_window_has_one_range(tmp_path):
  pixels = stack(3) * np.array([1, 1, 0.5])[:, None, None]
  bare = {'WindowCenter': None, 'WindowWidth': None}
  volumes.write(tmp_path / 'v.dcm', pixels.astype(int), **bare)
  made(tmp_path / 'v.dcm', tmp_path / 'out')
  for i in range(3):
    found = imagecodecs.png_decode((tmp_path / f'out/v_00{i}.png').read_bytes())
    wanted = pixels[i].astype(int) / pixels.max() * 65535
    np.testing.assert_allclose(found, wanted, atol=2)


def test_a_layout_of_volumes_becomes_one_example_a_slab(tmp_path):
  src, out = write_layout(tmp_path / 'src'), tmp_path / 'out'
  made(src, out, frames=SLABS)
  assert not volumes.leaks(out)
  with (out / 'train.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 7
  assert [row['slab'] for row in rows] == ['000-002', '003-006'] * 3 + ['']
  assert [row['source_image_id'] for row in rows] == [
    *('100', '100', '101', '101', '102', '102', '103'),
  ]
  assert {row['projection'] for row in rows[:6]} == {'max'}
  assert len({row['image_id'] for row in rows}) == 7
  assert rows[-1]['image_id'] == '103'

  spec = preprocess.Spec(size=(64, 32))
  folder = convert.prepare(out, tmp_path / 'data', spec=spec, workers=1)
  prepared = dataset.open_folder(folder)
  assert len(prepared) == 7
  found = table.read_csv(folder / 'rows-train.csv')
  breasts, counts = np.unique(found['prediction_id'], return_counts=True)
  assert breasts.tolist() == ['5_L', '5_R', '6_L', '6_R']
  assert counts.tolist() == [2, 2, 2, 1]
  source = table.read_csv(src / 'train.csv')
  which = [int(row['source_image_id']) - 100 for row in rows]
  for name in schema.TRAIN_COLUMNS:
    if name != 'image_id':
      np.testing.assert_array_equal(found[name], source[name][which])


def test_ids_stay_when_a_layout_grows(tmp_path):
  src, out = write_layout(tmp_path / 'src'), tmp_path / 'out'
  lines = (src / 'train.csv').read_text().splitlines()
  (src / 'train.csv').write_text('\n'.join([lines[0], *lines[2:]]) + '\n')
  made(src, out, frames=SLABS)
  before = set(names(out))
  (src / 'train.csv').write_text('\n'.join(lines) + '\n')
  outcome = made(src, out, frames=SLABS)
  assert (outcome.written, outcome.reused) == (2, 5)
  assert before < set(names(out))


def test_a_second_run_writes_nothing_and_a_changed_file_alone(tmp_path):
  src, out = tmp_path / 'src', tmp_path / 'out'
  for i in range(3):
    volumes.write(src / f'{i}.dcm', volumes.breast(seed=i)[0])
  made(src, out)
  before = {p: p.stat().st_mtime_ns for p in out.glob('*.png')}
  assert made(src, out).written == 0
  assert before == {p: p.stat().st_mtime_ns for p in out.glob('*.png')}
  volumes.write(src / '1.dcm', volumes.breast(seed=9)[0])
  (out / '2.png').unlink()
  outcome = made(src, out)
  assert (outcome.written, outcome.reused) == (2, 1)
  assert (out / '0.png').stat().st_mtime_ns == before[out / '0.png']
  options = pictures.Options(format='png8')
  assert made(src, out, options=options).written == 3


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
  src, out = tmp_path / 'src', tmp_path / 'out'
  for i in range(4):
    volumes.write(src / f'{i}.dcm', volumes.breast(seed=i)[0])
  write_bytes, calls = files.write_bytes, []

  def interrupted(path, data):
    calls.append(path)
    if len(calls) == 3:
      raise KeyboardInterrupt
    write_bytes(path, data)

  monkeypatch.setattr(files, 'write_bytes', interrupted)
  with pytest.raises(KeyboardInterrupt):
    made(src, out)
  monkeypatch.undo()
  assert names(out) == ['0.png', '1.png']
  # Killed between the picture and its line, and within a line.
  (out / '3.png').write_bytes(b'half')
  (out / '.3.png.abc.tmp').write_bytes(b'half')
  with (out / '.convert.jsonl').open('a') as file:
    file.write('{"written": {"outp')
  outcome = made(src, out)
  assert (outcome.written, outcome.reused) == (2, 2)
  assert names(out) == [*(f'{i}.png' for i in range(4)), 'manifest.csv']
  assert not list(out.glob('.*.tmp'))
  assert made(src, out).written == 0


def test_a_file_of_someone_else_is_never_overwritten(tmp_path):
  src, out = tmp_path / 'src', tmp_path / 'out'
  volumes.write(src / '1.dcm', volumes.breast()[0])
  out.mkdir()
  (out / '1.png').write_text('mine')
  with pytest.raises(errors.DataError, match=r'1\.png'):
    made(src, out)
  assert (out / '1.png').read_text() == 'mine'


@pytest.mark.parametrize('name', ['manifest.csv', 'skipped.csv', 'train.csv'])
def test_a_table_of_someone_else_is_never_overwritten(name, tmp_path):
  src, out = write_layout(tmp_path / 'src', frames=2), tmp_path / 'out'
  out.mkdir()
  (out / name).write_text('mine')
  with pytest.raises(errors.DataError, match=name):
    made(src, out)
  assert names(out) == [name]
  assert (out / name).read_text() == 'mine'


def test_two_files_of_one_name_are_refused(tmp_path):
  src = tmp_path / 'src'
  volumes.write(src / '1.dcm', volumes.breast()[0])
  volumes.write(src / '1', volumes.breast()[0])
  with pytest.raises(errors.DataError, match=r'1\.png, as does'):
    made(src, tmp_path / 'out')


def test_a_bad_file_stops_or_is_listed(tmp_path, caplog):
  src, out = tmp_path / 'src', tmp_path / 'out'
  volumes.write(src / '0.dcm', volumes.breast()[0])
  volumes.write(src / '1.dcm', volumes.breast()[0], Modality='CANARYDOE')
  volumes.write(src / '2.dcm', stack(3), jpeg2000=True)
  data = (src / '2.dcm').read_bytes()
  (src / '2.dcm').write_bytes(data[: len(data) * 3 // 4])
  (src / '3.png').write_bytes(b'none')
  with pytest.raises(errors.DataError, match='--bad-files skip'):
    made(src, out)
  outcome = made(src, out, bad_files='skip')
  listed = (out / 'skipped.csv').read_text().splitlines()
  assert listed == ['input', '1.dcm', '2.dcm', '3.png']
  assert '0.png' in names(out)
  assert '1.png' not in names(out)
  assert '1.dcm' in caplog.text
  assert not volumes.leaks(out)
  assert len(outcome.skipped) >= 3


def test_an_empty_answer_is_an_error(tmp_path):
  (tmp_path / 'a.png').write_bytes(b'none')
  with pytest.raises(errors.DataError, match=r'a\.png'):
    made(tmp_path / 'a.png', tmp_path / 'out', bad_files='skip')


def test_the_journal_is_locked(tmp_path):
  src, out = tmp_path / 'src', tmp_path / 'out'
  volumes.write(src / '1.dcm', volumes.breast()[0])
  out.mkdir()
  with (
    picture_journal.Journal(out),
    pytest.raises(errors.DataError, match='another'),
  ):
    made(src, out)


def test_the_journal_is_one_json_a_line(tmp_path):
  volumes.write(tmp_path / '1.dcm', volumes.breast()[0])
  made(tmp_path / '1.dcm', tmp_path / 'out')
  lines = (tmp_path / 'out' / '.convert.jsonl').read_text().splitlines()
  assert [next(iter(json.loads(line))) for line in lines] == [
    'input',
    'begun',
    'written',
  ]
