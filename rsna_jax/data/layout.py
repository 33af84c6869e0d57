"""Finds the rows and the image files of a folder of mammograms.

Two layouts: RSNA's, with train.csv and test.csv beside train_images and
test_images; and pictures in folders Density1Benign to Density4Malignant.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from rsna_jax import errors, schema
from rsna_jax.data import sources, tree
from rsna_jax.data import table as table_lib

SUFFIXES = ('.dcm', '.png', '.jpg', '.jpeg', '.pgm')
RSNA_TREE = (
  'train.csv and train_images/<patient_id>/<image_id>.dcm (or .png, .jpg, '
  '.jpeg, .pgm), and/or test.csv and test_images/ likewise'
)
FOLDERS_TREE = 'folders Density1Benign ... Density4Malignant with pictures'
_log = logging.getLogger('rsna_jax')


@dataclasses.dataclass(frozen=True)
class Skipped:
  """What is left out of a data set: a file, its line if it has one, and why."""

  file: str
  line: str
  image_id: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Split:
  """Rows of one official split and the image file of each."""

  table: table_lib.Table
  files: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Layout:
  """A folder of mammograms.

  Attributes:
    data_set: `rsna_mammography` or `mammography_folders`.
    splits: 'train' and 'test', those that are there.
    skipped: rows and files left out, where that was asked for.
    source: of the files; knows how big each is, and when it was changed.
    unnamed: number of image files that no row names.
  """

  data_set: str
  splits: dict[str, Split]
  skipped: list[Skipped]
  source: tree.Tree
  unnamed: int = 0


def find(
  src: str | os.PathLike,
  *,
  train_csv: str | os.PathLike | None = None,
  skip: bool = False,
  data_set: str | None = None,
) -> Layout:
  """Reads the tables below `src` and finds the file of every row.

  Args:
    src: the folder, the competition's zip, or a URL; see
      `sources.open_tree`.
    train_csv: the CSV to take in place of `src`/train.csv, absolute or
      relative to `src` or to the working directory.
    skip: whether to leave bad rows and missing files out and list them.
    data_set: `rsna_mammography`, `mammography_folders`, or None: whichever
      is there.

  Raises:
    errors.DataError: neither layout is there; a bad row or a missing file
      without `skip`; nothing is left.
  """
  files = sources.open_tree(src)
  if files is None:
    raise errors.DataError(
      f'{src}: no such folder; give one that holds {RSNA_TREE}; or '
      + FOLDERS_TREE
    )
  tables = {name: files.path(f'{name}.csv') for name in ('train', 'test')}
  there = {name for name in tables if files.is_file(f'{name}.csv')}
  if train_csv is not None:
    there.add('train')
    train_csv = os.fspath(train_csv)
    if not os.path.isabs(train_csv) and files.is_file(train_csv):
      tables['train'] = files.path(train_csv)
    else:
      tables['train'] = train_csv
  folders = _class_folders(files)
  if data_set != 'mammography_folders' and (there or not folders):
    if not there:
      raise errors.DataError(_nothing_there(files, data_set))
    found = {name: path for name, path in tables.items() if name in there}
    return _find_rsna(files, found, skip)
  if not folders:
    raise errors.DataError(
      f'{src}: no folder Density1Benign; expected {FOLDERS_TREE}'
    )
  return _find_folders(files, folders, skip)


def _nothing_there(files: tree.Tree, data_set: str | None) -> str:
  text = f'{files.name}: no train.csv and no test.csv; expected {RSNA_TREE}'
  if data_set is None:
    text += '; or ' + FOLDERS_TREE
  for folder in sorted(files.folders()):
    if files.is_file(f'{folder}/train.csv'):
      return f'{text}. Did you mean {files.path(folder)}?'
  return text


def _find_rsna(files: tree.Tree, tables: dict[str, str], skip: bool) -> Layout:
  splits, skipped, missing, unnamed, named = {}, [], [], 0, 0
  for split, path in tables.items():
    bad_rows = [] if skip else None
    table = _read_csv(path, split, bad_rows)
    for line, image_id, reason in bad_rows or ():
      skipped.append(Skipped(path, str(line), image_id, reason))
    folder, csv_name = f'{split}_images', pathlib.PurePath(path).name
    if not files.is_folder(folder):
      raise errors.DataError(
        f'{files.path(folder)}: no such folder, and {csv_name} names '
        f'{len(table)} images in it; expected {RSNA_TREE}'
      )
    there = _images_below(files, folder)
    keys = list(
      zip(
        map(str, table['patient_id'].tolist()),
        map(str, table['image_id'].tolist()),
        strict=True,
      )
    )
    found = [there.pop(key, None) for key in keys]
    for key, file in zip(keys, found, strict=True):
      if file is None:
        wanted = files.path('/'.join((folder, *key)) + '.dcm')
        reason = f'named in {csv_name} and not there'
        missing.append(Skipped(wanted, '', key[1], reason))
    unnamed += len(there)
    named += len(table)
    good = np.array([file is not None for file in found], bool)
    if good.any():
      kept = [file for file in found if file is not None]
      splits[split] = Split(table.take(good), kept)
  if missing and (not skip or not splits):
    raise errors.DataError(
      f'{missing[0].file}: {missing[0].reason} ({len(missing)} of {named} '
      'files are missing): add them'
      + (', or use --bad-files skip' if splits else '')
    )
  if not splits:
    raise errors.DataError(f'{files.name}: its tables have no rows')
  return Layout('rsna_mammography', splits, skipped + missing, files, unnamed)


def _read_csv(path: str, split: str, bad_rows: list | None) -> table_lib.Table:
  data = sources.read(path) if '://' in path else None
  return table_lib.read_csv(path, kind=split, bad_rows=bad_rows, data=data)


def _images_below(files: tree.Tree, folder: str) -> dict[tuple[str, str], str]:
  """(patient folder, file name without suffix) -> path of each image."""
  found: dict[tuple[str, str], str] = {}
  for patient, names in files.walk(folder):
    for name in _images(names):
      # The DICOM comes first: it says more than a picture exported of it.
      key = (patient, os.path.splitext(name)[0])
      if key not in found:
        found[key] = files.path(f'{folder}/{patient}/{name}')
  return found


def _images(names: Iterable[str]) -> list[str]:
  """The images among the files of a folder, by kind and then by name."""
  found = []
  for name in names:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in SUFFIXES and not name.startswith('.'):
      found.append((SUFFIXES.index(suffix), name))
  return [name for _, name in sorted(found)]


def _class_folders(files: tree.Tree) -> dict[int, str]:
  """Class of `density_cancer` -> its folder, those that are there."""
  names = {name.lower(): i for i, name in enumerate(_CLASSES)}
  found = {
    names[name.lower()]: name
    for name in files.folders()
    if name.lower() in names
  }
  return dict(sorted(found.items()))


_CLASSES = schema.DENSITY_CANCER_CLASSES


def _find_folders(
  files: tree.Tree, folders: dict[int, str], skip: bool
) -> Layout:
  absent = [name for i, name in enumerate(_CLASSES) if i not in folders]
  if absent:
    _log.warning('%s: no folder %s', files.name, ', '.join(absent))
  images = [
    (files.path(f'{folder}/{name}'), label, name)
    for label, folder in folders.items()
    for name in sorted(_images(files.files(folder)))
  ]
  sources: dict[str, list[tuple[str, int]]] = {}
  for path, label, name in images:
    sources.setdefault(_source(name), []).append((path, label))
  skipped = []
  for source, members in list(sources.items()):
    label = members[0][1]
    other = next((path for path, here in members if here != label), None)
    if other is None:
      continue
    reason = (
      f'source image {source!r} is in {_CLASSES[label]} as well: the text '
      'before " (" names a source, which has one density and one label; '
      'rename one of them'
    )
    if not skip:
      raise errors.DataError(f'{other}: {reason}, or use --bad-files skip')
    skipped += [Skipped(path, '', '', reason) for path, _ in members]
    del sources[source]
  if not sources:
    raise errors.DataError(
      f'{files.name}: no image in its folders that can be used; expected '
      f'{FOLDERS_TREE} ({", ".join(SUFFIXES)})'
    )
  number = {source: i for i, source in enumerate(sorted(sources))}
  kept = [
    (i, *image) for i, image in enumerate(images) if _source(image[2]) in number
  ]
  labels = np.array([label for _, _, label, _ in kept])
  table = folder_table(
    patient_id=[number[_source(name)] for *_, name in kept],
    # Of all images, so that one that is left out later renames no other.
    image_id=[i for i, *_ in kept],
    density=labels // 2 + 1,
    cancer=labels % 2,
  )
  split = Split(table, [path for _, path, _, _ in kept])
  return Layout('mammography_folders', {'train': split}, skipped, files)


def folder_table(**columns: Sequence[int]) -> table_lib.Table:
  """Table of patient_id, image_id, density and cancer alone.

  A source image takes the place of a patient and of a breast, so that folds
  and breast-level metrics hold its copies together.
  """
  patients = np.asarray(columns['patient_id'])
  return table_lib.Table.from_columns(
    {**columns, 'prediction_id': patients.astype('<U16')}
  )


def _source(name: str) -> str:
  """The source image of a file: what stands before ' (' in its name."""
  return os.path.splitext(name)[0].split(' (')[0]
