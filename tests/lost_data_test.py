"""Data that go away, or do not come, while a run is training on them."""

import errno
import os
import pathlib
import shutil
import signal
import threading
import time

import jax
import numpy as np
import pytest
import tiny

from rsna_jax import checkpoint, errors, evaluate, loop, run, shell, train
from rsna_jax.data import records


def make_config(data_dir):
  """Of a network that compiles in no time; the images are read all the same."""
  c = tiny.make_config(data_dir, train__steps=40, train__eval_every=40)
  c.model.name, c.model.dropout = 'meta', 0.0
  c.train.checkpoint_every, c.train.stall_s = 40, 0.3
  c.data.prefetch, c.eval.worst = 1, 0
  return c


def at_step(monkeypatch, step, action):
  """Does something once, after a step."""
  asked = []

  def agreed(self, received):
    asked.append(received)
    if len(asked) == step:
      action()
    return received

  monkeypatch.setattr(loop.Loop, '_agreed', agreed)


def bytes_of(workdir) -> list[bytes]:
  state, step = evaluate.restore(run.load(workdir), 'latest')
  assert step == 40
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope='module')
def whole(tiny_data, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('whole')
  train.train_and_evaluate(make_config(tiny_data), workdir)
  return bytes_of(workdir)


def test_a_record_that_cannot_be_read_ends_in_a_line_and_a_checkpoint(
  tiny_data, whole, tmp_path, monkeypatch, capsys
):
  data = tmp_path / 'data'
  shutil.copytree(tiny_data, data)
  (path,) = data.rglob('*-train.array_record-*')
  content = path.read_bytes()
  with monkeypatch.context() as patch:
    at_step(patch, 7, lambda: os.truncate(path, len(content) // 2))
    c, workdir = make_config(data), tmp_path / 'run'
    code = shell.run(lambda: train.train_and_evaluate(c, workdir) and 0)
  said = capsys.readouterr().err.strip().splitlines()
  assert code == 2 and said[-1].startswith('error: ') and str(data) in said[-1]
  (step,) = checkpoint.finished_steps(workdir)
  assert 7 <= step < 12 and f'step {step} is saved' in said[-1]
  path.write_bytes(content)
  train.train_and_evaluate(c, workdir)
  assert bytes_of(workdir) == whole


def test_a_mount_that_has_gone_is_not_called_damaged(tiny_data, monkeypatch):
  c = make_config(tiny_data)
  from rsna_jax.data import dataset

  data = dataset.open_dataset(c)

  def read(self, indices):
    raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), 'a-shard')

  monkeypatch.setattr(records.Shards, 'read', read)
  with pytest.raises(errors.DataError, match=r'a-shard.*still there') as error:
    data.read([0])
  assert 'damaged' not in str(error.value)


def test_a_wait_for_data_is_told_and_a_signal_ends_it(
  tiny_data, whole, tmp_path, monkeypatch, caplog
):
  hang = threading.Event()
  go_on = threading.Event()
  honest = records.Shards.read

  def read(self, indices):
    if hang.is_set():
      go_on.wait(120)
    return honest(self, indices)

  monkeypatch.setattr(records.Shards, 'read', read)
  c, workdir = make_config(tiny_data), tmp_path / 'run'

  def signal_when_told():
    while 'no data for' not in caplog.text:
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

  sender = threading.Thread(target=signal_when_told, daemon=True)
  sender.start()
  with monkeypatch.context() as patch:
    at_step(patch, 7, hang.set)
    with pytest.raises(
      shell.Stopped, match=r'SIGTERM at step \d+; saved'
    ) as stop:
      train.train_and_evaluate(c, workdir)
  assert stop.value.code == 143
  assert str(pathlib.Path(tiny_data)) in caplog.text
  go_on.set()
  hang.clear()
  (step,) = checkpoint.finished_steps(workdir)
  assert 7 <= step < 40
  train.train_and_evaluate(c, workdir)
  assert bytes_of(workdir) == whole
