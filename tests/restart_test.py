"""A run that goes on elsewhere, and disks that do not take what it writes."""

import contextlib
import os
import pathlib
import signal
import subprocess

import jax
import numpy as np
import pytest

from rsna_jax import (
  checkpoint,
  config,
  evaluate,
  loop,
  run,
  shell,
  train,
  writers,
)

_STEPS = 24


def make_config(layout, **fields):
  c = config.default()
  c.data.name, c.data.dir = 'csv', str(layout)
  c.data.reader, c.data.positives_per_batch = 'numpy', 2
  c.model.name, c.model.metadata = 'meta', ('age', 'view')
  c.train.steps, c.train.batch_size = _STEPS, 8
  c.train.log_every, c.train.eval_every = 2, 12
  c.train.checkpoint_every = 4
  c.optim.ema, c.optim.learning_rate = 0.9, 0.01
  c.eval.bootstrap, c.eval.worst = 10, 0
  for name, value in fields.items():
    group, field = name.split('__')
    c[group][field] = value
  return c


def stop_after(patch, steps):
  asked = []

  def stop(self, received):
    asked.append(received)
    return signal.SIGTERM if len(asked) == steps else 0

  patch.setattr(loop.Loop, '_agreed', stop)


def leaves_of(workdir) -> list[np.ndarray]:
  state, step = evaluate.restore(run.load(workdir), 'latest')
  assert step == _STEPS
  return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope='module')
def whole(tiny_layout, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('whole')
  train.train_and_evaluate(make_config(tiny_layout), workdir)
  return workdir


def test_one_seed_gives_one_result(tiny_layout, whole, tmp_path):
  train.train_and_evaluate(make_config(tiny_layout, data__threads=4), tmp_path)
  for one, other in zip(leaves_of(whole), leaves_of(tmp_path), strict=True):
    assert one.tobytes() == other.tobytes()
  for name in ('metrics.jsonl', 'eval/validation/predictions.csv'):
    assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_goes_on_with_fewer_or_more_devices_and_in_another_mode(
  tiny_layout, whole, tmp_path, monkeypatch
):
  every = jax.devices()
  for mode, devices, steps in (
    ('pmap', 8, 5),
    ('jit', 2, 9),
    ('shard_map', 4, 99),
  ):
    c = make_config(tiny_layout, parallel__mode=mode)
    with monkeypatch.context() as patch:
      patch.setattr(jax, 'devices', lambda n=devices: every[:n])
      stop_after(patch, steps)
      if steps < _STEPS:
        with pytest.raises(shell.Stopped):
          train.train_and_evaluate(c, tmp_path)
      else:
        train.train_and_evaluate(c, tmp_path)
  for one, other in zip(leaves_of(whole), leaves_of(tmp_path), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_signal_in_an_evaluation_saves_and_the_next_start_evaluates(
  tiny_layout, whole, tmp_path, monkeypatch
):
  honest = evaluate.Predictor.__call__

  def interrupted(self, *args):
    signal.raise_signal(signal.SIGTERM)
    return honest(self, *args)

  c = make_config(tiny_layout)
  with monkeypatch.context() as patch:
    patch.setattr(evaluate.Predictor, '__call__', interrupted)
    with pytest.raises(shell.Stopped, match='SIGTERM at step 12; saved'):
      train.train_and_evaluate(c, tmp_path)
  assert checkpoint.finished_steps(tmp_path)[-1] == 12
  assert not any('validation/loss' in x for x in writers.read(tmp_path))
  train.train_and_evaluate(c, tmp_path)
  for name in ('metrics.jsonl', 'eval/validation/predictions.csv'):
    assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
  with checkpoint.Checkpoints(whole, read_only=True) as saved:
    best = saved.best()
  with checkpoint.Checkpoints(tmp_path, read_only=True) as saved:
    assert saved.best() == best


def mount(*options: str) -> None:
  done = subprocess.run(['mount', *options], capture_output=True, text=True)
  if done.returncode:
    pytest.skip(f'cannot mount a small disk here: {done.stderr.strip()}')


@pytest.fixture
def disk(tmp_path):
  """A disk of 256 kB: for the history and two checkpoints, and no more."""
  path = tmp_path / 'disk'
  path.mkdir()
  mount('-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', str(path))
  yield path
  subprocess.run(['umount', '-l', str(path)], check=True)


def fill(path: pathlib.Path) -> None:
  file = os.open(path, os.O_WRONLY | os.O_CREAT)
  with contextlib.suppress(OSError):
    while True:
      os.write(file, bytes(512))
  os.close(file)


def goes_on_like_the_whole(c, workdir, whole) -> None:
  train.train_and_evaluate(c, workdir)
  for one, other in zip(leaves_of(whole), leaves_of(workdir), strict=True):
    assert one.tobytes() == other.tobytes()
  history = (workdir / 'metrics.jsonl').read_bytes()
  assert history == (whole / 'metrics.jsonl').read_bytes()


def test_a_disk_that_fills_ends_in_a_line_and_the_run_goes_on(
  tiny_layout, whole, disk, monkeypatch, capsys
):
  workdir, ballast = disk / 'run', disk / 'ballast'
  # Reports are larger than the disk; the state is what has to be equal.
  monkeypatch.setattr(train, '_final', lambda run, data: {})
  asked = []

  def agreed(self, received):
    asked.append(received)
    if len(asked) == 6:
      self._saved.wait()
      fill(ballast)
    return received

  c = make_config(tiny_layout)
  with monkeypatch.context() as patch:
    patch.setattr(loop.Loop, '_agreed', agreed)
    code = shell.run(lambda: train.train_and_evaluate(c, workdir) and 0)
  said = capsys.readouterr().err.strip().splitlines()
  assert code == 2 and said[-1].startswith('error: ')
  assert str(disk) in said[-1] and 'disk is full' in said[-1]
  assert checkpoint.finished_steps(workdir) == [4]
  mount('-o', 'remount,size=4m', str(disk))
  ballast.unlink()
  goes_on_like_the_whole(c, workdir, whole)


def test_a_disk_that_has_become_read_only_is_told_and_the_run_goes_on(
  tiny_layout, whole, disk, monkeypatch, capsys
):
  workdir = disk / 'run'
  monkeypatch.setattr(train, '_final', lambda run, data: {})
  c = make_config(tiny_layout)
  with monkeypatch.context() as patch:
    stop_after(patch, 6)
    with pytest.raises(shell.Stopped):
      train.train_and_evaluate(c, workdir)
  mount('-o', 'remount,ro', str(disk))
  capsys.readouterr()
  code = shell.run(lambda: train.train_and_evaluate(c, workdir) and 0)
  said = capsys.readouterr().err.strip().splitlines()
  mount('-o', 'remount,rw,size=4m', str(disk))
  assert code == 2 and len(said) == 1
  assert str(disk) in said[0] and 'read-only' in said[0]
  goes_on_like_the_whole(c, workdir, whole)
