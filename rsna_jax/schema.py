"""Names, types and vocabularies of the fields of tables, examples and batches.

Numpy only, so that every part of the project can stand on it.
"""

import types

import numpy as np

# Stands on every page, and in every file of figures or answers that has a place
# for it.
NOTICE = 'Research use only, not a medical device.'

# In integer columns -1 means missing, in `age` NaN, in text the empty string.
MISSING = -1

LATERALITIES = ('L', 'R')
VIEWS = ('CC', 'MLO', 'AT', 'LM', 'ML', 'LMO')
DENSITIES = ('A', 'B', 'C', 'D')  # BI-RADS density, stored as 1 to 4

# Column -> dtype. `cancer` to `difficult_negative_case` are known for training
# rows alone; `prediction_id` is given in test.csv, and made for training rows.
COLUMNS = types.MappingProxyType(
  {
    'site_id': np.dtype(np.int64),
    'patient_id': np.dtype(np.int64),
    'image_id': np.dtype(np.int64),
    'laterality': np.dtype('<U1'),
    'view': np.dtype('<U8'),
    'age': np.dtype(np.float32),
    'cancer': np.dtype(np.int64),
    'biopsy': np.dtype(np.int64),
    'invasive': np.dtype(np.int64),
    'BIRADS': np.dtype(np.int64),
    'implant': np.dtype(np.int64),
    'density': np.dtype(np.int64),
    'machine_id': np.dtype(np.int64),
    'difficult_negative_case': np.dtype(np.int64),
    'prediction_id': np.dtype('<U16'),
  }
)
TRAIN_COLUMNS = (
  'site_id',
  'patient_id',
  'image_id',
  'laterality',
  'view',
  'age',
  'cancer',
  'biopsy',
  'invasive',
  'BIRADS',
  'implant',
  'density',
  'machine_id',
  'difficult_negative_case',
)
TEST_COLUMNS = (
  'site_id',
  'patient_id',
  'image_id',
  'laterality',
  'view',
  'age',
  'implant',
  'machine_id',
  'prediction_id',
)
# A test row has these, so a model may take them as inputs. The others leak.
METADATA_COLUMNS = (
  'age',
  'implant',
  'view',
  'laterality',
  'site_id',
  'machine_id',
)

# Target -> number of logits; one logit is a sigmoid, more are a softmax.
TARGETS = types.MappingProxyType(
  {'cancer': 1, 'density': 4, 'density_cancer': 8}
)
# Class (density - 1) * 2 + cancer of the target `density_cancer`.
DENSITY_CANCER_CLASSES = tuple(
  f'Density{density}{kind}'
  for density in (1, 2, 3, 4)
  for kind in ('Benign', 'Malignant')
)


def target_labels(columns, target: str) -> np.ndarray:
  """Labels of a target from the columns of a table.

  Args:
    columns: mapping of column names to (N,) arrays.
    target: a key of `TARGETS`.

  Returns:
    (N,) int64: `cancer` 0 or 1, `density` 0 to 3, `density_cancer` 0 to 7, and
    -1 where a column that the target needs is missing.
  """
  cancer = np.asarray(columns['cancer'], np.int64)
  density = np.asarray(columns['density'], np.int64)
  if target == 'cancer':
    return cancer.copy()
  if target == 'density':
    return np.where(density == MISSING, MISSING, density - 1)
  if target == 'density_cancer':
    unknown = (density == MISSING) | (cancer == MISSING)
    return np.where(unknown, MISSING, (density - 1) * 2 + cancer)
  raise KeyError(f'unknown target {target!r}; one of {sorted(TARGETS)}')


def cancer_probability(logits: np.ndarray, target: str) -> np.ndarray | None:
  """Probability of cancer from a target's logits.

  Args:
    logits: (N, K) float, K being `TARGETS[target]`.
    target: a key of `TARGETS`.

  Returns:
    (N,) float64, or None for a target that does not speak of cancer.
  """
  probabilities = target_probabilities(logits, target)
  if target == 'cancer':
    return probabilities[:, 0]
  if target == 'density_cancer':
    return probabilities[:, 1::2].sum(axis=1)
  return None


def target_probabilities(logits: np.ndarray, target: str) -> np.ndarray:
  """(N, K) float64 probabilities of a target, K being `TARGETS[target]`."""
  logits = np.asarray(logits, np.float64)
  if logits.shape[-1] != TARGETS[target]:
    raise ValueError(
      f'{target}: {logits.shape[-1]} logits, where it has {TARGETS[target]}'
    )
  return probabilities(logits)


def probabilities(logits: np.ndarray) -> np.ndarray:
  """(N, K) float64 probabilities: sigmoid for one logit, else softmax."""
  logits = np.asarray(logits, np.float64)
  if logits.shape[-1] == 1:
    # exp of a non-positive number alone, so that nothing overflows.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
  shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return shifted / shifted.sum(axis=-1, keepdims=True)
