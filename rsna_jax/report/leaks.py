"""Whether figures may owe something to a leak; pure functions of tables.

A leak makes a model look better than it is: patients or pictures on both sides
of a split, columns that only training rows have, or a shortcut by metadata.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from rsna_jax import aggregate, errors, schema
from rsna_jax.stats import logistic, paired

_SHOWN = 20  # examples of a leak
_BANDS = 10  # of age
_RIDGE = 1.0
_MOST_RESAMPLES = 1_000


def patients_across(patient_id, sides) -> dict:
  """Patients with images on more than one side of a split.

  Args:
    patient_id: (N,).
    sides: (N,) name or number of the side.

  Returns:
    {'count', 'examples': the first patients and their sides}.
  """
  found: dict = {}
  for patient, side in zip(_plain(patient_id), _plain(sides), strict=True):
    found.setdefault(patient, set()).add(str(side))
  both = [(name, sorted(x)) for name, x in found.items() if len(x) > 1]
  return {
    'count': len(both),
    'examples': [{'patient_id': name, 'sides': x} for name, x in both[:_SHOWN]],
  }


def duplicates_across(
  image_id, sides, hashes: Mapping[int, str] | None
) -> dict | None:
  """Images with the very same pixels on different sides of a split.

  Args:
    image_id: (N,).
    sides: (N,) name or number of the side.
    hashes: image_id -> hash of its pixels; None: not known.

  Returns:
    {'checked' (images with a hash), 'count' (hashes on several sides),
    'images' (that have one of them), 'examples'}; None without hashes.
  """
  if not hashes:
    return None
  found: dict[str, list[tuple[int, str]]] = {}
  checked = 0
  for image, side in zip(_plain(image_id), _plain(sides), strict=True):
    if image in hashes:
      checked += 1
      found.setdefault(hashes[image], []).append((image, str(side)))
  shared = [x for x in found.values() if len({side for _, side in x}) > 1]
  return {
    'checked': checked,
    'count': len(shared),
    'images': sum(map(len, shared)),
    'examples': [
      [{'image_id': image, 'side': side} for image, side in x[:_SHOWN]]
      for x in shared[:_SHOWN]
    ],
  }


def train_only(inputs: Sequence[str]) -> list[str]:
  """Those of a model's metadata columns that no test row has."""
  return [name for name in inputs if name not in schema.METADATA_COLUMNS]


def read_hashes(folder: str | os.PathLike) -> dict[int, str] | None:
  """image_id -> hash of its pixels, as `prepare` noted them; None: not there.

  Args:
    folder: of the data set, which holds facts.jsonl.
  """
  found = {}
  try:
    with (pathlib.Path(folder) / 'facts.jsonl').open(encoding='utf-8') as file:
      for line in map(json.loads, file):
        if line['split'] == 'train' and line['facts'].get('pixel_hash'):
          found[int(line['image_id'])] = line['facts']['pixel_hash']
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return None
  return found


def split_hash(patient_id, sides) -> str:
  """SHA-256 of which patient is on which side, whatever the order of rows."""
  pairs = set(zip(_plain(patient_id), map(str, _plain(sides)), strict=True))
  lines = sorted(f'{patient} {side}\n' for patient, side in pairs)
  return hashlib.sha256(''.join(lines).encode()).hexdigest()


def metadata_probability(
  columns: Mapping[str, np.ndarray], fitted: np.ndarray, judged: np.ndarray
) -> np.ndarray:
  """Probability of cancer by the columns alone that a test row has.

  Args:
    columns: `cancer` and `schema.METADATA_COLUMNS`, (N,) each.
    fitted: (N,) bool, rows that a logistic regression is fitted on.
    judged: (N,) bool, rows to answer for.

  Returns:
    (M,) float64 of the judged rows.

  Raises:
    errors.DataError: the fitted rows are of one class.
  """
  labels = np.asarray(columns['cancer'])
  fitted = fitted & (labels != schema.MISSING)
  y = labels[fitted].astype(np.float64)
  if not 0 < y.sum() < len(y):
    raise errors.DataError('the training side has one class alone')
  inputs = [np.ones((len(labels), 1))]
  for name in schema.METADATA_COLUMNS:
    codes = _codes(name, columns[name], fitted)
    # What training has not seen says nothing.
    known = np.unique(codes[fitted])
    inputs.append((codes[:, None] == known).astype(np.float64))
  x = np.concatenate(inputs, axis=1)
  ridge = np.full(x.shape[1], _RIDGE)
  ridge[0] = 0.0
  rate = float(y.mean())
  start = np.zeros(x.shape[1])
  start[0] = np.log(rate / (1 - rate))
  fit = logistic.fit(x[fitted], y, ridge=ridge, towards=start)
  return logistic.sigmoid(x[judged] @ fit.coefficients)


def metadata_only(
  columns: Mapping[str, np.ndarray],
  parts: Sequence[tuple[np.ndarray, np.ndarray]],
  model: Mapping[str, float],
  *,
  bootstrap: int = _MOST_RESAMPLES,
  seed: int = 0,
) -> dict | None:
  """A model of metadata alone, beside the model, on the same breasts.

  Args:
    columns: of all labelled rows, (N,) each.
    parts: pairs of (N,) bool, fitted and judged rows; several where folds
      judge one another.
    model: prediction_id -> the model's probability.
    bootstrap: resamples of patients behind the paired difference.
    seed: of them.

  Returns:
    `paired.compare` of the model and of metadata (AUC and average precision),
    and 'columns'; None where either class is missing.
  """
  found: dict[str, list] = {}
  for fitted, judged in parts:
    judged = judged & (np.asarray(columns['cancer']) != schema.MISSING)
    if not judged.any():
      continue
    try:
      said = metadata_probability(columns, fitted, judged)
    except errors.DataError:
      return None
    breasts = aggregate.breasts(
      columns['prediction_id'][judged],
      columns['patient_id'][judged],
      said,
      columns['cancer'][judged],
    )
    for name in ('prediction_id', 'patient_id', 'label', 'cancer'):
      found.setdefault(name, []).append(breasts[name])
  if not found:
    return None
  joined = {name: np.concatenate(x) for name, x in found.items()}
  kept = np.array([x in model for x in joined['prediction_id'].tolist()], bool)
  joined = {name: x[kept] for name, x in joined.items()}
  if len(set(joined['label'].tolist())) < 2:
    return None
  own = np.array([model[x] for x in joined['prediction_id'].tolist()])
  return {
    **paired.compare(
      joined['label'],
      own,
      joined['cancer'],
      joined['patient_id'],
      names=('roc_auc', 'average_precision'),
      bootstrap=min(bootstrap, _MOST_RESAMPLES),
      seed=seed,
      titles=('model', 'metadata alone'),
    ),
    'columns': list(schema.METADATA_COLUMNS),
  }


def findings(
  columns: Mapping[str, np.ndarray],
  sides: np.ndarray,
  inputs: Sequence[str],
  hashes: Mapping[int, str] | None,
  metadata: dict | None = None,
) -> dict:
  """All checks of a split, as metrics.json has them under 'leaks'.

  Args:
    columns: of the rows that belong to a side, (N,) each.
    sides: (N,) the side of each.
    inputs: metadata columns of the model.
    hashes: of `read_hashes`.
    metadata: of `metadata_only`.

  Returns:
    {'sides', 'patients', 'duplicates', 'train_only', 'metadata_only', 'found'
    (one sentence for each leak)}.
  """
  patients = patients_across(columns['patient_id'], sides)
  duplicates = duplicates_across(columns['image_id'], sides, hashes)
  unfit = train_only(inputs)
  found = []
  if patients['count']:
    found.append(
      f'{patients["count"]} patients have images on several sides of the split.'
    )
  if duplicates and duplicates['count']:
    found.append(
      f'{duplicates["images"]} images share their pixels with an image on '
      'another side of the split.'
    )
  if unfit:
    found.append(
      f'{", ".join(unfit)} are inputs, and no test row has them: they tell '
      'the label.'
    )
  return {
    'sides': sorted(set(map(str, _plain(sides)))),
    'patients': patients,
    'duplicates': duplicates,
    'train_only': unfit,
    'metadata_only': metadata,
    'found': found,
  }


def _codes(name: str, values, fitted: np.ndarray) -> np.ndarray:
  """(N,) a category of each value; -1 for a missing age."""
  values = np.asarray(values)
  if name != 'age':
    return np.unique(values, return_inverse=True)[1]
  known = values[fitted & ~np.isnan(values)]
  if not len(known):
    return np.full(len(values), -1)
  steps = np.arange(1, _BANDS) / _BANDS
  bands = np.searchsorted(np.unique(np.quantile(known, steps)), values, 'right')
  return np.where(np.isnan(values), -1, bands)


def _plain(values) -> list:
  return np.asarray(values).tolist()
