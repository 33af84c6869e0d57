"""From images to breasts: one probability for each prediction_id."""

from collections.abc import Mapping

import numpy as np

from rsna_jax import errors, schema

HOW = ('mean', 'max')


def breasts(
  prediction_id,
  patient_id,
  probabilities,
  labels=None,
  *,
  how: str = 'mean',
  extra: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
  """Joins the images of each breast.

  Args:
    prediction_id: (N,) text, the breast of each image.
    patient_id: (N,) int.
    probabilities: (N,) float, of cancer.
    labels: (N,) int, 0, 1, or -1 for unknown; None: all unknown. A breast has
      the label of its images that have one.
    how: mean or max, over however many images, duplicates of a view included.
    extra: name -> (N,) columns; each breast gets the value of its first image.

  Returns:
    Arrays of one entry per breast, in order of first appearance:
    prediction_id, patient_id, cancer (float64 probability), label (int64),
    n_images (int64), and the extra columns.

  Raises:
    errors.DataError: two images of a breast differ in label or patient, a
      probability is NaN, or the arrays differ in length.
  """
  names = np.asarray(prediction_id)
  patients = np.asarray(patient_id)
  values = np.asarray(probabilities, np.float64)
  if labels is None:
    labels = np.full(len(names), schema.MISSING)
  labels = np.asarray(labels).astype(np.int64)
  extra = {key: np.asarray(column) for key, column in (extra or {}).items()}
  columns = {
    'prediction_id': names,
    'patient_id': patients,
    'probabilities': values,
    'labels': labels,
    **extra,
  }
  for key, column in columns.items():
    if column.shape != names.shape:
      raise errors.DataError(
        f'{key} has shape {column.shape}, prediction_id {names.shape}: give '
        'one value for each image'
      )
  if how not in HOW:
    raise errors.ConfigError(
      f'aggregate={how!r}: choose {" or ".join(HOW)} (eval.aggregate)'
    )
  if np.isnan(values).any():
    at = int(np.flatnonzero(np.isnan(values))[0])
    raise errors.DataError(
      f'prediction_id {names[at]}: the probability of one of its images is '
      'NaN; predict it again'
    )
  _, first, breast = np.unique(names, return_index=True, return_inverse=True)
  rank = np.empty(len(first), np.int64)
  rank[np.argsort(first)] = np.arange(len(first))
  breast, first = rank[breast], np.sort(first)
  _check_equal('patient_id', patients, patients[first][breast], names)
  label = np.full(len(first), schema.MISSING)
  known = labels != schema.MISSING
  # Written from the last image to the first, so that the first known one stays.
  label[breast[known][::-1]] = labels[known][::-1]
  _check_equal('cancer', labels[known], label[breast][known], names[known])

  n_images = np.bincount(breast, minlength=len(first))
  if how == 'mean':
    cancer = np.bincount(breast, weights=values, minlength=len(first))
    cancer = cancer / np.maximum(n_images, 1)
  else:
    cancer = np.full(len(first), -np.inf)
    np.maximum.at(cancer, breast, values)
  return {
    **{key: column[first] for key, column in extra.items()},
    'prediction_id': names[first],
    'patient_id': patients[first],
    'cancer': cancer,
    'label': label,
    'n_images': n_images.astype(np.int64),
  }


def _check_equal(what, values, expected, names) -> None:
  wrong = np.flatnonzero(values != expected)
  if len(wrong):
    at = wrong[0]
    raise errors.DataError(
      f'prediction_id {names[at]}: {what} is {expected[at]} for one image and '
      f'{values[at]} for another; mend the table '
      f'({len(np.unique(names[wrong]))} breasts are like this)'
    )
