"""What is wrong with a set of mammograms, and what it is made of.

Pure functions from rows and facts of files to the parts of audit.json. They
open no file, so an audit of shards that are already there costs nothing.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from rsna_jax import schema
from rsna_jax.data import inventory, survey

# Of a list in audit.json; its length is given beside it.
MOST_LISTED = 1_000
_AGE_SLACK_YEARS = 1.0


@dataclasses.dataclass(frozen=True)
class Image:
  """A row, a file, or both, and what was found in the file.

  Attributes:
    item: of the inventory.
    facts: of `survey.describe`; None where the file was not or cannot be read.
    error: one line, '' without an error. With facts: the file can be read, but
      no standard image be made of it.
  """

  item: inventory.Item
  facts: dict[str, Any] | None = None
  error: str = ''

  def known(self, column: str) -> Any:
    """The value in the table, or None where it is missing."""
    return self._known.get(column)

  @functools.cached_property
  def _known(self) -> dict[str, Any]:
    return {
      name: value
      for name, value in (self.item.row or {}).items()
      if value not in (None, '', schema.MISSING) and value == value
    }

  @functools.cached_property
  def patient(self) -> str:
    """Who it is of: the table's identifier, or a digest; '' if unknown."""
    if self.known('patient_id') is not None:
      return str(self.known('patient_id'))
    return (self.facts or {}).get('patient', '')

  @property
  def breast(self) -> tuple[str, str] | None:
    """Patient and laterality, where the table knows both."""
    side = self.known('laterality')
    return (self.patient, side) if self.patient and side else None

  def name(self) -> dict[str, Any]:
    """What points to it in a list."""
    return {
      'split': self.item.split,
      'patient_id': self.known('patient_id'),
      'image_id': self.known('image_id'),
      'file': self.item.name,
    }


def listed(entries: Sequence) -> dict[str, Any]:
  """A list that is not too long for a file, with its length."""
  return {'count': len(entries), 'list': list(entries[:MOST_LISTED])}


def files_and_rows(found: inventory.Inventory) -> dict[str, Any]:
  """Rows without a file, files without a row, and cells that say nothing."""
  here = [Image(item) for item in found.items]
  has_rows = any(item.row is not None for item in found.items)
  faults = [
    {'file': table.path, 'line': line, 'image_id': name, 'reason': reason}
    for table in found.tables.values()
    for line, name, reason in table.faults
  ]
  return {
    'rows_without_file': listed([x.name() for x in here if not x.item.file]),
    'files_without_row': listed(
      [x.name() for x in here if has_rows and x.item.row is None]
    ),
    'bad_cells': listed(faults),
  }


def unreadable(images: Sequence[Image]) -> dict[str, Any]:
  """Files that no facts are known of, and those without a breast, by reason."""
  answer = {}
  for name, chosen in (
    ('unreadable', [x for x in images if x.error and x.facts is None]),
    ('no_standard_image', [x for x in images if x.error and x.facts]),
  ):
    reasons = collections.Counter(reason(x) for x in chosen)
    answer[name] = {
      'reasons': [
        {'reason': text, 'count': n} for text, n in reasons.most_common()
      ]
    } | listed([x.name() | {'error': _short(x)} for x in chosen])
  return answer


def reason(image: Image) -> str:
  """An error without what differs from file to file: its name and numbers."""
  text = re.sub(r"'[^']*'", "'...'", _short(image))
  return re.sub(r'\d+(\.\d+)?', 'N', text)


def _short(image: Image) -> str:
  return image.error.replace(image.item.file, '').lstrip(': ')


def duplicates(images: Iterable[Image]) -> dict[str, Any]:
  """Groups of files with the same pixels, the worst kind first.

  Returns:
    Lists `train_and_test`, `across_patients` and `within_patient` of groups
    {'images', 'labels_differ'}; each group stands in the first that fits. One
    whose patients are unknown counts as within a patient.
  """
  groups = _grouped(
    (x for x in images if x.facts), lambda x: x.facts['pixel_hash']
  )
  found: dict[str, list] = {
    'train_and_test': [],
    'across_patients': [],
    'within_patient': [],
  }
  for members in groups.values():
    if len(members) < 2:
      continue
    kind = 'within_patient'
    if len({x.patient for x in members if x.patient}) > 1:
      kind = 'across_patients'
    if len({x.item.split for x in members}) > 1:
      kind = 'train_and_test'
    labels = {x.known('cancer') for x in members} - {None}
    found[kind].append(
      {
        'images': [x.name() for x in members],
        'labels_differ': len(labels) > 1,
      }
    )
  return {kind: listed(groups) for kind, groups in found.items()}


def patients_in_both(images: Iterable[Image]) -> dict[str, Any]:
  """Patients with images in train as well as in test."""
  splits = _grouped((x for x in images if x.patient), lambda x: x.patient)
  both = [
    patient
    for patient, members in splits.items()
    if {'train', 'test'} <= {x.item.split for x in members}
  ]
  return listed(sorted(both))


def labels_in_breast(images: Iterable[Image]) -> dict[str, Any]:
  """Breasts whose images have different labels, and those labels."""
  labelled = (x for x in images if x.breast and x.known('cancer') is not None)
  mixed = []
  for (patient, side), members in _grouped(
    labelled, lambda x: x.breast
  ).items():
    if len({x.known('cancer') for x in members}) > 1:
      mixed.append(
        {
          'breast': f'{patient}_{side}',
          'images': [
            x.name() | {'line': x.item.line, 'cancer': x.known('cancer')}
            for x in members
          ],
        }
      )
  return listed(mixed)


def header_and_row(images: Iterable[Image]) -> dict[str, Any]:
  """Column -> how many rows the file's header speaks of, and contradicts."""
  found: dict[str, dict[str, Any]] = {
    name: {'compared': 0, 'differ': []}
    for name in (
      'patient_id',
      'image_id',
      'laterality',
      'view',
      'age',
      'implant',
    )
  }
  for image in images:
    if image.facts is None or image.item.row is None:
      continue
    header = dict(image.facts['attributes'])
    row = {name: image.known(name) for name in found}
    if image.facts['patient'] and row['patient_id'] is not None:
      header['patient_id'] = image.facts['patient']
      row['patient_id'] = survey.patient_digest(row['patient_id'])
    for name, entry in found.items():
      there, here = header.get(name), row[name]
      if there is None or here is None:
        continue
      entry['compared'] += 1
      if name == 'age':
        same = abs(there - here) <= _AGE_SLACK_YEARS
      else:
        same = there == here
      if not same:
        # The identifiers themselves are no one's business here.
        values = {} if name == 'patient_id' else {'row': here, 'header': there}
        entry['differ'].append(image.name() | values)
  return {
    name: {'compared': entry['compared'], 'differ': listed(entry['differ'])}
    for name, entry in found.items()
  }


def missing_values(found: inventory.Inventory) -> dict[str, Any]:
  """Split -> column -> number of rows without a value, None: no such column."""
  answer = {}
  for split, table in found.tables.items():
    wanted = schema.TEST_COLUMNS if split == 'test' else schema.TRAIN_COLUMNS
    rows = [
      Image(item)
      for item in found.items
      if item.split == split and item.row is not None
    ]
    answer[split] = {
      'rows': len(rows),
      'columns': {
        name: sum(x.known(name) is None for x in rows)
        if name in table.columns
        else None
        for name in wanted
      },
      'unknown_columns': [
        name for name in table.columns if name not in schema.COLUMNS
      ],
    }
  return answer


def train_only_columns(found: inventory.Inventory) -> list[str]:
  """Columns of the training table, the label apart, that a test row lacks."""
  train, test = found.tables.get('train'), found.tables.get('test')
  if train is None:
    return []
  there = set(schema.TEST_COLUMNS if test is None else test.columns)
  return [
    name
    for name in train.columns
    if name not in there and name not in ('cancer', 'prediction_id')
  ]


def labelled(images: Iterable[Image]) -> list[Image]:
  """Those whose row has a label and a patient."""
  return [
    x
    for x in images
    if x.item.row is not None
    and x.known('cancer') is not None
    and x.known('patient_id') is not None
  ]


def label_arrays(images: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
  """(N,) labels and (N,) patients of labelled images."""
  labels = np.array([x.known('cancer') for x in images], np.int64)
  return labels, np.array([x.patient for x in images])


def _grouped(
  images: Iterable[Image], key: Callable[[Image], Hashable]
) -> dict[Any, list[Image]]:
  groups: dict[Any, list[Image]] = {}
  for image in images:
    groups.setdefault(key(image), []).append(image)
  return groups
