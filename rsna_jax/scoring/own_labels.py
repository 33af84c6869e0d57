"""Labels that stand in a file of predictions itself, as those of a run do."""

import re

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.scoring import prediction_files

_NAMES = ('label', 'label_cancer', 'label_density_cancer')
# pandas writes a column of whole numbers that has gaps as 0.0.
_WHOLE = re.compile(r'([0-9]{1,18})(\.0*)?')


def columns(said: prediction_files.Predictions) -> dict[str, np.ndarray]:
  """prediction_id, patient_id and label of each row of a file.

  Args:
    said: rows of images or of breasts, with a column label, label_cancer or
      label_density_cancer; an empty one is an unknown label.

  Raises:
    errors.DataError: a column is missing, or a cell is not what it holds.
  """
  given = said.columns
  label = next((x for x in _NAMES if x in given), None)
  if label is None:
    raise errors.DataError(
      f'{said.path}: no labels in it: give --labels train.csv'
    )
  if said.per == 'breast':
    breast = said.ids
  elif 'prediction_id' in given:
    breast = given['prediction_id']
  else:
    raise errors.DataError(
      f'{said.path}: no column prediction_id: give --labels train.csv'
    )
  if 'patient_id' in given:
    patient = given['patient_id']
  else:
    patient = np.char.partition(breast.astype(str), '_')[:, 0]
  truth = _numbers(said, label, given[label], schema.MISSING)
  highest = 1
  if label == 'label_density_cancer':
    highest = len(schema.DENSITY_CANCER_CLASSES) - 1
  wrong = np.flatnonzero(truth > highest)
  if len(wrong):
    raise errors.DataError(
      f'{said.path}:{said.lines[wrong[0]]}: {label}={truth[wrong[0]]}: give a '
      f'whole number from 0 to {highest}'
    )
  if highest > 1:
    truth = np.where(truth == schema.MISSING, truth, truth % 2)
  return {
    'prediction_id': breast,
    'patient_id': _numbers(said, 'patient_id', patient),
    'label': truth,
  }


def _numbers(said, name: str, texts, missing: int | None = None) -> np.ndarray:
  """(N,) int64 of (N,) text, and `missing`, if given, for an empty one."""
  found = np.empty(len(texts), np.int64)
  for i, text in enumerate(texts.tolist()):
    number = _WHOLE.fullmatch(text)
    if number:
      found[i] = int(number[1])
    elif missing is not None and text.lower() in ('', 'nan', str(missing)):
      found[i] = missing
    else:
      raise errors.DataError(
        f'{said.path}:{said.lines[i]}: {name}={text!a}: give a whole number, '
        'or --labels train.csv'
      )
  return found
