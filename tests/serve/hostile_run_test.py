"""Run directories of somebody else are refused in one line.

Nothing in them is executed or followed.
"""

import pathlib
import pickle
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import serve_hostile as hostile
import serve_hostile_runs as runs
import serve_mammograms as mammograms
import weight_writers

import rsna_jax
from rsna_jax import errors

SECONDS = 20


@pytest.mark.parametrize('name', runs.RUNS)
def test_a_run_of_somebody_else_is_refused_in_one_line(
  name, tiny_run, tmp_path, monkeypatch
):
  run = tmp_path / 'run'
  shutil.copytree(tiny_run, run)
  monkeypatch.chdir(tmp_path)
  runs.RUNS[name](run)
  start = time.monotonic()
  with pytest.raises(errors.InputError) as caught:
    rsna_jax.load_model(run)
  assert time.monotonic() - start < SECONDS
  message = str(caught.value)
  assert '\n' not in message
  assert len(message) < 600
  assert 'root:' not in message  # of /etc/passwd
  assert not list(tmp_path.rglob('MARKER'))
  hostile.ANSWERS.append(('load_model', name[:3], 'InputError'))


@pytest.mark.parametrize('name', runs.HARMLESS)
def test_what_only_a_training_asks_for_changes_no_answer(
  name, tiny_run, tmp_path
):
  run = tmp_path / 'run'
  shutil.copytree(tiny_run, run)
  runs.HARMLESS[name](run)
  pixels = mammograms.picture(mammograms.grey(), 'PNG')
  expected = rsna_jax.load_model(tiny_run).predict([pixels])
  found = rsna_jax.load_model(run).predict([pixels])
  assert found[0].cancer == expected[0].cancer
  hostile.ANSWERS.append(('load_model', name[:3], 'OK'))


def _files(folder):
  """Things that are no run directories at all."""
  yield 'a.pkl', pickle.dumps({'a': np.zeros(3)})
  yield 'b.pkl', runs.BOMB
  yield 'c.h5', runs.HDF5
  yield 'd.json', b'{}'
  weight_writers.safetensors(folder / 'e', {'a': np.zeros(3, '<f4')})
  yield 'e.safetensors', (folder / 'e').read_bytes()


def test_a_file_is_no_run(tmp_path):
  for name, data in _files(tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(errors.InputError) as caught:
      rsna_jax.load_model(tmp_path / name)
    assert '\n' not in str(caught.value)
    hostile.ANSWERS.append(('load_model', 'A44', 'InputError'))


@pytest.mark.parametrize(
  'name', ['A47 YAML that calls', 'A46 a flipped bit', 'A47 10^5 deep']
)
def test_the_command_says_it_in_one_line(name, tiny_run, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(tiny_run, run)
  runs.RUNS[name](run)
  command = [sys.executable, '-m', 'rsna_jax.cli', 'serve', '--workdir', run]
  done = subprocess.run(
    [*command, '--store', tmp_path / 'store', '--port', '0'],
    capture_output=True,
    text=True,
    timeout=300,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.returncode == 2, done.stderr
  lines = [x for x in done.stderr.splitlines() if not x.startswith('warning')]
  assert len(lines) == 1 and lines[0].startswith('error: '), done.stderr
  assert not list(tmp_path.rglob('MARKER'))
  hostile.ANSWERS.append(('serve', name[:3], 'exit 2'))
