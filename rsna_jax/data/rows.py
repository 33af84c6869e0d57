"""The table of a prepared data set, beside its shards or out of them."""

import contextlib
import csv
import json
import pathlib

import numpy as np

from rsna_jax import errors, files, schema
from rsna_jax.data import layout, records
from rsna_jax.data import table as table_lib


def read(
  folder: pathlib.Path,
  data_set: str,
  shards: records.Shards,
  counts: dict[str, int],
) -> tuple[list[table_lib.Table], str]:
  """Table of each split, and the fingerprint of the data set.

  Args:
    folder: of the data set.
    data_set: its name.
    shards: its records, split after split.
    counts: split -> number of its records.

  Raises:
    errors.DataError: the files in the folder do not fit together.
  """
  path = folder / 'records.json'
  if not path.is_file():
    # Made by TFDS itself.
    return _scan(folder, shards, counts)
  try:
    fingerprint = json.loads(path.read_text('utf-8'))['fingerprint']
  except (ValueError, KeyError, TypeError) as error:
    raise errors.DataError(
      f'{path}: {error}: delete it, and it will be made anew'
    ) from error
  tables = []
  for split, count in counts.items():
    path = folder / f'rows-{split}.csv'
    table = (
      _read_folder_csv(path)
      if data_set == 'mammography_folders'
      else table_lib.read_csv(path, kind=split)
    )
    if len(table) != count:
      raise errors.DataError(
        f'{path}: {len(table)} rows for {count} images: run the same rsna-jax '
        'prepare again'
      )
    tables.append(table)
  return tables, fingerprint


def _read_folder_csv(path: pathlib.Path) -> table_lib.Table:
  """A table without laterality, which `table.read_csv` would not take."""
  try:
    with path.open(encoding='utf-8', newline='') as file:
      rows = list(csv.DictReader(file))
    return layout.folder_table(
      patient_id=[int(row['patient_id']) for row in rows],
      image_id=[int(row['image_id']) for row in rows],
      density=[schema.DENSITIES.index(row['density']) + 1 for row in rows],
      cancer=[int(row['cancer']) for row in rows],
    )
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise errors.DataError(
      f'{path}: {error}: run the same rsna-jax prepare again'
    ) from error


def _scan(
  folder: pathlib.Path, shards: records.Shards, counts: dict[str, int]
) -> tuple[list[table_lib.Table], str]:
  """Tables and fingerprint from the records; kept for the next time."""
  columns: dict[str, list] = {name: [] for name in schema.COLUMNS}
  digests = []
  for i in range(len(shards)):
    (record,) = shards.read([i])
    try:
      example = records.parse_example(record)
      row = {name: example[name][0] for name in schema.COLUMNS}
      png = example['image'][0]
    except (ValueError, KeyError, IndexError) as error:
      raise errors.DataError(
        f'{folder}: record {i}: {error}: not a data set of rsna_jax, or a '
        'damaged one; prepare it again'
      ) from error
    for name, dtype in schema.COLUMNS.items():
      if dtype.kind == 'U':
        row[name] = row[name].decode()
      columns[name].append(row[name])
    digests.append(records.digest(row, png))
  table = table_lib.Table.from_columns(columns)
  tables, start = [], 0
  for count in counts.values():
    tables.append(table.take(np.arange(start, start + count)))
    start += count
  fingerprint = records.fingerprint(digests)
  with contextlib.suppress(OSError):  # the folder may be for reading only
    for name, part in zip(counts, tables, strict=True):
      table_lib.write_csv(folder / f'rows-{name}.csv', part, kind=name)
    files.write_json(folder / 'records.json', {'fingerprint': fingerprint})
  return tables, fingerprint
