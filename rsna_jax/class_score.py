"""What metrics.json says of density, and of density and cancer together."""

import numpy as np

from rsna_jax import bootstrap as bootstrap_lib
from rsna_jax import multiclass, schema


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
    {'n', 'names', 'accuracy', 'macro_f1', 'quadratic_kappa' (of density),
    'recall' (of each class, None where it has no case), 'confusion' (rows are
    the true classes)}.
  """
  labels = np.asarray(labels).astype(np.int64)
  known = labels != schema.MISSING
  labels = labels[known]
  probabilities = np.asarray(probabilities, np.float64)[known]
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
  name = 'quadratic_kappa'
  cases = matrix.sum(axis=1)
  return {
    'n': len(labels),
    'names': names,
    'accuracy': bootstrap_lib.figure(
      multiclass.accuracy(matrix), samples.get('accuracy')
    ),
    'macro_f1': bootstrap_lib.figure(
      multiclass.macro_f1(matrix), samples.get('macro_f1')
    ),
    name: bootstrap_lib.figure(
      multiclass.quadratic_kappa(of_density), graded.get(name)
    ),
    'recall': [
      float(matrix[i, i] / cases[i]) if cases[i] else None for i in range(k)
    ],
    'confusion': matrix.tolist(),
  }
