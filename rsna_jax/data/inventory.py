"""All that a folder of mammograms holds, good or bad: rows, files, and faults.

`data/layout.py` takes what can be used and stops or skips; an audit wants to
see what is wrong as well, so here no row and no file is left out.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from rsna_jax import errors, schema
from rsna_jax.data import cells, csv_text, layout, sources, tree

SPLITS = ('train', 'test')
KINDS = ('rsna_mammography', 'mammography_folders', 'folder')
_COLUMNS = {'train': schema.TRAIN_COLUMNS, 'test': schema.TEST_COLUMNS}


@dataclasses.dataclass(frozen=True)
class Item:
  """A row, the file it names, or both.

  Attributes:
    split: 'train', 'test', or '' without a table.
    name: of the file, below the folder; of a missing one, as it should be.
    file: path of the image; '' where the row's file is not there.
    row: columns of `schema.COLUMNS` that the table has; None: no row names
      the file.
    line: of the row in its table; 0 without a row.
  """

  split: str
  name: str
  file: str
  row: dict[str, Any] | None = None
  line: int = 0


@dataclasses.dataclass(frozen=True)
class Table:
  """What was read of a train.csv or a test.csv.

  Attributes:
    path: of the file.
    columns: names of the table's columns, unknown ones included.
    rows: number of rows.
    faults: (line, image_id as written, reason) of cells that cannot be read,
      which count as missing, and of image_ids that stand twice.
  """

  path: str
  columns: tuple[str, ...]
  rows: int
  faults: tuple[tuple[int, str, str], ...]


@dataclasses.dataclass(frozen=True)
class Inventory:
  """What a folder holds.

  Attributes:
    kind: of `KINDS`.
    items: rows in the order of their tables, then files without a row.
    tables: 'train' and 'test', those that are there.
  """

  kind: str
  items: tuple[Item, ...]
  tables: dict[str, Table]


def find(
  src: str | os.PathLike, *, train_csv: str | os.PathLike | None = None
) -> Inventory:
  """Looks through RSNA's layout, folders of classes, or any folder of images.

  Args:
    src: the folder, the competition's zip, or a URL; see `sources.open_tree`.
    train_csv: the CSV to take in place of `src`/train.csv, absolute or
      relative to `src` or to the working directory.

  Raises:
    errors.DataError: no such folder, a table that is none, or no image.
  """
  files = sources.open_tree(src)
  if files is None:
    raise errors.DataError(f'{src}: no such folder; give one with mammograms')
  tables = {
    split: files.path(f'{split}.csv')
    for split in SPLITS
    if files.is_file(f'{split}.csv')
  }
  if train_csv is not None:
    inside = os.fspath(train_csv)
    if not os.path.isabs(inside) and files.is_file(inside):
      inside = files.path(inside)
    tables = {'train': inside} | {
      k: v for k, v in tables.items() if k == 'test'
    }
  if tables:
    found = _rsna(files, tables)
  elif any(name in schema.DENSITY_CANCER_CLASSES for name in files.folders()):
    found = _class_folders(files, src)
  elif isinstance(files, tree.Folder):
    found = Inventory('folder', tuple(_folder(files)), {})
  else:
    raise errors.DataError(f'{src}: no train.csv in it; unpack it, or give one')
  if not any(item.file for item in found.items):
    raise errors.DataError(
      f'{src}: no image in it ({", ".join(layout.SUFFIXES)}); give a folder '
      f'of images, or one that holds {layout.RSNA_TREE}'
    )
  return found


def _rsna(files: tree.Tree, paths: dict[str, str]) -> Inventory:
  items, tables = [], {}
  for split in SPLITS:
    there = _images_of(files, f'{split}_images')
    if split in paths:
      tables[split], rows = _read(paths[split], split)
      for line, row in rows:
        key = (str(row['patient_id']), str(row['image_id']))
        name = there.pop(key, '')
        file = files.path(name) if name else ''
        name = name or f'{split}_images/{key[0]}/{key[1]}.dcm'
        items.append(Item(split, name, file, row, line))
    items += [Item(split, name, files.path(name)) for name in there.values()]
  items.sort(key=lambda item: item.row is None)
  return Inventory('rsna_mammography', tuple(items), tables)


def _images_of(files: tree.Tree, folder: str) -> dict[tuple[str, str], str]:
  """(patient folder, file name without suffix) -> name of each image."""
  found: dict[tuple[str, str], str] = {}
  if files.is_folder(folder):
    for patient, names in sorted(files.walk(folder)):
      for name in sorted(names, key=_rank):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in layout.SUFFIXES and not name.startswith('.'):
          # The DICOM comes first: it says more than a picture exported of it.
          found.setdefault((patient, stem), f'{folder}/{patient}/{name}')
  return found


def _rank(name: str) -> tuple[int, str]:
  suffix = os.path.splitext(name)[1].lower()
  known = suffix in layout.SUFFIXES
  return layout.SUFFIXES.index(suffix) if known else 0, name


def _read(
  path: str, split: str
) -> tuple[Table, list[tuple[int, dict[str, Any]]]]:
  data = sources.read(path) if '://' in path else None
  header, texts, lines = csv_text.read(path, data)
  for name in ('patient_id', 'image_id'):
    if name not in header:
      raise errors.DataError(
        f'{path}: no column {name}: it says which file a row means; a {split} '
        f'table has {",".join(_COLUMNS[split])}'
      )
  rows, faults, first = [], [], {}
  memo: dict[tuple[str, str], tuple[Any, str]] = {}
  places = [(i, name) for i, name in enumerate(header) if name in _KNOWN]
  where = header.index('image_id')
  for line, cut in zip(lines, texts, strict=True):
    image_id = cut[where][:80] if where < len(cut) else ''
    if len(cut) != len(header):
      reason = f'{len(cut)} fields: give {len(header)}, as the header has'
      faults.append((line, image_id, reason))
      cut = [*cut, *[''] * len(header)]
    row = {}
    for i, name in places:
      key = (name, cut[i])
      if key not in memo:
        memo[key] = _cell(*key)
      row[name], reason = memo[key]
      if reason:
        faults.append((line, image_id, reason))
    before = first.setdefault(row['image_id'], line)
    if before != line and row['image_id'] != schema.MISSING:
      reason = f'image_id={row["image_id"]}: stands on line {before} already'
      faults.append((line, image_id, reason))
    rows.append((line, row))
  return Table(path, tuple(header), len(rows), tuple(faults)), rows


_KNOWN = frozenset(schema.COLUMNS)


def _cell(name: str, text: str) -> tuple[Any, str]:
  try:
    return cells.parse(name, text), ''
  except cells.CellError as error:
    shown = ascii(text if len(text) <= 40 else text[:40] + '...')
    return cells.missing(name), f'{name}={shown}: {error}'


def _class_folders(files: tree.Tree, src: str | os.PathLike) -> Inventory:
  found = layout.find(src, skip=True, data_set='mammography_folders')
  split = found.splits['train']
  columns = ('patient_id', 'image_id', 'density', 'cancer')
  items = [
    Item('train', files.relative(file), file, {k: row[k] for k in columns})
    for row, file in zip(split.table.rows(), split.files, strict=True)
  ]
  items += [
    Item('train', files.relative(entry.file), entry.file)
    for entry in found.skipped
  ]
  return Inventory('mammography_folders', tuple(items), {})


def _folder(files: tree.Folder) -> Iterator[Item]:
  """Images anywhere in a folder; archives name some without an ending."""
  for path in sorted(_files_below(files.path(''))):
    suffix = os.path.splitext(path)[1].lower()
    if suffix in layout.SUFFIXES or (
      not suffix[1:].isalpha() and _is_dicom(path)
    ):
      yield Item('', files.relative(path), path)


def _files_below(folder: str | os.PathLike) -> Iterator[str]:
  """Paths below a folder; what cannot be listed, and dot files, are not."""
  seen = set()
  for root, folders, names in os.walk(folder, followlinks=True):
    real = os.path.realpath(root)
    if real in seen:  # a link to a folder above would go round for ever
      folders.clear()
      continue
    seen.add(real)
    folders[:] = [name for name in folders if not name.startswith('.')]
    for name in names:
      if not name.startswith('.'):
        yield os.path.join(root, name)


def _is_dicom(path: str) -> bool:
  try:
    with pathlib.Path(path).open('rb') as file:
      return file.read(132)[128:] == b'DICM'
  except OSError:
    return False
