"""From images to breasts, one probability for each prediction_id, and on to
patients.
"""

from collections.abc import Mapping

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.stats import pooling

HOW = ('mean', 'max', 'noisy_or', 'view_max', 'learned')


def breasts(
  prediction_id,
  patient_id,
  probabilities,
  labels=None,
  *,
  how: str = 'mean',
  extra: Mapping[str, np.ndarray] | None = None,
  views=None,
  learned: pooling.Pooling | None = None,
) -> dict[str, np.ndarray]:
  """Joins the images of each breast.

  Args:
    prediction_id: (N,) text, the breast of each image.
    patient_id: (N,) int.
    probabilities: (N,) float, of cancer.
    labels: (N,) int, 0, 1, or -1 for unknown; None: all unknown. A breast has
      the label of its images that have one.
    how: over however many images, duplicates of a view included: mean; max;
      noisy_or, the chance that one of independent images is right; view_max,
      the mean of the images of a view, then the highest view; learned.
    extra: name -> (N,) columns; each breast gets the value of its first image.
    views: (N,) text, for view_max; images without a view are a view together.
    learned: for learned, fitted on other patients.

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
  if views is not None:
    columns['views'] = views = np.asarray(views)
  _check_how(how, views is not None, learned is not None)
  for key, column in columns.items():
    if column.shape != names.shape:
      raise errors.DataError(
        f'{key} has shape {column.shape}, prediction_id {names.shape}: give '
        'one value for each image'
      )
  if np.isnan(values).any():
    at = int(np.flatnonzero(np.isnan(values))[0])
    raise errors.DataError(
      f'prediction_id {names[at]}: the probability of one of its images is '
      'NaN; predict it again'
    )
  first, breast = _groups(names)
  _check_equal('patient_id', patients, patients[first][breast], names)
  label = np.full(len(first), schema.MISSING)
  known = labels != schema.MISSING
  # Written from the last image to the first, so that the first known one stays.
  label[breast[known][::-1]] = labels[known][::-1]
  _check_equal('cancer', labels[known], label[breast][known], names[known])

  n_images = np.bincount(breast, minlength=len(first))
  cancer = combine(
    breast, values, len(first), how=how, views=views, learned=learned
  )
  return {
    **{key: column[first] for key, column in extra.items()},
    'prediction_id': names[first],
    'patient_id': patients[first],
    'cancer': cancer,
    'label': label,
    'n_images': n_images.astype(np.int64),
  }


def learning_columns(prediction_id, probabilities) -> np.ndarray:
  """(B, 5) what a `pooling` is fitted on, a row a breast as in `breasts`."""
  first, breast = _groups(np.asarray(prediction_id))
  values = np.asarray(probabilities, np.float64)
  return pooling.columns_of(breast, values, len(first))


def combine(
  group: np.ndarray,
  values: np.ndarray,
  size: int,
  *,
  how: str = 'mean',
  views: np.ndarray | None = None,
  learned: pooling.Pooling | None = None,
) -> np.ndarray:
  """(size,) float64 of (N,) probabilities, each group of them joined.

  Args:
    group: (N,) int, 0 to size - 1, each of which occurs.
    values: (N,) probabilities.
    size: number of groups.
    how: as in `breasts`, like views and learned.
    views: or None.
    learned: or None.
  """
  if how == 'mean':
    n = np.bincount(group, minlength=size)
    total = np.bincount(group, weights=values, minlength=size)
    # Rounding may carry it beyond its images, and would then rank groups whose
    # images are all alike by how many they are: 0.2 three times is above 0.2.
    return np.clip(
      total / np.maximum(n, 1),
      -_highest(group, -values, size),
      _highest(group, values, size),
    )
  if how == 'noisy_or':
    # A certain image makes the group certain: the logarithm is -inf.
    with np.errstate(divide='ignore'):
      spared = np.log1p(-np.clip(values, 0.0, 1.0))
    return -np.expm1(np.bincount(group, weights=spared, minlength=size))
  if how == 'learned':
    return learned(pooling.columns_of(group, values, size))
  if how == 'view_max':
    kinds, view = np.unique(views, return_inverse=True)
    # Only pairs that occur, or many breasts of many views would be much.
    pairs, pair = np.unique(
      group * max(len(kinds), 1) + view, return_inverse=True
    )
    values = combine(pair, values, len(pairs))
    group = pairs // max(len(kinds), 1)
  return _highest(group, values, size)


def patients(
  patient_id, probabilities, labels=None, *, how: str = 'max'
) -> dict[str, np.ndarray]:
  """Joins the breasts of each patient.

  Args:
    patient_id: (B,) int, the patient of each breast (or image).
    probabilities: (B,) float, of cancer.
    labels: (B,) int, 0, 1, or -1 for unknown; None: all unknown. A patient is
      positive where one breast is, and negative where all are.
    how: max, mean or noisy_or.

  Returns:
    Arrays of one entry per patient, in order of first appearance: patient_id,
    cancer (float64 probability), label (int64), n_breasts (int64).

  Raises:
    errors.DataError: a probability is NaN, or the arrays differ in length.
  """
  names = np.asarray(patient_id)
  values = np.asarray(probabilities, np.float64)
  if labels is None:
    labels = np.full(len(names), schema.MISSING)
  labels = np.asarray(labels).astype(np.int64)
  if not names.shape == values.shape == labels.shape:
    raise errors.DataError(
      f'patient_id has shape {names.shape}, probabilities {values.shape} and '
      f'labels {labels.shape}: give one of each for a breast'
    )
  if how not in ('max', 'mean', 'noisy_or'):
    raise errors.ConfigError(f'how={how!r}: choose max, mean or noisy_or')
  if np.isnan(values).any():
    at = int(np.flatnonzero(np.isnan(values))[0])
    raise errors.DataError(
      f'patient_id {names[at]}: the probability of a breast is NaN; predict it '
      'again'
    )
  first, patient = _groups(names)
  label = np.zeros(len(first), np.int64)
  label[patient[labels == schema.MISSING]] = schema.MISSING
  label[patient[labels == 1]] = 1
  return {
    'patient_id': names[first],
    'cancer': combine(patient, values, len(first), how=how),
    'label': label,
    'n_breasts': np.bincount(patient, minlength=len(first)).astype(np.int64),
  }


def _highest(group: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
  found = np.full(size, -np.inf)
  np.maximum.at(found, group, values)
  return found


def _groups(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Rows of first appearance, in order, and the group of each row."""
  _, first, group = np.unique(names, return_index=True, return_inverse=True)
  rank = np.empty(len(first), np.int64)
  rank[np.argsort(first)] = np.arange(len(first))
  return np.sort(first), rank[group]


def _check_how(how: str, with_views: bool, with_learned: bool) -> None:
  if how not in HOW:
    raise errors.ConfigError(
      f'aggregate={how!r}: choose {", ".join(HOW)} (eval.aggregate)'
    )
  if how == 'view_max' and not with_views:
    raise errors.ConfigError(
      'aggregate=view_max needs the view of each image: give them, or choose '
      'another (eval.aggregate)'
    )
  if how == 'learned' and not with_learned:
    raise errors.ConfigError(
      'aggregate=learned needs a fitted one: evaluate the run on its '
      'validation split first, or choose another (eval.aggregate)'
    )


def _check_equal(what, values, expected, names) -> None:
  wrong = np.flatnonzero(values != expected)
  if len(wrong):
    at = wrong[0]
    raise errors.DataError(
      f'prediction_id {names[at]}: {what} is {expected[at]} for one image and '
      f'{values[at]} for another; mend the table '
      f'({len(np.unique(names[wrong]))} breasts are like this)'
    )
