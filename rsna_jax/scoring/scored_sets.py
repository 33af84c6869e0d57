"""The images and breasts that are scored, checked before any figure is made."""

from collections.abc import Mapping

import numpy as np

from rsna_jax import aggregate, errors, metrics, schema
from rsna_jax.stats import pooling, subgroups


def probabilities(images: Mapping[str, np.ndarray], clip: bool) -> np.ndarray:
  """(N,) float64 of a set that is not empty and has no image twice.

  Args:
    images: columns; `probability`, and image_id if there.
    clip: whether values outside [0, 1] are clipped, not refused.

  Raises:
    errors.DataError: there is no image, one occurs twice, or is out of range.
  """
  found = np.asarray(images['probability'], np.float64)
  if not len(found):
    raise errors.DataError(
      'there is no prediction to evaluate: the split is empty'
    )
  if 'image_id' in images:
    names, counts = np.unique(images['image_id'], return_counts=True)
    twice = names[counts > 1]
    if len(twice):
      raise errors.DataError(
        f'image_id {twice[0]} occurs more than once ({len(twice)} do): give '
        'one prediction for each image'
      )
  if clip:
    return np.clip(found, 0.0, 1.0)
  if not np.isnan(found).any():  # NaN is named with its breast, later
    metrics.inside(found)
  return found


def breasts(
  images: Mapping[str, np.ndarray],
  probability: np.ndarray,
  columns: Mapping[str, np.ndarray],
  *,
  how: str,
  learned: pooling.Pooling | None,
  seed: int,
) -> tuple[dict[str, np.ndarray], pooling.Pooling | None]:
  """Columns of breasts, and the learned aggregation for use on other data.

  Args:
    images: columns prediction_id, patient_id and label.
    probability: (N,).
    columns: of subgroups, and the view.
    how: as in `aggregate.breasts`; learned is cross-fitted without `learned`.
    learned: fitted on other data, or None.
    seed: of the parts.

  Raises:
    errors.DataError: as `aggregate.breasts` and `pooling.fit`.
  """
  names = images['prediction_id']
  fit_here = how == 'learned' and learned is None
  found = aggregate.breasts(
    names,
    images['patient_id'],
    probability,
    images['label'],
    how='mean' if fit_here else how,
    extra={x: y for x, y in columns.items() if x in subgroups.OF_BREASTS},
    views=columns.get('view') if how == 'view_max' else None,
    learned=learned,
  )
  if fit_here:
    table = aggregate.learning_columns(names, probability)
    known = found['label'] != schema.MISSING
    found['cancer'] = pooling.cross_fit(
      found['label'], table, found['patient_id'], seed=seed
    )
    learned = pooling.fit(found['label'][known], table[known])
  return found, learned


def breast_scores(
  columns: Mapping[str, np.ndarray], probability: np.ndarray, *, how: str
) -> dict[str, float]:
  """ROC AUC, average precision and pF1 of breasts, without intervals.

  Args:
    columns: prediction_id, patient_id and cancer, (N,) each.
    probability: (N,) of the images.
    how: images to a breast, as in `aggregate.breasts`; in place of `learned`,
      which this quick look cannot fit, it takes the mean.

  Returns:
    Floats; the AUC is NaN where a class is missing.
  """
  breasts = aggregate.breasts(
    columns['prediction_id'],
    columns['patient_id'],
    probability,
    columns['cancer'],
    how='mean' if how == 'learned' else how,
    views=columns['view'] if how == 'view_max' else None,
  )
  known = breasts['label'] != schema.MISSING
  label, cancer = breasts['label'][known], breasts['cancer'][known]
  return {
    'roc_auc': metrics.roc_auc(label, cancer),
    'average_precision': metrics.average_precision(label, cancer),
    'pf1': metrics.pf1(label, cancer),
  }
