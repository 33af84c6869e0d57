"""Checks that a figure cannot flatter: a run's own files held against
scikit-learn, and intervals and trainings against chance.
"""

import csv
import json
import pathlib
import re

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import config, schema, train
from rsna_jax.stats import bootstrap

_ROOT = pathlib.Path(__file__).parent.parent


def _rows(path):
  with path.open(encoding='utf-8') as file:
    return list(csv.DictReader(file))


def _levels(folder):
  """Labels and scores of images, breasts and patients, from predictions.csv."""
  images, patients = {}, {}
  for row in _rows(folder / 'predictions.csv'):
    pair = int(row['label_cancer']), float(row['cancer'])
    images.setdefault(row['prediction_id'], []).append(pair)
  breasts = {
    name: (pairs[0][0], sum(p for _, p in pairs) / len(pairs))
    for name, pairs in images.items()
  }
  for name, pair in breasts.items():
    patients.setdefault(name.split('_')[0], []).append(pair)
  return {
    'breast': list(breasts.values()),
    'image': [pair for pairs in images.values() for pair in pairs],
    'patient': [
      tuple(map(max, zip(*x, strict=True))) for x in patients.values()
    ],
  }


def test_numbers_of_the_card_are_those_of_scikit_learn_on_predictions_csv(
  tiny_run,
):
  folder = tiny_run / 'eval' / 'validation'
  found = json.loads((folder / 'metrics.json').read_text())
  card = (tiny_run / 'MODEL_CARD.md').read_text()
  of_level = {}
  for level, pairs in _levels(folder).items():
    y, p = (np.array(x) for x in zip(*pairs, strict=True))
    of_level[level] = {
      'ROC AUC': ('roc_auc', sk.roc_auc_score(y, p), 3),
      'Average precision': (
        'average_precision',
        sk.average_precision_score(y, p),
        3,
      ),
      'pF1': ('pf1', 2 * (y * p).sum() / (y.sum() + p.sum()), 3),
      'Brier score': ('brier', sk.brier_score_loss(y, p), 4),
      'Log loss': ('log_loss', sk.log_loss(y, p), 4),
      'Calibration in the large': (
        'calibration_in_the_large',
        y.mean() - p.mean(),
        4,
      ),
    }
    for name, value, _ in of_level[level].values():
      assert found[level][name]['value'] == pytest.approx(value, abs=1e-9)
  for title in of_level['breast']:
    cells = [
      f'{of_level[level][title][1]:.{of_level[level][title][2]}f} ('
      for level in ('breast', 'image', 'patient')
    ]
    assert f'| {title} | ' in card
    row = card[card.index(f'| {title} | ') :].splitlines()[0]
    assert [
      x.strip()[: len(c)]
      for x, c in zip(row.split('|')[2:], cells, strict=False)
    ] == cells


def test_intervals_by_patient_hold_the_truth_19_times_in_20():
  """Two breasts of two images each, alike within patient and breast."""
  truth, repeats = 0.7602499389065233, 500  # of two normal scores 1 sd apart
  rng, covered = np.random.default_rng(3), 0
  patient = np.repeat(np.arange(120), 4)
  for k in range(repeats):
    labels = np.repeat((rng.random(240) < 0.25).astype(int), 2)
    noise = [
      np.repeat(rng.normal(size=count), 480 // count) * np.sqrt(share)
      for count, share in ((120, 0.3), (240, 0.4), (480, 0.3))
    ]
    scores = labels + sum(noise)
    drawn = bootstrap.Resamples(patient, n=400, seed=k)
    low, high = bootstrap.interval(
      bootstrap.binary(labels, scores, patient, drawn, names=('roc_auc',))[
        'roc_auc'
      ]
    )
    covered += low <= truth <= high
  assert 0.93 <= covered / repeats <= 0.97


def _write_table(path, telling: bool):
  """300 patients whose labels are chance; or whose ages tell them."""
  rng = np.random.default_rng(11)
  rows = [','.join(schema.TRAIN_COLUMNS)]
  for patient in range(1, 301):
    site, machine = rng.integers(1, 3), rng.integers(1, 6)
    age, implant = rng.integers(40, 85), rng.integers(0, 2)
    for side in 'LR':
      cancer = int(rng.random() < 0.3)
      shown = 45 + 30 * cancer if telling else age
      for k, view in enumerate(('CC', 'MLO')):
        cells = {
          'site_id': site,
          'patient_id': patient,
          'image_id': patient * 10 + 2 * (side == 'R') + k,
          'laterality': side,
          'view': view,
          'age': shown,
          'cancer': cancer,
          'implant': implant,
          'machine_id': machine,
        }
        rows.append(
          ','.join(str(cells.get(x, '')) for x in schema.TRAIN_COLUMNS)
        )
  path.write_text('\n'.join(rows) + '\n')


def test_labels_of_chance_are_learned_by_nothing_and_telling_ones_are(tmp_path):
  found = {}
  for telling in (False, True):
    folder = tmp_path / str(telling)
    folder.mkdir()
    _write_table(folder / 'train.csv', telling)
    c = config.load(_ROOT / 'configs' / 'meta.py')
    c.data.dir = str(folder)
    c.data.reader = 'numpy'
    c.train.steps = c.train.eval_every = c.train.checkpoint_every = 100
    c.train.batch_size = 256
    c.eval.bootstrap = 300
    c.eval.checkpoint = 'latest'  # nothing is chosen on the judged side
    workdir = folder / 'run'
    train.train_and_evaluate(c, workdir)
    path = workdir / 'eval' / 'validation' / 'metrics.json'
    found[telling] = json.loads(path.read_text())
  auc = found[False]['breast']['roc_auc']
  assert auc['low'] <= 0.5 <= auc['high']
  assert found[True]['breast']['roc_auc']['low'] > 0.9


def test_what_leaves_a_run_says_what_it_is_not_for(tiny_run):
  folder = tiny_run / 'eval' / 'validation'
  assert json.loads((folder / 'metrics.json').read_text())['notice'] == (
    schema.NOTICE
  )
  for path in (
    folder / 'report.html',
    tiny_run / 'MODEL_CARD.md',
    _ROOT / 'README.md',
  ):
    assert schema.NOTICE in path.read_text('utf-8'), path


def test_figures_in_the_readme_are_those_of_the_benchmarks():
  """A share or an area, as in 0.655, stands in docs/benchmarks.md as well."""
  figure = re.compile(r'(?<![\d.])0\.\d{2,}(?![\d.])')
  measured = (_ROOT / 'docs' / 'benchmarks.md').read_text('utf-8')
  said = figure.findall((_ROOT / 'README.md').read_text('utf-8'))
  assert set(said) <= set(figure.findall(measured))
