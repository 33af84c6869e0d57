"""Targets that a network may learn beside its main one, from other columns.

They are outputs alone: the columns of most exist for training rows only, and
would leak the label as inputs. Numpy only, as `schema`.
"""

import types
from collections.abc import Mapping

import numpy as np

from rsna_jax import schema

# Name -> number of logits. One logit is a sigmoid, more are a softmax; that of
# `age` is no logit but standardised years.
TARGETS = types.MappingProxyType(
  {
    'density': 4,
    'birads': 3,
    'biopsy': 1,
    'invasive': 1,
    'benign': 1,
    'difficult_negative_case': 1,
    'age': 1,
    'view': len(schema.VIEWS),
  }
)
# Of the 54,706 training rows of RSNA 2022, rounded. Fixed, so that a run's
# output keeps its meaning whatever it was trained on.
AGE_MEAN, AGE_SD = 58.5, 10.0  # years
# RSNA 2022 assesses screening alone: recall, negative, benign.
_BIRADS = (0, 1, 2)


def labels(
  columns: Mapping[str, np.ndarray], name: str
) -> tuple[np.ndarray, np.ndarray]:
  """Labels of a target, and which rows have one.

  Args:
    columns: a Table, or a mapping of column names to (N,) arrays.
    name: a key of `TARGETS`.

  Returns:
    (N,) labels, 0 where there is none: int32 classes from 0 on, or float32
    standardised years; and (N,) bool, whether there is one. `benign` is what
    was biopsied and is not cancer.

  Raises:
    KeyError: an unknown name.
  """
  if name == 'age':
    age = np.asarray(columns['age'], np.float64)
    known = ~np.isnan(age)
    years = np.where(known, age, AGE_MEAN)
    return ((years - AGE_MEAN) / AGE_SD).astype(np.float32), known
  if name == 'view':
    view = np.asarray(columns['view'])
    found = [view == one for one in schema.VIEWS]
    return np.argmax(found, axis=0).astype(np.int32), np.any(found, axis=0)
  if name == 'density':
    classes = schema.target_labels(columns, 'density')
  elif name == 'birads':
    classes = np.asarray(columns['BIRADS'], np.int64)
    classes = np.where(np.isin(classes, _BIRADS), classes, schema.MISSING)
  elif name == 'benign':
    cancer = np.asarray(columns['cancer'], np.int64)
    biopsy = np.asarray(columns['biopsy'], np.int64)
    unknown = (cancer == schema.MISSING) | (biopsy == schema.MISSING)
    classes = np.where(unknown, schema.MISSING, (biopsy == 1) & (cancer == 0))
  elif name in TARGETS:
    classes = np.asarray(columns[name], np.int64)
  else:
    raise KeyError(f'unknown target {name!r}; one of {sorted(TARGETS)}')
  known = classes != schema.MISSING
  return np.where(known, classes, 0).astype(np.int32), known


def class_names(name: str) -> tuple[str, ...]:
  """A name for each value that is said: of a class, or of the target."""
  if name == 'density':
    return tuple(f'density_{letter}' for letter in schema.DENSITIES)
  if name == 'birads':
    return tuple(f'birads_{category}' for category in _BIRADS)
  if name == 'view':
    return tuple(f'view_{view}' for view in schema.VIEWS)
  return (name,)


def values(outputs: np.ndarray, name: str) -> np.ndarray:
  """(N, K) outputs of a network -> (N, K) float64: probabilities, or years."""
  outputs = np.asarray(outputs, np.float64)
  if name == 'age':
    return outputs * AGE_SD + AGE_MEAN
  return schema.probabilities(outputs)
