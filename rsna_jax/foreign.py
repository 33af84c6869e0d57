"""Evaluation of a file of predictions, whoever made them.

It gives the metrics.json, breasts.csv and report.html of a run's evaluation,
from the two files alone.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib

import ml_collections
import numpy as np

from rsna_jax import errors, files, results, schema
from rsna_jax.scoring import (
  class_score,
  label_files,
  prediction_files,
  score,
  scored_sets,
)
from rsna_jax.stats import decision as decision_lib
from rsna_jax.stats import subgroups


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
  """What `evaluate` found.

  Attributes:
    metrics: the content of metrics.json.
    breasts: columns of (B,) arrays, as in breasts.csv; may be empty.
    folder: where the files were written, or None.
    notes: what was left out or is odd, a line each.
  """

  metrics: dict
  breasts: dict[str, np.ndarray]
  folder: pathlib.Path | None
  notes: list[str]


def evaluate(
  predictions: str | os.PathLike,
  labels: str | os.PathLike,
  out: str | os.PathLike | None = None,
  *,
  aggregate: str = 'mean',
  calibration: str = 'none',
  rule: str | float = 'best_f1',
  per_site: bool = False,
  threshold: float | None = None,
  bootstrap: int = 2_000,
  seed: int = 0,
  subset: bool = False,
  clip: bool = False,
  write: bool = True,
) -> Judgement:
  """Judges predictions against labels.

  Args:
    predictions: CSV of images or breasts, as `prediction_files.read` wants it.
    labels: train.csv, or what `label_files.read` takes.
    out: folder for metrics.json, breasts.csv and report.html; None: beside the
      predictions, by the name of their file with `_evaluation`.
    aggregate: images to a breast, as in `score.score`, like the next ones.
    calibration: of breasts, out of fold.
    rule: of the operating point, out of fold.
    per_site: whether sites get their own of both.
    threshold: of the raw probability, chosen on other data.
    bootstrap: resamples of patients behind each interval.
    seed: of them.
    subset: whether rows that are in one file alone are left out.
    clip: whether probabilities outside [0, 1] are clipped, not refused.
    write: whether to write the folder.

  Raises:
    errors.InputError: one of the files or options is not usable.
  """
  if threshold is not None and (calibration != 'none' or rule != 'best_f1'):
    raise errors.ConfigError(
      f'threshold {threshold} is one of raw probabilities: leave it out, or '
      'calibration and rule'
    )
  said = prediction_files.read(predictions, clip=clip)
  if said.per == 'breast' and aggregate != 'mean':
    raise errors.ConfigError(
      f'aggregate={aggregate!r}: {said.path} has a row a breast, so there are '
      'no images to join; leave it out'
    )
  table, of_images = label_files.read(labels)
  said, rows, notes = prediction_files.join(
    said, table, of_images, labels, subset=subset
  )
  if said.clipped:
    notes.append(f'clipped: {said.clipped:,} probabilities lay outside [0, 1]')
  judged = table.take(rows)
  _check_columns(judged, labels, aggregate, per_site)
  options = {
    'aggregate': aggregate,
    'calibration': calibration,
    'rule': rule,
    'per_site': per_site,
    'bootstrap': bootstrap,
    'seed': seed,
  }
  made = contextlib.nullcontext()
  if write:
    made = files.folder(_folder(said.path, labels, out))
  with made as folder:
    metrics, breasts = {}, {}
    if said.cancer is not None:
      _check_labels(judged['cancer'], labels)
      notes += _odd(said)
      metrics, breasts = _cancer(said, judged, options, threshold)
    if said.classes is not None:
      metrics['classes'] = _classes(said, judged, labels, bootstrap, seed)
    metrics |= {
      'notice': schema.NOTICE,
      'target': said.target,
      'split': 'predictions',
      'rows': said.per,
      'files': {
        name: {'name': pathlib.Path(path).name, 'sha256': _digest(path)}
        for name, path in (('predictions', said.path), ('labels', labels))
      },
      'notes': notes,
    }
    if folder is not None:
      shown = judged
      if said.per == 'breast':
        shown = table.take(np.isin(table['prediction_id'], said.ids))
      c = ml_collections.ConfigDict(
        {
          'name': pathlib.Path(said.path).stem,
          'seed': seed,
          'predictions': os.fspath(said.path),
          'labels': os.fspath(labels),
          'eval': {**options, 'threshold': threshold, 'clip': clip},
        }
      )
      _write(c, folder, shown, metrics, breasts)
  return Judgement(metrics=metrics, breasts=breasts, folder=folder, notes=notes)


def text(found: Judgement) -> str:
  """The main figures and the notes as lines, for a terminal."""
  lines = [f'note: {note}' for note in found.notes]
  lines.append(score.text(found.metrics))
  if found.folder is not None:
    lines.append(f'written to {found.folder}')
  return '\n'.join(lines)


def _cancer(said, judged, options, threshold) -> tuple[dict, dict]:
  images = {**judged.columns, 'label': judged['cancer']}
  images['probability'] = said.cancer
  if said.per == 'breast':
    for name in ('image_id', *subgroups.OF_IMAGES):
      del images[name]
  metrics = score.score(images, threshold=threshold, **options)
  if said.per == 'breast':
    metrics['image'] = None
  breasts, _ = scored_sets.breasts(
    images,
    said.cancer,
    judged.columns,
    how=options['aggregate'],
    learned=None,
    seed=options['seed'],
  )
  kept = ('prediction_id', 'patient_id', 'cancer', 'label', 'n_images')
  sites = {name: judged[name] for name in ('prediction_id', 'site_id')}
  breasts = results.judged(
    sites,
    {name: breasts[name] for name in kept},
    None if threshold is None else decision_lib.fixed(threshold),
  )
  return metrics, breasts


def _classes(said, judged, labels, bootstrap: int, seed: int) -> dict:
  truth = schema.target_labels(judged.columns, said.target)
  if not (truth != schema.MISSING).any():
    raise errors.DataError(
      f'{labels}: no density of a predicted image is known: leave the columns '
      'of classes out'
    )
  return class_score.score_classes(
    truth, said.classes, judged['patient_id'], bootstrap=bootstrap, seed=seed
  )


def _check_labels(cancer: np.ndarray, path) -> None:
  known = cancer[cancer != schema.MISSING]
  if not len(known):
    raise errors.DataError(
      f'{path}: no predicted row has a label: give labels of these rows'
    )
  if known.min() == known.max():
    kind = 'positive' if known[0] else 'negative'
    raise errors.DataError(
      f'{path}: all {len(known)} predicted rows with a label are {kind}: no '
      'figure can be made of one class; add rows of the other'
    )


def _check_columns(judged, path, aggregate: str, per_site: bool) -> None:
  """Refuses what would go unheard, because the labels lack its column."""
  if aggregate == 'view_max' and not (judged['view'] != '').any():
    raise errors.ConfigError(
      f'aggregate=view_max: {path} knows no view: add the column view, or '
      'choose another'
    )
  if per_site and not (judged['site_id'] != schema.MISSING).any():
    raise errors.ConfigError(
      f'--per-site: {path} knows no site: add the column site_id, or leave it '
      'out'
    )


def _odd(said) -> list[str]:
  if said.cancer.min() == said.cancer.max():
    return [
      f'every prediction is {said.cancer[0]:g}: nothing is ranked, and the ROC '
      'AUC of that is 0.5'
    ]
  return []


def _folder(predictions, labels, out) -> str | os.PathLike:
  path = pathlib.Path(predictions)
  folder = path.parent / f'{path.stem}_evaluation' if out is None else out
  for given in (path, pathlib.Path(labels)):
    if pathlib.Path(folder, 'breasts.csv').resolve() == given.resolve():
      raise errors.ConfigError(
        f'--out {folder}: its breasts.csv is {given} itself and would be '
        'replaced: choose another folder'
      )
  return folder


def _write(c, folder, table, metrics, breasts) -> None:
  if breasts:
    files.write_text(folder / 'breasts.csv', results.csv_text(breasts))
  else:
    (folder / 'breasts.csv').unlink(missing_ok=True)  # of an earlier call
  results.write_report(c, folder, table, metrics, breasts=breasts)


def _digest(path: str | os.PathLike) -> str:
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
