"""A run's report: gathers what the page and the card say beside the figures.

It knows the run directory and the prepared data set; the pages below it know
tables and numbers alone.
"""

import csv
import hashlib
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from rsna_jax import config as config_lib
from rsna_jax import division, errors, schema
from rsna_jax.report import card, data_tables, html, leaks, tables, worst
from rsna_jax.stats import decision

Explain = Callable[[int], np.ndarray | None]


def sides(c, data, rows: np.ndarray, split: str) -> np.ndarray:
  """(len(data),) the part of each row of a data set, as an evaluation sees it.

  Args:
    c: the run's config.
    data: the prepared data set.
    rows: judged row numbers.
    split: of them; `all` is of other data than the run was trained on.
  """
  found = np.full(len(data), data_tables.LEFT_OUT, '<U12')
  if split in ('all', 'submission'):
    found[rows] = split
  elif split == 'out_of_fold':
    found[data.split == 'train'] = 'not used'
    found[rows] = 'out of fold'
  else:
    found[data.split == 'train'] = division.divide(c, data)
  return found


def trained_on(c, data, parts: np.ndarray) -> np.ndarray:
  """`sides`, where training keeps the rows alone that have a target.

  A run on density, say, leaves out the images whose density nobody noted.
  """
  label = schema.target_labels(data.table.columns, c.data.target)
  unused = (parts == 'train') & (label == schema.MISSING)
  return np.where(unused, data_tables.NO_TARGET, parts)


def check_leaks(
  c,
  data,
  rows: np.ndarray,
  split: str,
  breasts: Mapping[str, np.ndarray],
  folds: np.ndarray | None = None,
) -> dict | None:
  """What metrics.json says under 'leaks'; None where training is not known.

  Args:
    c: the run's config.
    data: the prepared data set.
    rows: (N,) judged row numbers.
    split: of them.
    breasts: `prediction_id` and `cancer` of the model; may be empty.
    folds: (N,) of each judged row, where each fold was judged by a model of
      the others.
  """
  parts = sides(c, data, rows, split)
  if split == 'out_of_fold':
    parts[:] = data_tables.LEFT_OUT
    parts[rows] = [f'fold {k}' for k in np.asarray(folds).tolist()]
    names = sorted(set(parts[rows].tolist()))
    pairs = [(np.isin(parts, names) & (parts != x), parts == x) for x in names]
  elif split in ('validation', 'test'):
    # The validation split chose the checkpoint, so it counts as training.
    before = ('train', 'validation') if split == 'test' else ('train',)
    pairs = [(np.isin(parts, before), parts == split)]
    parts = np.where(np.isin(parts, before), 'training', parts)
    parts[~np.isin(parts, ('training', split))] = data_tables.LEFT_OUT
  else:
    return None
  inside = parts != data_tables.LEFT_OUT
  columns = {name: x[inside] for name, x in data.table.columns.items()}
  metadata = None
  if breasts:
    said = zip(
      np.asarray(breasts['prediction_id']).tolist(),
      np.asarray(breasts['cancer']).tolist(),
      strict=True,
    )
    metadata = leaks.metadata_only(
      columns,
      [(a[inside], b[inside]) for a, b in pairs],
      dict(said),
      bootstrap=c.eval.bootstrap,
      seed=c.seed,
    )
  return leaks.findings(
    columns,
    parts[inside],
    c.model.metadata,
    leaks.read_hashes(data.name),
    metadata,
  )


def write(
  c,
  folder: pathlib.Path,
  table,
  metrics: Mapping,
  *,
  breasts: Mapping[str, np.ndarray] | None = None,
  history=(),
  environment: Mapping | None = None,
  workdir: pathlib.Path | None = None,
  data=None,
  rows: np.ndarray | None = None,
  probability: np.ndarray | None = None,
  explain: Explain | None = None,
) -> None:
  """Writes report.html and checklist.json, and a run's MODEL_CARD.md.

  The card is of the validation or test split, or of all folds together.

  Args:
    c: the run's config; of predictions made elsewhere, what is known.
    folder: of the evaluation.
    table: the judged rows.
    metrics: the content of metrics.json.
    breasts: of `aggregate.breasts`, with `calibrated` where there is one.
    history: records of metrics.jsonl.
    environment: of the run.
    workdir: the run directory, or that of its folds; None: no run, no card.
    data: the prepared data set; None: the table is all there is.
    rows: (N,) row numbers of the table in `data`.
    probability: (N,) of cancer, of the images; None: no pictures.
    explain: row in `data` -> (H, W) map in [0, 1], or None.

  Raises:
    OSError: a file cannot be written.
  """
  split = metrics['split']
  breasts = breasts or {}
  run = {'config': c.to_dict(), 'environment': environment or {}}
  pictures = []
  if data is None:
    run['data'] = data_tables.summary(
      table.columns, np.full(len(table), 'all'), ['all']
    )
  else:
    parts = trained_on(c, data, sides(c, data, rows, split))
    run['data'] = data_tables.summary(
      data.table.columns,
      parts,
      sorted(set(parts[rows].tolist())),
      name=c.data.name,
      fingerprint=data.fingerprint,
      skipped=_skipped(pathlib.Path(data.name)),
    )
    count = c.eval.get('worst', worst.MOST)
    if breasts and count and data.has_images and probability is not None:
      pictures = worst.pictures(
        table.columns,
        probability,
        breasts,
        data,
        rows,
        explain=explain,
        count=count,
      )
  if workdir is not None:
    run['changes'] = changes(c)
    run['weights'] = weights(workdir, metrics.get('step'))
  html.write_report(
    folder / 'report.html',
    title=f'{c.name}: {split.replace("_", " ")}',
    run=run,
    metrics=metrics,
    breasts=_calibrated(c, table, breasts, metrics),
    history=list(history),
    worst=pictures,
  )
  if workdir is not None and split in ('validation', 'test', 'out_of_fold'):
    card.write(workdir / 'MODEL_CARD.md', c.name, run, metrics)


def changes(c) -> dict[str, tuple]:
  """Field -> its default and its value, where they differ."""
  default = dict(tables.flat(config_lib.default().to_dict()))
  here = dict(tables.flat(c.to_dict()))
  return {
    name: (default.get(name), value)
    for name, value in here.items()
    if default.get(name) != value and name != 'name'
  }


def weights(workdir: pathlib.Path, step: int | None) -> dict[str, str]:
  """Hashes by which a checkpoint and its preprocessing are known."""
  found = {}
  for name, path in (
    (
      'checkpoint_manifest_sha256',
      workdir / 'checkpoints' / str(step) / 'manifest.json',
    ),
    ('preprocess_sha256', workdir / 'preprocess.json'),
  ):
    if path.is_file():
      found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found


def _calibrated(c, table, breasts: Mapping, metrics: Mapping) -> Mapping:
  """Breasts with calibrated probabilities, out of fold where none are given."""
  section = metrics.get('decision') or {}
  known = breasts.get('label', np.array([])) != schema.MISSING
  if (
    not breasts
    or 'calibrated' in breasts
    or section.get('calibration', 'none') == 'none'
    or not known.all()
  ):
    return breasts
  of_site = dict(
    zip(table['prediction_id'].tolist(), table['site_id'], strict=True)
  )
  names = breasts['prediction_id'].tolist()
  try:
    calibrated, _, _ = decision.cross_fit(
      breasts['label'],
      breasts['cancer'],
      breasts['patient_id'],
      method=section['calibration'],
      rule=c.eval.rule,
      sites=np.array([of_site[x] for x in names]) if c.eval.per_site else None,
      seed=c.seed,
    )
  except errors.DataError:
    return breasts
  return {**breasts, 'calibrated': calibrated}


def _skipped(folder: pathlib.Path) -> int | None:
  """Files and rows that the preparation left out; None: nobody knows."""
  if not (folder / 'records.json').is_file():
    return None
  try:
    with (folder / 'skipped.csv').open(encoding='utf-8', newline='') as file:
      return sum(1 for _ in csv.DictReader(file))
  except FileNotFoundError:
    return 0
