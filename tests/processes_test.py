"""Two processes that train one model: stopped, killed, and started again."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from rsna_jax import checkpoint, errors, evaluate, main, parallel, run, train

_ROOT = pathlib.Path(__file__).parent.parent
_LIMIT_S = 240  # of anything, on a machine that is busy
_STEPS = 750  # so many that a signal comes before the last


class Processes:
  """Starts runs of one config, as one process or as two."""

  def __init__(self, layout: pathlib.Path, folder: pathlib.Path):
    self._layout, self._folder = layout, folder
    self._count = 0

  def words(self, workdir: pathlib.Path, mode: str) -> list[str]:
    """The command line of the run, without the program."""
    fields = {
      'data.dir': self._layout,
      'data.reader': 'numpy',
      'data.positives_per_batch': 2,
      'parallel.mode': mode,
      'train.steps': _STEPS,
      'train.batch_size': 8,
      'train.log_every': 10,
      'train.eval_every': _STEPS,
      'train.checkpoint_every': 25,
      'optim.ema': 0.9,
      'eval.bootstrap': 20,
      'eval.worst': 0,
    }
    return [
      f'--workdir={workdir}',
      f'--config={_ROOT / "configs" / "meta.py"}',
      *(f'--config.{name}={value}' for name, value in fields.items()),
    ]

  def start(self, workdir: pathlib.Path, mode: str, joined: str):
    """Two processes of one device each.

    `joined` says by what they are told of each other: options | environment.
    """
    environment = os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': '1',
      'JAX_COMPILATION_CACHE_DIR': str(self._folder / 'compiled'),
    }
    command = [sys.executable, '-m', 'rsna_jax.main']
    command += self.words(workdir, mode)
    with socket.socket() as probe:
      probe.bind(('localhost', 0))
      address = f'localhost:{probe.getsockname()[1]}'
    found = []
    for i in range(2):
      options, more = [], {}
      if joined == 'options':
        options = [f'--coordinator={address}', '--num-processes=2']
        options += ['--process-id', str(i)]
      else:
        more = {'JAX_COORDINATOR_ADDRESS': address}
        more |= {'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': str(i)}
      self._count += 1
      log = (self._folder / f'log{self._count}').open('w+')
      process = subprocess.Popen(
        command + options, env=environment | more, stdout=log, stderr=log
      )
      process.log = log
      found.append(process)
    return found


def text_of(process) -> str:
  process.log.seek(0)
  return process.log.read()


def wait_for_a_later_step(workdir, than: int, started) -> int:
  end = time.monotonic() + _LIMIT_S
  while max(checkpoint.finished_steps(workdir), default=0) <= than:
    assert time.monotonic() < end
    for process in started:
      assert process.poll() is None, text_of(process)
    time.sleep(0.05)
  return checkpoint.finished_steps(workdir)[-1]


def state_of(workdir) -> list[np.ndarray]:
  state, step = evaluate.restore(run.load(workdir), 'latest')
  assert step == _STEPS
  return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture
def processes(tiny_layout, tmp_path):
  return Processes(tiny_layout, tmp_path)


def test_two_processes_that_are_stopped_and_killed_equal_one_that_is_not(
  processes, tmp_path, monkeypatch
):
  whole, workdir = tmp_path / 'whole', tmp_path / 'run'
  with monkeypatch.context() as patch:
    patch.setattr(jax, 'devices', lambda found=jax.devices()[:2]: found)
    c = main.parse(['main', *processes.words(whole, 'shard_map')]).config
    train.train_and_evaluate(c, whole)

  # A SIGTERM to one stops both at one step.
  started = processes.start(workdir, 'shard_map', 'options')
  wait_for_a_later_step(workdir, 0, started)
  started[1].send_signal(signal.SIGTERM)
  assert [x.wait(_LIMIT_S) for x in started] == [143, 143]
  said = [
    re.findall(r'stopped by SIGTERM at step (\d+)', text_of(x)) for x in started
  ]
  assert said[0] == said[1] and len(said[0]) == 1
  (step,) = map(int, said[0])
  assert checkpoint.finished_steps(workdir)[-1] == step

  # One that is killed leaves the other with a line and no more.
  started = processes.start(workdir, 'jit', 'environment')
  reached = wait_for_a_later_step(workdir, step, started)
  assert f'at step {step} of {_STEPS}' in text_of(started[0])
  started[1].send_signal(signal.SIGKILL)
  assert started[0].wait(_LIMIT_S) == 75
  last = text_of(started[0]).strip().splitlines()[-1]
  assert 'another process of the run has ended' in last

  # Both are started again, and what comes out is as if nothing had been.
  started = processes.start(workdir, 'shard_map', 'options')
  assert [x.wait(_LIMIT_S) for x in started] == [0, 0], text_of(started[0])
  again = int(re.search(r'continuing .* at step (\d+)', text_of(started[0]))[1])
  assert again >= reached
  for one, other in zip(state_of(whole), state_of(workdir), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
  for name in ('predictions.csv', 'breasts.csv'):
    assert (workdir / 'eval' / 'validation' / name).is_file()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'process_id': 1}, 'need --coordinator'),
    ({'coordinator': 'localhost:1'}, "JAX_NUM_PROCESSES=''"),
    (
      {'coordinator': 'localhost:1', 'num_processes': 2, 'process_id': 2},
      'they are 0 to 1',
    ),
  ],
)
def test_a_number_that_is_missing_or_too_great_is_refused(options, message):
  with pytest.raises(errors.ConfigError, match=message):
    parallel.start_distributed({}, **options)
