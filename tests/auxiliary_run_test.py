"""A run with targets beside the main one, from its batches to its files."""

import csv
import json

import numpy as np
import pytest
import tiny
from sklearn import metrics as theirs

import rsna_jax
from rsna_jax import auxiliary, config, predict, schema, train
from rsna_jax.data import table

NAMES = ('density', 'benign', 'age', 'view')


@pytest.fixture(scope='module')
def layout(tmp_path_factory):
  """The table of the tiny layout, with some more known, and some less."""
  folder = tmp_path_factory.mktemp('csv')
  tiny.write_layout(folder)
  with (folder / 'train.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  for i, row in enumerate(rows):
    row['biopsy'] = int(row['cancer'] == '1' or i % 3 == 0)
    row['density'] = 'ABCD'[i % 4] if i % 5 else ''
    row['age'] = row['age'] if i % 7 else ''
  with (folder / 'train.csv').open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  return folder


@pytest.fixture(scope='module')
def run(layout, tmp_path_factory):
  c = config.default()
  c.data.name, c.data.dir = 'csv', str(layout)
  c.model.name, c.model.metadata = 'meta', ('implant', 'laterality')
  c.model.metadata_embedding = 4
  for name in NAMES:
    c.loss.auxiliary[name] = 0.5
  c.loss.name, c.loss.surrogate = 'focal', 'pf1'
  c.loss.class_weights = ('balanced',)
  c.train.steps, c.train.batch_size = 4, 8
  c.train.log_every = c.train.eval_every = c.train.checkpoint_every = 4
  c.optim.learning_rate = 0.1
  c.eval.bootstrap, c.eval.batch_size = 0, 32
  workdir = tmp_path_factory.mktemp('run')
  train.train_and_evaluate(c, workdir)
  return workdir


def rows_of(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def judged(run, layout):
  """predictions.csv of the validation split, and the table's rows of it."""
  said = rows_of(run / 'eval' / 'validation' / 'predictions.csv')
  rows = table.read_csv(layout / 'train.csv')
  place = {x: i for i, x in enumerate(rows['image_id'].tolist())}
  return said, rows.take(np.array([place[int(x['image_id'])] for x in said]))


def test_predictions_have_a_column_for_each_value(run, layout):
  said, _ = judged(run, layout)
  names = [f'aux_{x}' for name in NAMES for x in auxiliary.class_names(name)]
  assert list(said[0])[-len(names) :] == names
  for row in said:
    for name in ('density', 'view'):
      each = [float(row[f'aux_{x}']) for x in auxiliary.class_names(name)]
      assert sum(each) == pytest.approx(1)
    assert 0 < float(row['aux_benign']) < 1
    assert 0 < float(row['cancer']) < 1
  unlabelled = rows_of(run / 'eval' / 'submission' / 'predictions.csv')
  assert list(unlabelled[0]) == list(said[0])


def test_metrics_judge_what_has_a_label(run, layout):
  said, rows = judged(run, layout)
  found = json.loads((run / 'eval' / 'validation' / 'metrics.json').read_text())
  assert set(found['auxiliary']) == set(NAMES)

  def column(name):
    return np.array([float(row[name]) for row in said])

  known = ~np.isnan(rows['age'])
  assert 0 < known.sum() < len(said)
  assert found['auxiliary']['age']['n'] == known.sum()
  assert found['auxiliary']['age']['mean_absolute_error'] == pytest.approx(
    theirs.mean_absolute_error(rows['age'][known], column('aux_age')[known]),
    rel=1e-6,
  )
  labels = (rows['biopsy'] == 1) & (rows['cancer'] == 0)
  assert found['auxiliary']['benign']['roc_auc'] == pytest.approx(
    theirs.roc_auc_score(labels, column('aux_benign'))
  )
  known = rows['density'] != schema.MISSING
  names = [f'aux_{x}' for x in auxiliary.class_names('density')]
  guess = np.stack([column(x) for x in names], axis=1).argmax(axis=1)
  assert 0 < known.sum() < len(said)
  assert found['auxiliary']['density']['accuracy'] == pytest.approx(
    (guess[known] + 1 == rows['density'][known]).mean()
  )


def test_balanced_weights_are_of_the_training_rows(run, layout):
  held_out = {int(row['image_id']) for row in judged(run, layout)[0]}
  rows = table.read_csv(layout / 'train.csv')
  labels = [
    cancer
    for cancer, image in zip(rows['cancer'], rows['image_id'], strict=True)
    if image not in held_out
  ]
  counts = np.bincount(labels)
  assert 0 < counts[1] < counts[0]
  found = json.loads((run / 'config.json').read_text())['loss']
  np.testing.assert_allclose(found['class_weights'], len(labels) / 2 / counts)


def test_every_term_is_logged(run):
  lines = (run / 'metrics.jsonl').read_text().splitlines()
  last = [json.loads(line) for line in lines][-1] | {
    k: v for line in lines for k, v in json.loads(line).items()
  }
  for name in ('cancer', 'surrogate', *NAMES):
    assert np.isfinite(last[f'train/loss_{name}'])
  total = 0.5 * last['train/loss_cancer'] + 0.5 * last['train/loss_surrogate']
  total += 0.5 * sum(last[f'train/loss_{name}'] for name in NAMES)
  assert last['train/loss'] == pytest.approx(total, rel=1e-5)


def test_a_loaded_model_says_the_same(run, layout, tmp_path):
  said, rows = judged(run, layout)
  model = rsna_jax.load_model(run)
  known = {name: rows[name][0] for name in ('implant', 'laterality')}
  (found,) = model.predict([str(layout / 'train.csv')], [known])
  for name, value in found.auxiliary.items():
    assert value == pytest.approx(float(said[0][f'aux_{name}']), rel=1e-5)
  assert len(found.auxiliary) == 4 + 1 + 1 + 6
  assert found.cancer == pytest.approx(float(said[0]['cancer']), rel=1e-5)
  predict.predict_files(
    run,
    [layout / 'train_images'],
    csv=layout / 'train.csv',
    out=tmp_path / 'out',
  )
  again = {
    row['image_id']: row
    for row in rows_of(tmp_path / 'out' / 'predictions.csv')
  }
  for row in said:
    for name, value in again[row['image_id']].items():
      if name.startswith('aux_'):
        assert float(value) == pytest.approx(float(row[name]), rel=1e-5)
