"""Cross-validation: each fold trained and resumed as a run of its own.

The folds' predictions of patients that they have not seen are pooled, and
judged together.
"""

import csv
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from rsna_jax import (
  aggregate,
  error_maps,
  errors,
  evaluate,
  files,
  reporting,
  results,
  run,
  train,
)
from rsna_jax import config as config_lib
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.options import loss as loss_options
from rsna_jax.scoring import auxiliary_score, score
from rsna_jax.stats import pooling


def crossvalidate(
  config_path: str | os.PathLike,
  fold_names: str | None,
  workdir: str | os.PathLike,
  fields: Sequence[str] = (),
) -> dict:
  """Trains folds below `workdir/fold<k>`, pools and judges their answers.

  Args:
    config_path: a file of `configs/`.
    fold_names: numbers of folds with commas between, as in '0,1,2,3'; None:
      all.
    workdir: directory of the folds' runs, and of eval/out_of_fold/.
    fields: changes of the config, as in '--config.train.steps=100'.

  Returns:
    The pooled metrics, as in metrics.json.

  Raises:
    errors.InputError: a fold, the config or the data is not usable.
  """
  from rsna_jax import main

  workdir = pathlib.Path(workdir)
  c = main.parse(
    ['rsna-jax', f'--config={config_path}', f'--workdir={workdir}', *fields]
  ).config
  config_lib.validate(c)
  wanted = list(range(c.data.folds))
  if fold_names is not None:
    wanted = _numbers(fold_names)
  if not all(fold < c.data.folds for fold in wanted):
    raise errors.ConfigError(
      f'--folds {fold_names}: data.folds={c.data.folds}, so from 0 to '
      f'{c.data.folds - 1}'
    )
  for fold in wanted:
    one = c.copy_and_resolve_references()
    one.data.fold = fold
    print(f'fold {fold}:')
    train.train_and_evaluate(one, workdir / f'fold{fold}')
  return _pool(c, workdir, wanted)


def _numbers(text: str) -> list[int]:
  parts = [part.strip() for part in text.split(',')]
  if not all(part.isdecimal() for part in parts):
    raise errors.ConfigError(f'--folds {text}: numbers, as in 0,1,2,3')
  return list(dict.fromkeys(map(int, parts)))


def _pool(c, workdir: pathlib.Path, wanted: list[int]) -> dict:
  """Joins the folds' predictions.csv with the table, and judges them."""
  data = dataset_lib.open_dataset(c)
  said = {}
  for fold in wanted:
    path = workdir / f'fold{fold}' / 'eval' / 'validation' / 'predictions.csv'
    with path.open(encoding='utf-8', newline='') as file:
      for row in csv.DictReader(file):
        said[int(row['image_id'])] = row
  rows = np.flatnonzero(np.isin(data.table['image_id'], list(said)))
  table = data.table.take(rows)
  found = [said[number] for number in table['image_id'].tolist()]
  names = results.class_names(c.data.target)
  probabilities = np.array(
    [[float(row[name]) for name in names] for row in found]
  )
  metrics = score.score_target(
    table.columns,
    probabilities,
    c.data.target,
    aggregate=c.eval.aggregate,
    bootstrap=c.eval.bootstrap,
    seed=c.seed,
    calibration=c.eval.calibration,
    rule=c.eval.rule,
    per_site=c.eval.per_site,
  )
  metrics |= {'split': 'out_of_fold', 'folds': wanted}
  besides = {
    name: np.array(
      [[float(row[x]) for x in results.auxiliary_names(name)] for row in found]
    )
    for name in loss_options.targets(c)
  }
  if besides:
    metrics['auxiliary'] = auxiliary_score.score_auxiliary(
      table.columns, besides
    )
  folder = workdir / 'eval' / 'out_of_fold'
  breasts = {}
  if 'cancer' in found[0]:
    breasts = aggregate.breasts(
      table['prediction_id'],
      table['patient_id'],
      np.array([float(row['cancer']) for row in found]),
      table['cancer'],
      how=c.eval.aggregate,
      views=table['view'],
      learned=pooling.Pooling.from_json(metrics['learned'])
      if metrics.get('learned')
      else None,
    )
    files.write_text(folder / 'breasts.csv', results.csv_text(breasts))
  fold = np.array([int(row['fold']) for row in found])
  columns = {name: np.array([row[name] for row in found]) for name in found[0]}
  files.write_text(folder / 'predictions.csv', results.csv_text(columns))
  metrics['leaks'] = reporting.check_leaks(
    c,
    data,
    rows,
    'out_of_fold',
    breasts,
    folds=fold,
  )
  results.write_report(
    c,
    folder,
    table,
    metrics,
    breasts=breasts,
    environment=run.environment(),
    workdir=workdir,
    data=data,
    rows=rows,
    probability=np.array([float(row['cancer']) for row in found])
    if breasts
    else None,
    explain=_explainer(
      workdir, data, dict(zip(rows.tolist(), fold.tolist(), strict=True))
    ),
  )
  print(f'folds {", ".join(map(str, wanted))} together:')
  print(score.text(metrics))
  print(f'written to {folder}')
  return metrics


def _explainer(
  workdir: pathlib.Path, data, fold_of: Mapping[int, int]
) -> reporting.Explain:
  """Maps by the network of the fold that has not seen the patient.

  A fold is loaded when the first of its pictures is asked for.
  """
  made = {}

  def explain(row: int) -> np.ndarray | None:
    fold = fold_of[row]
    if fold not in made:
      one = run.load(workdir / f'fold{fold}')
      state, _ = evaluate.restore(one)
      made[fold] = error_maps.explainer(one.config, one.encoder, state, data)
    return made[fold] and made[fold](row)

  return explain
