"""Predictions that anyone has made, and the labels to hold them against.

A file has a row an image (image_id, cancer) or a row a breast (prediction_id,
cancer); what it says of a row besides must agree with the labels.
"""

import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.data import cells, csv_text
from rsna_jax.data import table as table_lib

_DENSITY = tuple(f'density_{letter}' for letter in schema.DENSITIES)
_COMPARED = ('patient_id', 'laterality', 'view', 'prediction_id')
_MOST_CHARACTERS = 40  # of an id, or of what is compared with the labels
_ROUNDED = 0.02  # from 1, that probabilities of classes may sum to


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
  """The rows of a file of predictions.

  Attributes:
    path: of the file.
    per: 'image' or 'breast', what a row is.
    ids: (N,) int64 image_id, or text prediction_id.
    lines: (N,) of the file, for messages.
    cancer: (N,) float64 from 0 to 1, or None.
    target: 'cancer', 'density_cancer' or 'density', by the columns there are.
    classes: (N, 8) or (N, 4) of images' classes, or None.
    clipped: how many probabilities lay outside [0, 1].
    columns: (N,) text as written of the columns patient_id, laterality, view,
      prediction_id and label* that the file has.
  """

  path: str
  per: str
  ids: np.ndarray
  lines: np.ndarray
  cancer: np.ndarray | None
  target: str
  classes: np.ndarray | None
  clipped: int
  columns: dict[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.ids)

  def take(self, rows: np.ndarray) -> 'Predictions':
    """Those of (M,) indices."""

    def of(values):
      return None if values is None else values[rows]

    return dataclasses.replace(
      self,
      ids=self.ids[rows],
      lines=self.lines[rows],
      cancer=of(self.cancer),
      classes=of(self.classes),
      columns={name: x[rows] for name, x in self.columns.items()},
    )


def read(path: str | os.PathLike, *, clip: bool = False) -> Predictions:
  """Reads a file of predictions.

  Args:
    path: CSV with image_id or prediction_id, and the probabilities: cancer;
      Density1Benign to Density4Malignant; or density_A to density_D.
    clip: whether probabilities outside [0, 1] are clipped, not refused.

  Raises:
    errors.DataError: names the file, the line, the value and the remedy.
  """
  header, rows, lines = csv_text.read(path)
  for row, line in zip(rows, lines, strict=True):
    if len(row) != len(header):
      raise errors.DataError(
        f'{path}:{line}: {len(row)} fields: give {len(header)}, as the header '
        'has'
      )
  texts = dict(zip(header, zip(*rows, strict=True), strict=True))
  per = 'image' if 'image_id' in texts else 'breast'
  name = 'image_id' if per == 'image' else 'prediction_id'
  if name not in texts:
    raise errors.DataError(
      f'{path}: no column image_id and no column prediction_id, but '
      f'{", ".join(header)[:80]!a}: say of which image or breast each row '
      'speaks, separated by commas'
    )
  values, clipped = {}, 0
  for column in ('cancer', *schema.DENSITY_CANCER_CLASSES, *_DENSITY):
    if column in texts:
      given = _probabilities(path, lines, column, texts[column], clip)
      values[column] = np.clip(given, 0.0, 1.0)
      clipped += int((values[column] != given).sum())
  cancer, target, classes = values.get('cancer'), 'cancer', None
  if per == 'image':
    for kind, names in (
      ('density', _DENSITY),
      ('density_cancer', schema.DENSITY_CANCER_CLASSES),
    ):
      if all(x in values for x in names):
        target, classes = kind, np.stack([values[x] for x in names], axis=1)
        _check_sums(path, lines, names, classes)
  if cancer is None and target == 'density_cancer':
    cancer = np.minimum(classes[:, 1::2].sum(axis=1), 1.0)
  if cancer is None and classes is None:
    raise errors.DataError(
      f'{path}: no column cancer: give the probability of cancer of each {per}'
    )
  return Predictions(
    path=os.fspath(path),
    per=per,
    ids=_ids(path, lines, name, texts[name]),
    lines=np.array(lines),
    cancer=cancer,
    target=target,
    classes=classes,
    clipped=clipped,
    columns={
      # A cell may hold thousands of characters, an array all rows as many.
      x: np.array([text.strip()[:_MOST_CHARACTERS] for text in column], str)
      for x, column in texts.items()
      if x in _COMPARED or x.startswith('label')
    },
  )


def _ids(path, lines, name: str, texts: Sequence[str]) -> np.ndarray:
  first, found = {}, []
  for line, text in zip(lines, texts, strict=True):
    value = text.strip()
    if name == 'image_id':
      try:
        value = cells.parse(name, text)
      except cells.CellError as error:
        raise errors.DataError(
          f'{path}:{line}: {name}={text[:40]!a}: {error}'
        ) from error
    elif not value:
      raise errors.DataError(f'{path}:{line}: {name}: missing, give one')
    elif len(value) > _MOST_CHARACTERS:
      raise errors.DataError(
        f'{path}:{line}: {name}={value[:_MOST_CHARACTERS]!a}...: write '
        'patient_id and laterality, as in 10008_L'
      )
    if value in first:
      raise errors.DataError(
        f'{path}:{line}: {name}={value}: stands on line {first[value]} already '
        f'({len(texts) - len({*map(str.strip, texts)})} rows in all repeat '
        'one): keep one row for each'
      )
    first[value] = line
    found.append(value)
  return np.array(found)


def _probabilities(path, lines, name, texts, clip: bool) -> np.ndarray:
  found = np.empty(len(texts))
  for i, text in enumerate(texts):
    where = f'{path}:{lines[i]}: {name}={text[:40]!a}'
    try:
      # Python takes 1_000 for a number, CSV files do not.
      value = float('x' if '_' in text else text.strip() or 'nan')
    except ValueError as error:
      raise errors.DataError(
        f'{where}: not a number: give a probability, from 0 to 1'
      ) from error
    if math.isnan(value):
      raise errors.DataError(f'{where}: no probability (NaN): predict it again')
    if not 0 <= value <= 1 and (not clip or math.isinf(value)):
      raise errors.DataError(
        f'{where}: give a probability, from 0 to 1'
        + ('' if math.isinf(value) else ', or use --clip')
      )
    found[i] = value
  return found


def _check_sums(path, lines, names, classes: np.ndarray) -> None:
  total = classes.sum(axis=1)
  wrong = np.flatnonzero(np.abs(total - 1) > _ROUNDED)
  if len(wrong):
    raise errors.DataError(
      f'{path}:{lines[wrong[0]]}: {names[0]} to {names[-1]} sum to '
      f'{total[wrong[0]]:.4g} ({len(wrong)} rows do not sum to 1): give the '
      'probability of each class'
    )


def join(
  said: Predictions,
  labels: table_lib.Table,
  of_images: bool,
  path: str | os.PathLike,
  *,
  subset: bool = False,
  all_labels: bool = True,
) -> tuple[Predictions, np.ndarray, list[str]]:
  """Finds the row of each prediction in the labels.

  Args:
    said: as `read` gave it.
    labels: as `label_files.read` gave it, like of_images.
    of_images: whether the labels have a row an image.
    path: of the labels, for messages.
    subset: whether to go on with what is on both sides.
    all_labels: whether a labelled row without a prediction is a fault.

  Returns:
    The predictions (M of them), (M,) rows of the labels (of breasts the first),
    and what was left out, a line each.

  Raises:
    errors.DataError: an id is missing on one side, none is on both, or the
      file and the labels disagree about a row.
  """
  name = 'image_id' if said.per == 'image' else 'prediction_id'
  if said.per == 'image' and not of_images:
    raise errors.DataError(
      f'{path}: no column image_id, and {said.path} has a row an image: give '
      'labels of images, or predictions of breasts'
    )
  ids, first = np.unique(labels[name], return_index=True)
  place = np.minimum(np.searchsorted(ids, said.ids), len(ids) - 1)
  there = ids[place] == said.ids
  known = np.unique(labels[name][labels['cancer'] != schema.MISSING])
  silent = np.setdiff1d(known, said.ids)
  notes = []
  if not there.any():
    raise errors.DataError(
      f'{said.path}: none of {len(said)} {name} is in {path}: are these the '
      'labels of this data set?'
    )
  if not there.all():
    at = int(np.flatnonzero(~there)[0])
    text = f'{name} {said.ids[at]} is not in {path}'
    if not subset:
      raise errors.DataError(
        f'{said.path}:{said.lines[at]}: {text} ({int((~there).sum())} of '
        f'{len(said)} are not): leave it out, or use --subset'
      )
    notes.append(
      f'left out: {int((~there).sum()):,} of {len(said):,} predictions are not '
      'in the labels'
    )
  if len(silent) and all_labels:
    if not subset:
      raise errors.DataError(
        f'{path}: {name} {silent[0]} has no prediction in {said.path} '
        f'({len(silent)} of {len(known)} have none): predict it, or use '
        '--subset'
      )
    notes.append(
      f'left out: {len(silent):,} of {len(known):,} labelled {said.per}s have '
      'no prediction'
    )
  kept = np.flatnonzero(there)
  said, rows = said.take(kept), first[place[kept]]
  _check_same(said, labels, rows, path)
  if said.per == 'image' and len(silent):
    torn = np.isin(labels['image_id'], silent) & np.isin(
      labels['prediction_id'], labels['prediction_id'][rows]
    )
    if torn.any() and all_labels:
      count = len(np.unique(labels['prediction_id'][torn]))
      notes.append(f'{count:,} breasts are judged by a part of their images')
  return said, rows, notes


def _check_same(said, labels, rows, path) -> None:
  for name in _COMPARED:
    if name not in said.columns:
      continue
    ours, theirs = said.columns[name], labels[name][rows].astype(str)
    wrong = (ours != theirs) & (ours != '') & ~np.isin(theirs, ('', '-1'))
    if wrong.any():
      at = int(np.flatnonzero(wrong)[0])
      raise errors.DataError(
        f'{said.path}:{said.lines[at]}: {name}={str(ours[at])[:40]!a}, and '
        f'{path} says {str(theirs[at])!a} ({int(wrong.sum())} rows differ): '
        'are these the labels of this data set?'
      )
