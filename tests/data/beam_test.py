"""Beam may want an older protobuf than the rest, so each test is a process.

RSNA_JAX_BEAM names a folder that it was put into, where it is not installed:
pip install --target FOLDER apache-beam.
"""

import functools
import os
import pathlib
import subprocess
import sys

import pytest
import small_set

from rsna_jax import cli, config
from rsna_jax.data import build, dataset

ROOT = pathlib.Path(__file__).parents[2]
PROCESSES = '--direct_num_workers=2,--direct_running_mode=multi_processing'
CODE = """
import sys
from rsna_jax import cli
from rsna_jax.data import build
build.SHARD_ROWS = 4
cli.main(sys.argv[1:])
"""


def run(*arguments, folder=os.environ.get('RSNA_JAX_BEAM', '')):
  found = subprocess.run(
    [sys.executable, '-c', CODE, 'prepare', *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env=os.environ | {'PYTHONPATH': folder},
    timeout=300,
  )
  errors = [x for x in found.stderr.splitlines() if x.startswith('error: ')]
  return found, errors


@functools.cache
def has_beam():
  code = 'import apache_beam'
  folder = os.environ.get('RSNA_JAX_BEAM', '')
  return not subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | {'PYTHONPATH': folder},
    capture_output=True,
  ).returncode


@pytest.fixture
def beam():
  if not has_beam():
    pytest.skip("no Apache Beam: pip install 'rsna_jax[beam]'")


def open_set(out):
  c = config.default()
  c.data.update({'dir': str(out), 'size': (64, 32)})
  found = dataset.open_dataset(c)
  return found.fingerprint, found.read(range(len(found)))


def test_beam_in_processes_gives_the_data_set_of_prepare(
  beam, tmp_path, monkeypatch
):
  monkeypatch.setattr(build, 'SHARD_ROWS', 4)
  src = small_set.write_rsna(tmp_path / 'src', 24)
  wanted = small_set.prepare(src, tmp_path / 'wanted')
  out = tmp_path / 'out'
  options = (src, '--data-dir', out, '--size', '64x32', '--beam-runner')
  options += ('DirectRunner', f'--beam-options={PROCESSES}')
  found, _ = run(*options)
  assert found.returncode == 0, found.stderr
  assert open_set(out) == open_set(tmp_path / 'wanted')
  folder = out / 'rsna_mammography/64x32/1.0.0'
  for name in ('manifest.csv', 'facts.jsonl', 'rows-train.csv'):
    assert (folder / name).read_text() == (wanted / name).read_text()
  assert small_set.records_of(folder) == small_set.records_of(wanted)
  # Nothing is left to do, whoever looks.
  before = small_set.states(folder)
  small_set.prepare(src, out)
  assert before == small_set.states(folder)

  # One shard of an existing set, and a bad file in it.
  (src / 'train_images/5/1011.png').write_bytes(b'bad')
  found, errors = run(*options)
  assert found.returncode == 2
  assert len(errors) == 1
  assert '1011.png' in errors[0] and '--bad-files skip' in errors[0]
  assert before == small_set.states(folder)
  found, _ = run(*options, '--bad-files', 'skip')
  assert found.returncode == 0, found.stderr
  (entry,) = small_set.skipped_of(folder)
  assert entry['image_id'] == '1011'
  kept = {p.name: p for p in folder.glob('shards/*.jsonl')}
  same = [p for p in before if p.name in kept and p.suffix == '.jsonl']
  assert len(same) == len(kept) - 1
  assert not list(out.rglob('*.job'))


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    (('--beam-runner', 'NoRunner'), 'NoRunner'),
    (
      (
        '--beam-runner',
        'DirectRunner',
        '--beam-options=--direct_running_mode=x',
      ),
      'direct_running_mode',
    ),
    (('--beam-options=--streaming',), 'need a beam runner'),
  ],
)
def test_what_beam_does_not_know_is_one_line(beam, tmp_path, options, words):
  src = small_set.write_rsna(tmp_path / 'src', 1)
  found, errors = run(src, '--data-dir', tmp_path / 'out', *options)
  assert found.returncode == 2, found.stderr
  assert len(errors) == 1 and words in errors[0]
  assert 'Traceback' not in found.stderr
  assert not (tmp_path / 'out').exists()


def test_without_beam_the_package_is_named(tmp_path):
  (tmp_path / 'apache_beam.py').write_text(
    "raise ModuleNotFoundError('No module named apache_beam')\n"
  )
  options = ('--data-dir', tmp_path / 'out', '--beam-runner', 'DirectRunner')
  found, errors = run(tmp_path, *options, folder=str(tmp_path))
  assert found.returncode == 2, found.stderr
  assert errors == [
    'error: no Apache Beam (No module named apache_beam): pip install '
    "'rsna_jax[beam]'"
  ]


def test_values_of_options_may_have_commas():
  text = '--experiments=a,b,--direct_num_workers=2,--streaming'
  assert cli._beam_options(text) == [
    '--experiments=a,b',
    '--direct_num_workers=2',
    '--streaming',
  ]


def test_memory_is_nothing_for_other_processes(beam, tmp_path):
  options = ('--data-dir', tmp_path / 'out', '--beam-runner', 'DirectRunner')
  found, errors = run('memory://rsna', *options)
  assert found.returncode == 2, found.stderr
  assert len(errors) == 1 and 'no Beam worker can read it' in errors[0]
