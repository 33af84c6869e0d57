import csv
import json
import pathlib

import pytest
import sklearn.metrics
import tiny

from rsna_jax import crossvalidate, errors

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
