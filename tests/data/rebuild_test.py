import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import small_set
import tensorflow_datasets as tfds
from PIL import Image

from rsna_jax import config, errors
from rsna_jax.data import build, dataset, table

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def small_shards(monkeypatch):
  monkeypatch.setattr(build, 'SHARD_ROWS', 4)


def test_a_second_run_redoes_nothing(tmp_path, small_shards, capsys):
  src = small_set.write_rsna(tmp_path / 'src', 10)
  folder = small_set.prepare(src, tmp_path / 'out')
  before = small_set.states(folder)
  capsys.readouterr()
  small_set.prepare(src, tmp_path / 'out')
  assert 'all 10 images are done' in capsys.readouterr().out
  assert before == small_set.states(folder)


def test_only_the_shard_of_a_changed_file_is_redone(tmp_path, small_shards):
  src = small_set.write_rsna(tmp_path / 'src', 20)
  folder = small_set.prepare(src, tmp_path / 'out')
  fingerprint = json.loads((folder / 'records.json').read_text())
  before = small_set.shards_of(folder)
  assert len(before) > 2
  Image.fromarray(small_set.breast(99)).save(src / 'train_images/2/1005.png')
  small_set.prepare(src, tmp_path / 'out')
  after = small_set.shards_of(folder)
  assert list(after) == list(before)
  for images, state in after.items():
    assert (state != before[images]) == (1005 in images)
  assert json.loads((folder / 'records.json').read_text()) != fingerprint


def test_a_patient_added_in_the_middle_moves_few_shards(tmp_path, small_shards):
  src = small_set.write_rsna(tmp_path / 'src', 60)
  out = tmp_path / 'out'
  folder = small_set.prepare(src, out)
  before = small_set.shards_of(folder)
  assert len(before) > 8
  lines = (src / 'train.csv').read_text().splitlines()
  for i in (1, 0):
    lines.insert(21, f'1,500,{7000 + i},{"LR"[i]},CC,50,0,0,0,,0,B,49,False')
    path = src / f'train_images/500/{7000 + i}.png'
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(small_set.breast(500 + i)).save(path)
  (src / 'train.csv').write_text('\n'.join(lines) + '\n')
  small_set.prepare(src, out)
  after = small_set.shards_of(folder)
  written = [ids for ids, state in after.items() if state != before.get(ids)]
  assert 1 <= len(written) <= 3
  assert {7000, 7001} <= {i for ids in written for i in ids}
  # The result is that of a build from nothing.
  fresh = small_set.prepare(src, tmp_path / 'fresh')
  assert list(small_set.shards_of(fresh)) == list(after)
  wanted = table.read_csv(src / 'train.csv')['image_id'].tolist()
  found = table.read_csv(folder / 'rows-train.csv')['image_id'].tolist()
  assert found == wanted
  for name in ('records.json', 'rows-train.csv', 'manifest.csv', 'facts.jsonl'):
    assert (folder / name).read_text() == (fresh / name).read_text()
  assert small_set.records_of(folder) == small_set.records_of(fresh)


@pytest.mark.parametrize('n', [1, 127, 500, 54_706, 300_000])
def test_shards_are_of_like_size_and_not_too_many(n):
  names = [f'{i // 5}/{i}.dcm' for i in range(n)]
  starts = [0, *build._cuts(names), n]
  sizes = np.diff(starts)
  size = 128
  while n > size * 256:
    size *= 2
  assert sizes.max() <= 2 * size
  assert (sizes[:-1] >= size // 2).all()
  assert len(sizes) <= 1.5 * max(1, n / size)


def test_large_sets_have_more_shards_rather_than_huge_ones(monkeypatch):
  monkeypatch.setattr(build, 'SHARD_ROWS', 2)
  monkeypatch.setattr(build, 'MAX_SHARDS', 4)
  monkeypatch.setattr(build, 'LARGE_ROWS', 8)
  names = list(map(str, range(1000)))
  assert len(list(build._cuts(names))) > 60


# Slow, so that a signal comes in the middle.
SLOW = """
import sys, time
from rsna_jax.data import build, convert, preprocess, records
build.SHARD_ROWS = 4
write = records.ShardWriter.write
def slow(self, record):
  time.sleep(0.1)
  write(self, record)
records.ShardWriter.write = slow
convert.prepare(sys.argv[1], sys.argv[2], workers=1,
  spec=preprocess.Spec(size=(64, 32)))
"""


def interrupt(src, out, signal_number, shards):
  """Runs `prepare` and ends it once so many shards more are there."""
  notes = small_set.unfinished(out) / 'shards'
  done = len(list(notes.glob('*.jsonl')))
  run = subprocess.Popen(
    [sys.executable, '-c', SLOW, str(src), str(out)],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )
  end = time.monotonic() + 60
  while len(list(notes.glob('*.jsonl'))) < done + shards:
    assert run.poll() is None and time.monotonic() < end
    time.sleep(0.02)
  run.send_signal(signal_number)
  assert run.wait(30) != 0


def open_set(out):
  c = config.default()
  c.data.update({'dir': str(out), 'size': (64, 32)})
  found = dataset.open_dataset(c)
  return found.fingerprint, found.read(range(len(found)))


def test_an_interrupted_run_goes_on_where_it_ended(tmp_path, small_shards):
  src = small_set.write_rsna(tmp_path / 'src', 40)
  out = tmp_path / 'out'
  work = small_set.unfinished(out)
  interrupt(src, out, signal.SIGINT, 2)
  assert not list(work.rglob('*.tmp'))
  with pytest.raises(errors.DataError, match='not finished'):
    open_set(out)
  interrupt(src, out, signal.SIGKILL, 2)
  notes = {p.name: p.stat().st_mtime_ns for p in work.glob('shards/*.jsonl')}
  assert len(notes) >= 4
  folder = small_set.prepare(src, out)
  assert len(list(folder.glob('shards/*.jsonl'))) > len(notes)
  for name, when in notes.items():
    assert (folder / 'shards' / name).stat().st_mtime_ns == when
  assert not list(out.rglob('*.tmp'))
  assert not work.exists()
  builder = tfds.builder_from_directory(folder)
  assert builder.info.splits['train'].num_examples == 40
  source = builder.as_data_source(
    split='train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  wanted = list(range(1000, 1040))
  assert [example['image_id'] for example in source] == wanted


def test_a_rebuild_that_fails_or_is_killed_leaves_the_data_set(
  tmp_path, small_shards
):
  src = small_set.write_rsna(tmp_path / 'src', 24)
  out = tmp_path / 'out'
  small_set.prepare(src, out)
  before = open_set(out)
  bad = src / 'train_images/0/1001.png'
  bad.write_bytes(b'bad')
  with pytest.raises(errors.DataError, match='1001'):
    small_set.prepare(src, out)
  assert open_set(out) == before
  Image.fromarray(small_set.breast(77)).save(bad)
  for i in range(10, 24):
    path = src / f'train_images/{i // 2}/{1000 + i}.png'
    Image.fromarray(small_set.breast(100 + i)).save(path)
  interrupt(src, out, signal.SIGKILL, 1)
  assert open_set(out) == before
  small_set.prepare(src, out)
  small_set.prepare(src, tmp_path / 'fresh')
  assert open_set(out) == open_set(tmp_path / 'fresh') != before


class Killed(BaseException):
  """In place of a signal, between two operations on files."""


def test_a_kill_at_any_moment_of_the_exchange_is_mended(
  tmp_path, small_shards, monkeypatch
):
  src = small_set.write_rsna(tmp_path / 'src', 12)
  out = tmp_path / 'out'
  small_set.prepare(src, out)
  old = open_set(out)
  Image.fromarray(small_set.breast(99)).save(src / 'train_images/3/1006.png')
  new, seen = None, []
  for moment in range(100):
    left = iter(range(moment))
    with monkeypatch.context() as patch:
      for where, name in (
        (os, 'link'),
        (os, 'rename'),
        (os, 'replace'),
        (shutil, 'rmtree'),
      ):
        real = getattr(where, name)

        def killed(path, *args, _real=real, left=left, **kwargs):
          # Files are written as ever: the exchange alone is of interest.
          ours = str(out) in str(path) and '.tmp' not in str(path)
          if ours and next(left, None) is None:
            raise Killed
          _real(path, *args, **kwargs)

        patch.setattr(where, name, killed)
      try:
        folder = small_set.prepare(src, out)
        break
      except Killed:
        pass
    try:
      seen.append(open_set(out))
      assert seen[-1] == old or not small_set.unfinished(out).exists()
    except errors.DataError:
      seen.append(None)
  else:
    raise AssertionError('never finished')
  new = open_set(out)
  assert moment > 5
  assert all(found in (old, new, None) for found in seen)
  # Between the two renames alone, there is none.
  assert seen.count(None) <= 1
  small_set.prepare(src, tmp_path / 'fresh')
  assert open_set(tmp_path / 'fresh') == new != old
  names = {path.name for path in folder.parent.iterdir()}
  assert names == {'1.0.0', '.1.0.0.lock'}


def test_what_a_killed_exchange_left_is_put_right(tmp_path, small_shards):
  src = small_set.write_rsna(tmp_path / 'src', 8)
  folder = small_set.prepare(src, tmp_path / 'out')
  replaced = folder.with_name('1.0.0.replaced')
  wanted = {p.name: s for p, s in small_set.states(folder).items()}
  # Killed before the old one was deleted, and between the two renames.
  for missing in (False, True):
    shutil.copytree(folder, replaced)
    if missing:
      folder.rename(small_set.unfinished(tmp_path / 'out'))
    small_set.prepare(src, tmp_path / 'out')
    assert not replaced.exists()
    assert {p.name: s for p, s in small_set.states(folder).items()} == wanted


def test_a_reader_is_told_that_its_data_set_was_replaced(
  tmp_path, small_shards
):
  src = small_set.write_rsna(tmp_path / 'src', 24)
  out = tmp_path / 'out'
  folder = small_set.prepare(src, out)
  reader = dataset.open_folder(folder)
  assert reader.read([0])
  Image.fromarray(small_set.breast(99)).save(src / 'train_images/11/1023.png')
  small_set.prepare(src, out)
  # What is unchanged is the same file still.
  assert reader.read([0, 5])
  with pytest.raises(errors.DataError, match='was prepared anew'):
    reader.read([23])


@pytest.mark.parametrize('what', ['shard', 'note'])
def test_what_was_cut_short_is_made_again(tmp_path, small_shards, what):
  src = small_set.write_rsna(tmp_path / 'src', 12)
  out = tmp_path / 'out'
  folder = small_set.prepare(src, out)
  wanted = open_set(out)
  pattern = {'shard': '*.array_record-*', 'note': 'shards/*.jsonl'}[what]
  path = sorted(folder.glob(pattern))[1]
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b''.join(lines[:-1]))
  small_set.prepare(src, out)
  assert open_set(out) == wanted
  assert len(small_set.manifest_of(folder)) == 12
