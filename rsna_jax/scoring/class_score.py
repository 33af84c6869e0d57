"""What metrics.json says of density, and of density and cancer together."""

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.stats import bootstrap as bootstrap_lib
from rsna_jax.stats import multiclass

_OF_DENSITY = ('quadratic_kappa', 'linear_kappa', 'dense_kappa', 'ordinal_mae')


def score_classes(
  labels, probabilities, patient_id, *, bootstrap: int = 2_000, seed: int = 0
) -> dict:
  """Figures of a classifier of density, or of density and cancer, by image.

  Args:
    labels: (N,) int, -1 for unknown.
    probabilities: (N, 4) density, or (N, 8) with classes as in the schema.
    patient_id: (N,).
    bootstrap: resamples of the patients; 0: no intervals.
    seed: of them.

  Returns:
    {'n', 'names', 'accuracy', 'macro_f1'; of density 'quadratic_kappa',
    'linear_kappa', 'dense_kappa' (C and D against A and B), 'ordinal_mae' (in
    classes) and 'density_accuracy'; 'recall' (of each class, None where it has
    no case), 'recall_intervals', 'confusion' (rows are the true classes),
    'density_recall' and 'density_confusion', the same four by four}. A figure
    is {'value', 'low', 'high'}.

  Raises:
    errors.DataError: a probability is NaN.
  """
  labels = np.asarray(labels).astype(np.int64)
  known = labels != schema.MISSING
  labels = labels[known]
  probabilities = np.asarray(probabilities, np.float64)[known]
  lost = int(np.isnan(probabilities).any(axis=1).sum())
  if lost:
    raise errors.DataError(
      f'{lost} images have a probability that is NaN: predict them again'
    )
  patient = np.asarray(patient_id)[known]
  k = probabilities.shape[1]
  predicted = probabilities.argmax(axis=1)
  density, called = labels, predicted
  names = [f'density {letter}' for letter in schema.DENSITIES]
  if k == len(schema.DENSITY_CANCER_CLASSES):
    names = list(schema.DENSITY_CANCER_CLASSES)
    density = labels // 2
    called = probabilities.reshape(-1, k // 2, 2).sum(axis=2).argmax(axis=1)
  matrix = multiclass.confusion(labels, predicted, k)
  of_density = multiclass.confusion(density, called, len(schema.DENSITIES))
  samples, graded = {}, {}
  if bootstrap and len(labels):
    drawn = bootstrap_lib.Resamples(patient, n=bootstrap, seed=seed)
    samples = bootstrap_lib.classes(
      labels, predicted, patient, drawn, classes=k
    )
    graded = bootstrap_lib.classes(
      density, called, patient, drawn, classes=len(schema.DENSITIES)
    )
  whole, grades = multiclass.figures(matrix), multiclass.figures(of_density)
  return {
    'n': len(labels),
    'names': names,
    **{
      name: bootstrap_lib.figure(whole[name], samples.get(name))
      for name in ('accuracy', 'macro_f1')
    },
    **{
      name: bootstrap_lib.figure(grades[name], graded.get(name))
      for name in _OF_DENSITY
    },
    'density_accuracy': bootstrap_lib.figure(
      grades['accuracy'], graded.get('accuracy')
    ),
    'recall': [bootstrap_lib.number(x) for x in whole['recall']],
    'recall_intervals': _each(whole['recall'], samples.get('recall')),
    'confusion': matrix.tolist(),
    'density_recall': _each(grades['recall'], graded.get('recall')),
    'density_confusion': of_density.tolist(),
  }


def _each(values: np.ndarray, samples: np.ndarray | None) -> list[dict]:
  """A figure for each of (K,) values and (n, K) samples."""
  return [
    bootstrap_lib.figure(x, None if samples is None else samples[:, i])
    for i, x in enumerate(values)
  ]
