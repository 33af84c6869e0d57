import csv
import json
import pathlib

import jax
import numpy as np
import pytest
import sklearn.metrics
import tiny
from report_page import Page

from rsna_jax import crossvalidate, errors, inference, parallel, predict

_CONFIG = pathlib.Path(__file__).parent.parent / 'configs' / 'meta.py'


def test_folds_are_trained_resumed_and_judged_together(tmp_path, capsys):
  tiny.write_layout(tmp_path / 'src', patients=24)
  fields = [
    f'--config.data.dir={tmp_path / "src"}',
    '--config.train.steps=20',
    '--config.train.batch_size=16',
    '--config.data.folds=3',
    '--config.eval.bootstrap=50',
    '--config.data.reader=numpy',
    '--config.loss.auxiliary.density=0.1',
  ]
  found = crossvalidate.crossvalidate(_CONFIG, '0,1,2', tmp_path / 'w', fields)
  folder = tmp_path / 'w' / 'eval' / 'out_of_fold'
  with (folder / 'predictions.csv').open() as file:
    rows = list(csv.DictReader(file))
  # Every image once, each by the fold that has not seen its patient.
  assert len({row['image_id'] for row in rows}) == len(rows) == 24 * 4
  assert {row['fold'] for row in rows} == {'0', '1', '2'}
  labels = [int(row['label_cancer']) for row in rows]
  said = [float(row['cancer']) for row in rows]
  assert found['image']['roc_auc']['value'] == pytest.approx(
    sklearn.metrics.roc_auc_score(labels, said), abs=1e-12
  )
  names = [f'aux_density_{letter}' for letter in 'ABCD']
  guess = [
    max(names, key=lambda name, row=row: float(row[name])) for row in rows
  ]
  assert found['auxiliary']['density'] == {
    'n': 24 * 4,
    'accuracy': pytest.approx(np.mean([x == names[1] for x in guess])),
    'commonest': 1.0,
  }
  assert json.loads((folder / 'metrics.json').read_text()) == found
  assert (folder / 'report.html').is_file()
  capsys.readouterr()
  again = crossvalidate.crossvalidate(_CONFIG, '0,1,2', tmp_path / 'w', fields)
  assert again == found
  assert capsys.readouterr().out.count('at step 20 of 20') == 3


def test_a_fold_that_is_not_there_is_refused(tmp_path):
  with pytest.raises(errors.ConfigError, match='from 0 to 3'):
    crossvalidate.crossvalidate(_CONFIG, '0,4', tmp_path / 'w')
  with pytest.raises(errors.ConfigError, match='numbers'):
    crossvalidate.crossvalidate(_CONFIG, '0,x', tmp_path / 'w')


@pytest.fixture(scope='module')
def folds_of_pictures(tiny_data, tmp_path_factory):
  """Two folds of a tiny network, with a calibration and a threshold."""
  workdir = tmp_path_factory.mktemp('folds') / 'w'
  fields = [
    f'--config.data.dir={tiny_data}',
    '--config.data.size=(64,32)',
    '--config.data.reader=numpy',
    '--config.data.folds=2',
    '--config.model.width=0.25',
    '--config.train.steps=4',
    '--config.train.batch_size=8',
    '--config.train.checkpoint_every=4',
    '--config.eval.bootstrap=50',
    '--config.eval.calibration=platt',
    '--config.eval.rule=pf1',
    '--config.eval.checkpoint=latest',
  ]
  crossvalidate.crossvalidate(_CONFIG.parent / 'cnn.py', None, workdir, fields)
  return workdir


def test_the_pooled_report_has_maps_of_the_folds_own_networks(
  folds_of_pictures,
):
  for split in ('fold0/eval/validation', 'eval/out_of_fold'):
    page = Page((folds_of_pictures / split / 'report.html').read_text('utf-8'))
    alternatives = [image['alt'] for image in page.all('img')]
    assert any('map' in text for text in alternatives), split


def test_folds_predict_with_the_decision_of_all_of_them(
  folds_of_pictures, tiny_layout, tmp_path
):
  done = predict.predict_files(
    folds_of_pictures, [tiny_layout], tmp_path, workers=1, form='thresholded'
  )
  assert 'expected pF1 by the out-of-fold breasts' in done.expected
  said = _rows(tmp_path / 'predictions.csv')
  pictures = [row['file'] for row in said]
  of_folds = [
    inference.load_model(folds_of_pictures / f'fold{k}').predict(pictures)
    for k in range(2)
  ]
  # The mean of the folds' log odds, then the mean of a breast's images.
  expected = {}
  for row, pair in zip(said, zip(*of_folds, strict=True), strict=True):
    odds = np.mean([np.log(x.cancer / (1 - x.cancer)) for x in pair])
    expected.setdefault(row['prediction_id'], []).append(
      1 / (1 + np.exp(-odds))
    )
  stored = json.loads(
    (folds_of_pictures / 'eval/out_of_fold/metrics.json').read_text()
  )['decision']['for_others']
  platt = stored['calibration']['pooled']
  breasts = _rows(tmp_path / 'breasts.csv')
  assert {row['prediction_id'] for row in breasts} == set(expected)
  for row in breasts:
    mean = np.mean(expected[row['prediction_id']])
    odds = platt['slope'] * np.log(mean / (1 - mean)) + platt['intercept']
    calibrated = 1 / (1 + np.exp(-odds))
    assert float(row['cancer']) == pytest.approx(mean, rel=1e-5)
    assert float(row['calibrated']) == pytest.approx(calibrated, rel=1e-4)
    threshold = stored['operating_point']['threshold']['value']
    assert int(row['called']) == (float(row['calibrated']) >= threshold)
  submitted = {
    row['prediction_id']: float(row['cancer']) for row in _rows(done.submission)
  }
  assert submitted == {
    row['prediction_id']: float(row['called']) for row in breasts
  }


def test_folds_of_exams_are_judged_by_breasts(tiny_data, tmp_path, monkeypatch):
  mesh = parallel.make_mesh(jax.devices()[:1])  # compiles faster than for eight
  for name in ('make_mesh', 'mesh_for_prediction'):
    monkeypatch.setattr(parallel, name, lambda *args, **kwargs: mesh)
  fields = [
    f'--config.data.dir={tiny_data}',
    '--config.data.size=(64,32)',
    '--config.data.reader=numpy',
    '--config.data.folds=2',
    '--config.data.views=1',
    '--config.data.positives_per_batch=1',
    '--config.model.trunk=cnn',
    '--config.model.width=0.05',
    '--config.model.metadata=()',
    '--config.optim.ema=0.0',
    '--config.optim.warmup_steps=0',
    '--config.train.steps=2',
    '--config.train.batch_size=4',
    '--config.augment.sheet=0',
    '--config.eval.bootstrap=50',
    '--config.eval.worst=0',
    *(
      f'--config.augment.{name}=0.0'  # compiles for seconds
      for name in (
        'flip_vertical',
        'rotation_deg',
        'scale',
        'shift',
        'brightness',
        'contrast',
      )
    ),
  ]
  found = crossvalidate.crossvalidate(
    _CONFIG.parent / 'exam.py', None, tmp_path / 'w', fields
  )
  folder = tmp_path / 'w' / 'eval' / 'out_of_fold'
  rows = _rows(folder / 'predictions.csv')
  assert len({row['image_id'] for row in rows}) == len(rows) == 64
  said, labels, folds = {}, {}, {}
  for row in rows:
    said.setdefault(row['prediction_id'], set()).add(float(row['cancer']))
    labels[row['prediction_id']] = int(row['label_cancer'])
    folds.setdefault(row['patient_id'], set()).add(row['fold'])
  # One answer a breast, by the fold that has seen neither breast of the woman.
  assert len(said) == 32 and all(len(values) == 1 for values in said.values())
  assert all(len(numbers) == 1 for numbers in folds.values())
  answers = [next(iter(said[name])) for name in labels]
  assert found['breast']['roc_auc']['value'] == pytest.approx(
    sklearn.metrics.roc_auc_score(list(labels.values()), answers), abs=1e-12
  )
  assert {
    row['prediction_id']: float(row['cancer'])
    for row in _rows(folder / 'breasts.csv')
  } == pytest.approx(dict(zip(labels, answers, strict=True)), rel=1e-6)
  # Each fold answers its own patients as its own run does.
  one = inference.load_model(tmp_path / 'w' / 'fold0')
  assert one.joins and one.config.data.fold == 0


def _rows(path):
  with path.open(encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))
