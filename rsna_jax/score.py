"""Everything that metrics.json says, from the predictions of images.

Breasts come first, since a breast is what is diagnosed; intervals resample
patients. Values that are not defined are None, because JSON has no NaN.
"""

from collections.abc import Mapping

import numpy as np

from rsna_jax import aggregate as aggregate_lib
from rsna_jax import bootstrap as bootstrap_lib
from rsna_jax import class_score, errors, metrics, schema, subgroups, thresholds

CROSS_FITTED = (
  'cross-fitted: each half of the patients has the best one of the other half'
)
GIVEN = 'given: it was chosen on other data'


def score(
  images: Mapping[str, np.ndarray],
  *,
  aggregate: str = 'mean',
  bootstrap: int = 2_000,
  seed: int = 0,
  threshold: float | None = None,
) -> dict:
  """Figures of cancer probabilities, for breasts, images and subgroups.

  Args:
    images: (N,) arrays: prediction_id, patient_id, label (0, 1, or -1 for
      unknown), probability; and any of the subgroup columns of the schema.
    aggregate: images to a breast, mean or max.
    bootstrap: resamples of the patients behind each interval; 0: none.
    seed: of the resamples and of the halves that choose thresholds.
    threshold: a probability chosen on other data, from which on a breast is
      called positive; None: cross-fitted on these.

  Returns:
    {'breast', 'image': {'n', 'positives', 'patients', 'prevalence', figures},
    'subgroups': [...], 'threshold', 'aggregate', 'bootstrap'}. A figure is
    {'value', 'low', 'high'}; `threshold.value` is for use on other data.

  Raises:
    errors.DataError: a probability is NaN, or labels differ within a breast.
  """
  patient = np.asarray(images['patient_id'])
  label = np.asarray(images['label']).astype(np.int64)
  probability = np.asarray(images['probability'], np.float64)
  if threshold is not None and not 0 <= threshold <= 1:
    raise errors.ConfigError(
      f'threshold {threshold}: give a probability, from 0 to 1'
    )
  columns = {
    name: np.asarray(images[name])
    for name in (*subgroups.OF_BREASTS, *subgroups.OF_IMAGES)
    if name in images
  }
  breasts = aggregate_lib.breasts(
    images['prediction_id'],
    patient,
    probability,
    label,
    how=aggregate,
    extra={x: y for x, y in columns.items() if x in subgroups.OF_BREASTS},
  )
  known = breasts['label'] != schema.MISSING
  breasts = {name: column[known] for name, column in breasts.items()}
  seen = label != schema.MISSING
  resamples = None
  if bootstrap and seen.any():
    resamples = bootstrap_lib.Resamples(patient[seen], n=bootstrap, seed=seed)
  of_breasts = breasts['label'], breasts['cancer'], breasts['patient_id']
  of_images = label[seen], probability[seen], patient[seen]
  by_breast = _level(*of_breasts, resamples, seed=seed, threshold=threshold)
  groups = []
  for name in (x for x in subgroups.OF_BREASTS if x in columns):
    groups += subgroups.roc_aucs(
      'breast', name, breasts[name], *of_breasts, resamples
    )
  for name in (x for x in subgroups.OF_IMAGES if x in columns):
    groups += subgroups.roc_aucs(
      'image', name, columns[name][seen], *of_images, resamples
    )
  operating = by_breast['pf1_best_threshold'] or {}
  return {
    'breast': by_breast,
    'image': _level(*of_images, resamples, seed=seed, threshold=None),
    'subgroups': groups,
    'threshold': {
      'value': operating.get('threshold'),
      'chosen_on': 'these breasts' if threshold is None else 'other data',
      'rule': 'positive from this probability on',
    },
    'aggregate': aggregate,
    'bootstrap': {'resamples': bootstrap, 'unit': 'patient', 'level': 0.95},
  }


def score_target(
  columns: Mapping[str, np.ndarray],
  probabilities: np.ndarray,
  target: str,
  *,
  aggregate: str = 'mean',
  bootstrap: int = 2_000,
  seed: int = 0,
  threshold: float | None = None,
) -> dict:
  """Figures of whatever a target speaks of: cancer, classes, or both.

  Args:
    columns: the columns of a table, (N,) each.
    probabilities: (N, K) float, K being `schema.TARGETS[target]`.
    target: a key of `schema.TARGETS`.
    aggregate: as in `score`, like the others.
    bootstrap: resamples.
    seed: of them.
    threshold: chosen on other data, or None.

  Returns:
    What `score` returns, and `class_score.score_classes` under 'classes'.
  """
  probabilities = np.asarray(probabilities, np.float64)
  found = {'target': target}
  if target != 'density':
    cancer = (
      probabilities[:, 0]
      if target == 'cancer'
      else probabilities[:, 1::2].sum(axis=1)
    )
    # A sum of a softmax may exceed 1 by a rounding error.
    cancer = np.minimum(cancer, 1.0)
    found |= score(
      {**columns, 'label': columns['cancer'], 'probability': cancer},
      aggregate=aggregate,
      bootstrap=bootstrap,
      seed=seed,
      threshold=threshold,
    )
  if schema.TARGETS[target] > 1:
    found['classes'] = class_score.score_classes(
      schema.target_labels(columns, target),
      probabilities,
      columns['patient_id'],
      bootstrap=bootstrap,
      seed=seed,
    )
  return found


def breast_scores(
  columns: Mapping[str, np.ndarray], probability: np.ndarray, *, how: str
) -> dict[str, float]:
  """ROC AUC, average precision and pF1 of breasts, without intervals.

  Args:
    columns: prediction_id, patient_id and cancer, (N,) each.
    probability: (N,) of the images.
    how: images to a breast, mean or max.

  Returns:
    Floats; the AUC is NaN where a class is missing.
  """
  breasts = aggregate_lib.breasts(
    columns['prediction_id'],
    columns['patient_id'],
    probability,
    columns['cancer'],
    how=how,
  )
  known = breasts['label'] != schema.MISSING
  label, cancer = breasts['label'][known], breasts['cancer'][known]
  return {
    'roc_auc': metrics.roc_auc(label, cancer),
    'average_precision': metrics.average_precision(label, cancer),
    'pf1': metrics.pf1(label, cancer),
  }


def text(found: Mapping) -> str:
  """The main figures as lines of text, for a terminal."""
  lines = []
  if 'breast' in found:
    level = found['breast']
    lines.append(
      f'{level["n"]:,} breasts of {level["patients"]:,} patients, '
      f'{level["positives"]:,} positive'
    )
    for name, title in (
      ('roc_auc', 'ROC AUC'),
      ('average_precision', 'average precision'),
      ('pf1', 'pF1'),
      ('pf1_best_threshold', 'F1 at a threshold'),
    ):
      lines.append(f'  {title:18} {_shown(level.get(name))}')
  if 'classes' in found:
    level = found['classes']
    lines.append(f'{level["n"]:,} images of {len(level["names"])} classes')
    for name, title in (
      ('accuracy', 'accuracy'),
      ('macro_f1', 'macro F1'),
      ('quadratic_kappa', 'density kappa'),
    ):
      lines.append(f'  {title:18} {_shown(level.get(name))}')
  return '\n'.join(lines)


def _shown(figure: Mapping | None) -> str:
  if not figure or figure['value'] is None:
    return 'not defined'
  shown = f'{figure["value"]:.4f}'
  if figure['low'] is not None:
    shown += f'  (95 % interval {figure["low"]:.4f} to {figure["high"]:.4f})'
  return shown


def _level(
  labels, probabilities, patients, resamples, *, seed, threshold
) -> dict:
  """The figures of one level, breasts or images."""
  n, positives = len(labels), int(labels.sum())
  prevalence = positives / n if n else float('nan')
  level = {
    'n': n,
    'positives': positives,
    'patients': len(np.unique(patients)),
    'prevalence': bootstrap_lib.number(prevalence),
    # What answering 1 everywhere scores: the floor that pF1 starts from.
    'pf1_all_ones': bootstrap_lib.number(2 * prevalence / (1 + prevalence)),
  }
  if threshold is None:
    called, applied = thresholds.cross_fit(
      labels, probabilities, patients, seed
    )
    for_others, _ = metrics.best_threshold(labels, probabilities)
    chosen_on = CROSS_FITTED
  else:
    called, applied = probabilities >= threshold, [threshold]
    for_others, chosen_on = threshold, GIVEN
  samples = {}
  if resamples is not None and n:
    samples = bootstrap_lib.binary(
      labels, probabilities, patients, resamples, predicted=called
    )
  of_both = {
    'roc_auc': metrics.roc_auc,
    'sensitivity_at_90_specificity': metrics.sensitivity_at_specificity,
    'specificity_at_90_sensitivity': metrics.specificity_at_sensitivity,
  }
  of_positives = {
    'average_precision': metrics.average_precision,
    'pf1': metrics.pf1,
  }
  of_any = {
    'brier': metrics.brier,
    'log_loss': metrics.log_loss,
    'ece': metrics.expected_calibration_error,
  }
  for name, figure in {**of_both, **of_positives, **of_any}.items():
    # By definition some are 0 without positives, which would look measured.
    defined = n > 0 if name in of_any else positives > 0
    level[name] = (
      bootstrap_lib.figure(figure(labels, probabilities), samples.get(name))
      if defined
      else None
    )
    if level[name] is not None and level[name]['value'] is None:
      level[name] = None
  level['pf1_best_threshold'] = None
  if positives:
    level['pf1_best_threshold'] = {
      **bootstrap_lib.figure(metrics.pf1(labels, called), samples.get('f1')),
      'threshold': bootstrap_lib.number(for_others),
      'applied': [bootstrap_lib.number(value) for value in applied],
      'chosen_on': chosen_on,
    }
  return level
