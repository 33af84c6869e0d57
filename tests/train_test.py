import csv
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
import sklearn.metrics
import tiny

from rsna_jax import (
  checkpoint,
  config,
  errors,
  evaluate,
  inference,
  loop,
  parallel,
  run,
  shell,
  steps,
  train,
)
from rsna_jax.data import convert, preprocess

_ROOT = pathlib.Path(__file__).parent.parent


def _bytes_of_state(workdir) -> list[bytes]:
  found = run.load(workdir)
  state, step = evaluate.restore(found, 'latest')
  assert step == found.config.train.steps
  import jax

  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def _arguments(data_dir, workdir, **changes) -> list[str]:
  c = tiny.make_config(data_dir, **changes)
  values = []
  for group in ('data', 'model', 'train', 'optim', 'eval'):
    for field, value in c[group].items():
      if value != config.default()[group][field]:
        values.append(f'--config.{group}.{field}={value}')
  return [
    *(sys.executable, '-m', 'rsna_jax.main'),
    *('--config', str(_ROOT / 'configs' / f'{c.model.name}.py')),
    *('--workdir', str(workdir)),
    *values,
  ]


def test_a_run_directory_holds_what_other_tools_rely_on(tiny_run):
  for name in (
    'config.json',
    'preprocess.json',
    'environment.json',
    'metrics.jsonl',
    'submission.csv',
    'plots/loss.png',
    'eval/validation/predictions.csv',
    'eval/validation/breasts.csv',
    'eval/validation/metrics.json',
    'eval/validation/report.html',
    'eval/submission/predictions.csv',
  ):
    assert (tiny_run / name).is_file(), name
  assert list(tiny_run.glob('events.*'))
  assert sorted(p.name for p in (tiny_run / 'checkpoints').iterdir())[-1] == '8'


def test_every_validation_image_is_predicted_once(tiny_run, tiny_layout):
  with (tiny_run / 'eval/validation/predictions.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert len({row['image_id'] for row in rows}) == len(rows) == 16
  assert {row['fold'] for row in rows} == {'0'}
  with (tiny_layout / 'train.csv').open() as file:
    truth = {row['image_id']: row for row in csv.DictReader(file)}
  for row in rows:
    assert row['label_cancer'] == truth[row['image_id']]['cancer']
    assert row['prediction_id'] == f'{row["patient_id"]}_{row["laterality"]}'


def test_metrics_can_be_computed_again_from_the_predictions(tiny_run):
  with (tiny_run / 'eval/validation/predictions.csv').open() as file:
    rows = list(csv.DictReader(file))
  breasts = {}
  for row in rows:
    breasts.setdefault(row['prediction_id'], []).append(row)
  labels = [int(of[0]['label_cancer']) for of in breasts.values()]
  means = [np.mean([float(r['cancer']) for r in of]) for of in breasts.values()]
  metrics = json.loads((tiny_run / 'eval/validation/metrics.json').read_text())
  assert metrics['breast']['roc_auc']['value'] == pytest.approx(
    sklearn.metrics.roc_auc_score(labels, means), abs=1e-12
  )
  assert metrics['breast']['average_precision']['value'] == pytest.approx(
    sklearn.metrics.average_precision_score(labels, means), abs=1e-12
  )


def test_the_submission_has_every_test_breast(tiny_run):
  with (tiny_run / 'submission.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert sorted(row['prediction_id'] for row in rows) == [
    '17_L',
    '17_R',
    '18_L',
    '18_R',
  ]
  assert all(0 <= float(row['cancer']) <= 1 for row in rows)


def test_a_stopped_run_goes_on_and_equals_one_that_was_not_stopped(
  tiny_data, tiny_run, tmp_path, monkeypatch, capsys
):
  asked = []

  def stop_at_5(self, received):
    asked.append(received)
    return signal.SIGTERM if len(asked) == 5 else 0

  with monkeypatch.context() as patch:
    patch.setattr(loop.Loop, '_agreed', stop_at_5)
    with pytest.raises(shell.Stopped, match='step 5') as stop:
      train.train_and_evaluate(tiny.make_config(tiny_data), tmp_path / 'run')
  assert stop.value.code == 143
  train.train_and_evaluate(tiny.make_config(tiny_data), tmp_path / 'run')
  assert 'at step 5 of 8' in capsys.readouterr().out
  assert _bytes_of_state(tmp_path / 'run') == _bytes_of_state(tiny_run)
  for name in ('metrics.jsonl', 'eval/validation/predictions.csv'):
    assert (tmp_path / 'run' / name).read_bytes() == (
      tiny_run / name
    ).read_bytes()


def test_a_killed_run_goes_on_and_a_terminated_one_says_how(
  tiny_layout, tmp_path
):
  workdir = tmp_path / 'run'
  command = _arguments(
    tiny_layout,
    workdir,
    train__steps=2_000,
    train__eval_every=2_000,
    model__name='meta',  # compiles at once, and is saved like any other
    model__dropout=0.0,
  )
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  first = subprocess.Popen(command, cwd=_ROOT, env=environment)
  _wait_for(lambda: _steps(workdir), first)
  first.send_signal(signal.SIGKILL)
  first.wait()
  reached = _steps(workdir)[-1]
  second = subprocess.Popen(
    command,
    cwd=_ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  _wait_for(lambda: _steps(workdir)[-1] > reached, second)
  second.send_signal(signal.SIGTERM)
  out, err = second.communicate(timeout=60)
  assert second.returncode == 143, err
  assert 'continuing' in out
  assert err.strip().splitlines()[-1].startswith('stopped by SIGTERM at step')
  with checkpoint.Checkpoints(workdir, read_only=True) as saved:
    assert saved.latest() > reached
    assert saved.damage(saved.latest()) is None


def _steps(workdir):
  with checkpoint.Checkpoints(workdir, read_only=True) as saved:
    return saved.steps()


def _wait_for(condition, process, time_s=180) -> None:
  end = time.monotonic() + time_s
  while not condition():
    assert process.poll() is None, 'the run ended by itself'
    assert time.monotonic() < end
    time.sleep(0.1)


def test_a_finished_run_is_not_trained_again(tiny_data, tiny_run, tmp_path):
  shutil.copytree(tiny_run, tmp_path / 'run')
  before = _bytes_of_state(tmp_path / 'run')
  train.train_and_evaluate(tiny.make_config(tiny_data), tmp_path / 'run')
  assert _bytes_of_state(tmp_path / 'run') == before


def test_another_model_in_the_directory_is_refused_field_by_field(
  tiny_data, tiny_run
):
  with pytest.raises(errors.RunError) as error:
    train.train_and_evaluate(
      tiny.make_config(tiny_data, model__width=0.5, optim__learning_rate=0.1),
      tiny_run,
    )
  assert 'model.width: 0.25 before, 0.5 now' in str(error.value)
  assert 'optim.learning_rate: 0.001 before, 0.1 now' in str(error.value)


def test_a_refused_run_leaves_nothing_that_stands_in_the_way(
  tiny_data, tmp_path
):
  c = tiny.make_config(tiny_data, train__batch_size=12)
  with pytest.raises(errors.ConfigError, match=r'train\.batch_size=12'):
    train.train_and_evaluate(c, tmp_path / 'run')
  assert not list((tmp_path / 'run').glob('*.json'))
  # Nor does one that never came to a checkpoint.
  (tmp_path / 'run' / 'config.json').write_text('{}')
  c = tiny.make_config(
    tiny_data, train__steps=1, model__name='meta', model__dropout=0.0
  )
  train.train_and_evaluate(c, tmp_path / 'run')


def test_two_processes_do_not_write_one_directory(tmp_path):
  with (
    run.lock(tmp_path),
    pytest.raises(errors.RunError, match='another process'),
    run.lock(tmp_path),
  ):
    pass
  with run.lock(tmp_path):
    pass


def test_a_loss_that_is_nan_ends_the_run_and_names_the_images(
  tiny_data, tmp_path, monkeypatch
):
  honest = steps.train_step

  def spoiled(state, batch, rng, **kwargs):
    state, metrics = honest(state, batch, rng, **kwargs)
    spoil = (state.step == 5) * np.nan
    return state, metrics | {'loss': metrics['loss'] + spoil}

  monkeypatch.setattr(steps, 'train_step', spoiled)
  # NaN times 0 is NaN as well, so the mode has to be one that can select.
  with pytest.raises(train.DivergedError, match='images of the batch'):
    train.train_and_evaluate(tiny.make_config(tiny_data), tmp_path / 'run')


def test_evaluate_from_python_gives_what_the_files_say(tiny_data, tiny_run):
  found = evaluate.evaluate(tiny_run, data_dir=tiny_data, write=False)
  said = json.loads((tiny_run / 'eval/validation/metrics.json').read_text())
  assert found.metrics == said
  assert found.folder is None


def test_validation_of_other_data_is_refused(tiny_run, tmp_path):
  tiny.write_layout(tmp_path / 'other', patients=10)
  convert.prepare(
    tmp_path / 'other',
    tmp_path / 'data',
    spec=preprocess.Spec(size=(64, 32)),
    workers=1,
  )
  with pytest.raises(errors.DataError, match='use --split all'):
    evaluate.evaluate(tiny_run, data_dir=tmp_path / 'data', write=False)
  found = evaluate.evaluate(
    tiny_run, data_dir=tmp_path / 'data', split='all', write=False
  )
  assert len(found.predictions['cancer']) == 40


def test_load_model_predicts_as_the_evaluation_did(tiny_run, tiny_layout):
  with (tiny_run / 'eval/submission/predictions.csv').open() as file:
    said = {
      row['image_id']: float(row['cancer']) for row in csv.DictReader(file)
    }
  with (tiny_layout / 'test.csv').open() as file:
    rows = list(csv.DictReader(file))
  model = inference.load_model(tiny_run)
  found = model.predict(
    [
      tiny_layout / 'test_images' / row['patient_id'] / f'{row["image_id"]}.png'
      for row in rows
    ],
    [{'age': float(row['age']), 'view': row['view']} for row in rows],
  )
  for row, prediction in zip(rows, found, strict=True):
    assert prediction.cancer == pytest.approx(said[row['image_id']], abs=1e-5)
  # Unknown metadata is an answer of its own, and a wrong one is refused.
  alone = model.predict([tiny_layout / 'test_images/17/170.png'])[0]
  assert 0 <= alone.cancer <= 1
  with pytest.raises(errors.InputError, match="view='XY'"):
    model.predict([tiny_layout / 'test_images/17/170.png'], [{'view': 'XY'}])


def test_pairs_that_a_device_cannot_hold_are_refused_before_anything_is_written(
  tiny_data, tmp_path
):
  c = tiny.make_config(tiny_data, augment__cutmix=0.5)
  c.train.batch_size = 3 * parallel.make_mesh().devices.size
  assert c.train.batch_size % 2 == 0
  with pytest.raises(errors.ConfigError, match='a device has 3 examples'):
    train.train_and_evaluate(c, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'config.json').exists()
