"""The rows of train.csv and test.csv as typed columns, read with all checks.

The csv module splits the text; each distinct cell of a column is parsed once,
which keeps the 54,706 rows of RSNA well under a second without pandas.
"""

import csv
import dataclasses
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rsna_jax import files, schema
from rsna_jax.data import cells, csv_text

TableError = csv_text.TableError
_KINDS = {'train': schema.TRAIN_COLUMNS, 'test': schema.TEST_COLUMNS}
_log = logging.getLogger('rsna_jax')


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """Rows of mammograms.

  Attributes:
    columns: for each key of `schema.COLUMNS`, in that order, an (N,) array of
      its dtype; missing values as the schema says.
  """

  columns: dict[str, np.ndarray]

  def __post_init__(self):
    if tuple(self.columns) != tuple(schema.COLUMNS):
      raise TableError(
        f'table: columns {", ".join(self.columns)}: give exactly '
        f'{", ".join(schema.COLUMNS)}, or use Table.from_columns'
      )
    for name, dtype in schema.COLUMNS.items():
      column = self.columns[name]
      if column.dtype != dtype or column.shape != (len(self),):
        raise TableError(
          f'table: {name} is {column.dtype} {column.shape}: give {dtype} '
          f'({len(self)},), or use Table.from_columns'
        )

  @classmethod
  def from_columns(cls, columns: Mapping[str, Sequence]) -> 'Table':
    """Table of the columns given, cast; the others are missing throughout.

    `prediction_id` is made of patient and laterality where it is not given.

    Raises:
      TableError: no column, an unknown one, or unequal lengths.
    """
    unknown = sorted(set(columns) - set(schema.COLUMNS))
    if unknown or not columns:
      raise TableError(
        f'table: columns {", ".join(unknown) or "none"}: choose from '
        + ', '.join(schema.COLUMNS)
      )
    n = len(next(iter(columns.values())))
    full = {}
    for name, dtype in schema.COLUMNS.items():
      if name in columns:
        full[name] = np.asarray(columns[name]).astype(dtype)
      else:
        full[name] = np.full(n, cells.missing(name), dtype)
    if 'prediction_id' not in columns:
      full['prediction_id'] = _breast_names(
        full['patient_id'], full['laterality']
      ).astype(schema.COLUMNS['prediction_id'])
    return cls(full)

  def __len__(self) -> int:
    return len(self.columns['image_id'])

  def __getitem__(self, name: str) -> np.ndarray:
    return self.columns[name]

  def take(self, rows: np.ndarray) -> 'Table':
    """Table of the rows that indices (M,) or a mask (N,) of bool choose."""
    rows = np.asarray(rows)
    if not rows.size and rows.dtype != bool:
      rows = rows.astype(np.int64)
    return Table({name: values[rows] for name, values in self.columns.items()})

  def rows(self) -> Iterator[dict]:
    """Yields each row as a dict of int, float and str."""
    lists = [values.tolist() for values in self.columns.values()]
    for values in zip(*lists, strict=True):
      yield dict(zip(self.columns, values, strict=True))


def concatenate(tables: Sequence[Table]) -> Table:
  """One table of the rows of all, in order; at least one table."""
  return Table(
    {
      name: np.concatenate([table[name] for table in tables])
      for name in schema.COLUMNS
    }
  )


def write_csv(
  path: str | os.PathLike, table: Table, *, kind: str | None = None
) -> None:
  """Writes a table in the format of RSNA's train.csv or test.csv, at once.

  Args:
    path: the file, replaced if there is one.
    table: its rows.
    kind: 'train', 'test', or None: 'test' if no row has a cancer label.

  Raises:
    OSError: as `files.write_bytes`.
  """
  if kind is None:
    kind = 'train' if (table['cancer'] != schema.MISSING).any() else 'test'
  columns = _KINDS[kind]
  texts = []
  for name in columns:
    values = table[name].tolist()
    memo = {value: cells.text_of(name, value) for value in set(values)}
    texts.append([memo[value] for value in values])
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(columns)
  writer.writerows(zip(*texts, strict=True))
  files.write_text(path, out.getvalue())


def read_csv(
  path: str | os.PathLike,
  *,
  kind: str | None = None,
  bad_rows: list[tuple[int, str, str]] | None = None,
  data: bytes | None = None,
) -> Table:
  """Reads and checks a train.csv or a test.csv.

  Args:
    path: the file; UTF-8 with or without BOM, any line ends.
    kind: 'train', 'test', or None: 'train' if it has a column `cancer`.
    bad_rows: None to stop at a bad row; a list to leave bad rows out and
      append (line number, image_id as written, reason) of each to it.
    data: content of the file, where `path` is but its name.

  Returns:
    The table, its rows in the order of the file.

  Raises:
    TableError: names the file, the line, the column, the value and the remedy.
  """
  header, rows, lines = csv_text.read(path, data)
  if kind is None:
    kind = 'train' if 'cancer' in header else 'test'
  wanted = _KINDS[kind]
  absent = [name for name in wanted if name not in header]
  if absent:
    raise TableError(
      f'{path}: no column {", ".join(absent)}: a {kind} table has '
      f'{",".join(wanted)}, separated by commas'
    )
  # prediction_id is checked wherever it stands.
  used = [name for name in header if name in (*wanted, 'prediction_id')]
  unknown = [ascii(name) for name in header if name not in used]
  if unknown:
    _log.warning(
      '%s: columns not of a %s table are left out: %s',
      path,
      kind,
      ', '.join(unknown),
    )
  faults: dict[int, str] = {}
  for i, row in enumerate(rows):
    if len(row) != len(header):
      faults[i] = f'{len(row)} fields: give {len(header)}, as the header has'
  if faults:
    # Padded so that columns can be cut; the faulty rows go in the end.
    blank = [''] * len(header)
    padded = [blank if i in faults else row for i, row in enumerate(rows)]
  else:
    padded = rows
  columns = {}
  for name, texts in zip(header, zip(*padded, strict=True), strict=True):
    if name in used:
      columns[name] = _parse_column(name, texts, faults)
  table = Table.from_columns(columns)
  _check_rows(table, lines, 'prediction_id' in used, faults)
  if faults:
    place = header.index('image_id')
    found = []
    for i in sorted(faults):
      image_id = rows[i][place] if len(rows[i]) > place else ''
      found.append((lines[i], image_id[:80], faults[i]))
    line, _, reason = found[0]
    more = len(found) - 1
    if bad_rows is None or len(found) == len(rows):
      raise TableError(
        f'{path}:{line}: {reason}'
        + (f' ({more} more bad rows)' if more else '')
      )
    bad_rows.extend(found)
    good = np.ones(len(table), bool)
    good[list(faults)] = False
    table = table.take(good)
  return table


def _parse_column(name, texts, faults: dict[int, str]) -> np.ndarray:
  """Values of a column; notes the first fault of each row in `faults`."""
  values, reasons = {}, {}
  for text in set(texts):
    try:
      values[text] = cells.parse(name, text)
    except cells.CellError as error:
      values[text] = cells.missing(name)
      reasons[text] = f'{name}={_shown(text)}: {error}'
  if reasons:
    for i, text in enumerate(texts):
      if text in reasons:
        faults.setdefault(i, reasons[text])
  parsed = [values[text] for text in texts]
  return np.array(parsed, schema.COLUMNS[name])


def _check_rows(
  table: Table,
  lines: Sequence[int],
  with_prediction_id: bool,
  faults: dict[int, str],
) -> None:
  """Notes what is wrong between the cells that are right one by one."""
  patients, laterality = table['patient_id'], table['laterality']
  if with_prediction_id:
    given, names = table['prediction_id'], _breast_names(patients, laterality)
    for i in np.flatnonzero(given != names).tolist():
      faults.setdefault(
        i,
        f'prediction_id={_shown(str(given[i]))}: write {names[i]}, the '
        'patient_id and the laterality of the row',
      )

  good = np.ones(len(table), bool)
  good[list(faults)] = False
  kept = np.flatnonzero(good)
  _, first, which = np.unique(
    table['image_id'][kept], return_index=True, return_inverse=True
  )
  for i in np.flatnonzero(first[which] != np.arange(len(kept))).tolist():
    original = lines[kept[first[which[i]]]]
    faults[int(kept[i])] = (
      f'image_id={table["image_id"][kept[i]]}: stands on line {original} '
      'already: keep one row for each image'
    )

  good[list(faults)] = False
  cancer = table['cancer']
  kept = np.flatnonzero(good & (cancer != schema.MISSING))
  breast = patients[kept] * 2 + (laterality[kept] == 'R')
  _, which = np.unique(breast, return_inverse=True)
  images = np.bincount(which)
  positives = np.bincount(which, weights=cancer[kept])
  mixed = ((positives > 0) & (positives < images))[which]
  # Which label is wrong is unknown, so that no row of the breast is good.
  found: dict[int, list[int]] = {}
  for i, group in zip(kept[mixed].tolist(), which[mixed].tolist(), strict=True):
    found.setdefault(group, []).append(i)
  for rows in found.values():
    places = [
      next(lines[i] for i in rows if cancer[i] == label) for label in (0, 1)
    ]
    for i in rows:
      faults[i] = (
        f'cancer={cancer[i]}: breast {patients[i]}_{laterality[i]} has 0 on '
        f'line {places[0]} and 1 on line {places[1]}: give its images one label'
      )


def _breast_names(patients: np.ndarray, laterality: np.ndarray) -> np.ndarray:
  names = np.strings.add(
    np.strings.add(patients.astype('<U11'), '_'), laterality
  )
  known = (patients != schema.MISSING) & (laterality != '')
  return np.where(known, names, '')


def _shown(text: str) -> str:
  """A cell fit for one line of a terminal."""
  return ascii(text if len(text) <= 40 else text[:40] + '...')
