"""The files of an evaluation: predictions, breasts, metrics, report.

They are made from finished predictions alone, so that anything that predicts
can write them.
"""

import csv
import io
import json
import pathlib
from collections.abc import Mapping

import numpy as np

from rsna_jax import auxiliary as auxiliary_lib
from rsna_jax import files, reporting, schema, submission, writers
from rsna_jax.report import plots
from rsna_jax.stats import decision, pooling


def prediction_columns(
  c,
  table,
  logits: np.ndarray,
  fold: np.ndarray,
  auxiliary: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
  """The columns of predictions.csv: who it is, what is said, what is true.

  Args:
    c: the config.
    table: of the N images.
    logits: (N, K) of the main target.
    fold: (N,).
    auxiliary: (N, K) outputs by auxiliary target, which become columns
      `aux_<value>`: probabilities, and years of `aux_age`.
  """
  target = c.data.target
  columns = {
    name: table[name]
    for name in ('image_id', 'patient_id', 'laterality', 'prediction_id')
  }
  columns['fold'] = fold
  probabilities = schema.target_probabilities(logits, target)
  if target != 'cancer':
    for k, name in enumerate(class_names(target)):
      columns[name] = probabilities[:, k]
  cancer = schema.cancer_probability(logits, target)
  if cancer is not None:
    columns['cancer'] = cancer
  columns[f'label_{target}'] = schema.target_labels(table.columns, target)
  for name, values in (auxiliary or {}).items():
    said = auxiliary_lib.values(values, name)
    columns |= dict(zip(auxiliary_names(name), said.T, strict=True))
  return columns


def auxiliary_names(target: str) -> tuple[str, ...]:
  """The columns of predictions.csv that an auxiliary target has."""
  return tuple(f'aux_{name}' for name in auxiliary_lib.class_names(target))


def auxiliary_values(
  outputs: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """What a network says of auxiliary targets, as a reader wants it.

  Args:
    outputs: (N, K) by target.

  Returns:
    (N,) float64 by `auxiliary.class_names`: probabilities, or years.
  """
  found = {}
  for target, values in outputs.items():
    said = auxiliary_lib.values(values, target)
    names = auxiliary_lib.class_names(target)
    found |= dict(zip(names, said.T, strict=True))
  return found


def class_names(target: str) -> tuple[str, ...]:
  """A name for each logit of a target."""
  if target == 'density_cancer':
    return schema.DENSITY_CANCER_CLASSES
  if target == 'density':
    return tuple(f'density_{letter}' for letter in schema.DENSITIES)
  return (target,)


def csv_text(columns: dict[str, np.ndarray]) -> str:
  """Columns as CSV; numbers so that they read back exactly, -1 as empty."""
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(columns)
  cells = [_cells(name, column) for name, column in columns.items()]
  writer.writerows(zip(*cells, strict=True))
  return out.getvalue()


def _cells(name: str, column: np.ndarray) -> list:
  values = np.asarray(column).tolist()
  if name.startswith('label') or name == 'fold':
    return ['' if value == schema.MISSING else value for value in values]
  return values


def threshold_of(workdir: pathlib.Path) -> float | None:
  """The operating point that the validation split chose, if it was judged."""
  path = workdir / 'eval' / 'validation' / 'metrics.json'
  try:
    return json.loads(path.read_text())['threshold']['value']
  except (OSError, ValueError, KeyError, TypeError):
    return None


def chosen_file(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """A file of the split that chooses: of a run, or of all its folds."""
  paths = [
    workdir / 'eval' / split / name for split in ('validation', 'out_of_fold')
  ]
  return next((path for path in paths if path.is_file()), paths[0])


def _chosen(workdir: pathlib.Path) -> tuple[pathlib.Path, dict]:
  """metrics.json of the split that chooses, and what is in it."""
  path = chosen_file(workdir, 'metrics.json')
  return path, _json(path)


def decision_of(workdir: pathlib.Path) -> decision.Decision | None:
  """Calibration and operating point that the validation split chose."""
  path, metrics = _chosen(workdir)
  found = (metrics.get('decision') or {}).get('for_others')
  return decision.Decision.from_json(found, str(path)) if found else None


def learned_of(workdir: pathlib.Path) -> pooling.Pooling | None:
  """The learned aggregation that the validation split fitted."""
  path, metrics = _chosen(workdir)
  found = metrics.get('learned')
  return pooling.Pooling.from_json(found, str(path)) if found else None


def judged(
  table: Mapping[str, np.ndarray],
  breasts: dict,
  chosen: decision.Decision | None,
) -> dict:
  """Columns of breasts.csv, with the calibrated probability and the call.

  Args:
    table: columns of the images, for the site of each breast.
    breasts: of `aggregate.breasts`.
    chosen: what to apply; None: nothing is added.
  """
  if chosen is None or not breasts:
    return breasts
  sites = None
  if 'site_id' in table:
    of = dict(
      zip(table['prediction_id'].tolist(), table['site_id'], strict=True)
    )
    sites = np.array([of[name] for name in breasts['prediction_id'].tolist()])
  calibrated, called = chosen.apply(breasts['cancer'], sites)
  return {**breasts, 'calibrated': calibrated, 'called': called.astype(int)}


def write(
  c,
  workdir,
  split,
  table,
  predictions,
  breasts,
  metrics,
  *,
  data=None,
  rows=None,
  explain=None,
) -> None:
  """Writes the files of `eval/<split>/`, and submission.csv where it is one.

  `data`, `rows` and `explain` are for the report, as in `reporting.write`.
  """
  folder = workdir / 'eval' / split
  files.write_text(folder / 'predictions.csv', csv_text(predictions))
  if breasts:
    files.write_text(folder / 'breasts.csv', csv_text(breasts))
  if split == 'submission':
    if breasts:
      submission.write(
        workdir / 'submission.csv',
        breasts['prediction_id'],
        breasts['cancer'],
        expected_ids=table['prediction_id'],
      )
    return
  history = writers.read(workdir)
  plots.write_curves(workdir / 'plots', history)
  write_report(
    c,
    folder,
    table,
    metrics,
    breasts=breasts,
    history=history,
    environment=_json(workdir / 'environment.json'),
    workdir=workdir,
    data=data,
    rows=rows,
    probability=predictions.get('cancer'),
    explain=explain,
  )


def write_report(c, folder, table, metrics, **more) -> None:
  """Writes metrics.json, and what `reporting.write` writes, which takes all."""
  files.write_json(folder / 'metrics.json', metrics)
  reporting.write(c, folder, table, metrics, **more)


def _json(path: pathlib.Path) -> dict:
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}
