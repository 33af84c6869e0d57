"""Which files `rsna-jax convert` turns into pictures, and how these are named.

A plain picture keeps its relative path. In RSNA's layout a picture that is no
whole file gets an image_id of its own, so that each is one training example.
"""

import dataclasses
import os
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from rsna_jax import errors
from rsna_jax.data import cells, layout

_TABLES = ('train.csv', 'test.csv')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """A file to convert.

  Attributes:
    path: of the file.
    name: path relative to what was named on the command line.
    stem: path of its picture relative to the output folder, without suffix.
    split: 'train' or 'test' of RSNA's layout, else ''.
    row: columns of RSNA's layout.
  """

  path: str
  name: str
  stem: str
  split: str = ''
  row: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
  """All files to convert, and (name, reason) of rows and files that cannot."""

  files: list[Source]
  skipped: list[tuple[str, str]]


def find(
  inputs: Sequence[str | os.PathLike], out: pathlib.Path, *, skip: bool
) -> Sources:
  """Lists the files.

  Args:
    inputs: files, folders, which are searched to their depth, or one folder
      with RSNA's layout.
    out: the folder that the pictures go to.
    skip: whether to leave out bad rows and missing files of a layout.

  Raises:
    errors.DataError: nothing there, or `out` lies in an input.
  """
  paths = [pathlib.Path(path) for path in inputs]
  for path in paths:
    if not path.exists():
      raise errors.DataError(
        f'{path}: no such file or folder: check the path; give DICOM files, '
        'pictures, folders of them, or an RSNA layout'
      )
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
      raise errors.DataError(
        f'{out}: lies in {path}, which is read: choose a folder outside of it'
      )
  tables = [p for p in paths if any((p / name).is_file() for name in _TABLES)]
  if tables and len(paths) > 1:
    raise errors.DataError(
      f'{tables[0]}: has an RSNA table: convert it alone, or name the folders '
      'of images in it'
    )
  if tables:
    return _of_layout(tables[0], skip)
  files: list[Source] = []
  for path in paths:
    if not path.is_dir():
      files.append(
        Source(path=str(path), name=path.name, stem=_stem(path.name))
      )
      continue
    # Of several folders each gets one in the output.
    start = '' if len(paths) == 1 else path.resolve().name + '/'
    for name in _below(path):
      files.append(
        Source(
          path=str(path / name), name=start + name, stem=_stem(start + name)
        )
      )
  if not files:
    raise errors.DataError(
      f'{paths[0]}: nothing to convert: no DICOM file and no '
      f'{", ".join(layout.SUFFIXES[1:])} in it'
    )
  return Sources(files=files, skipped=[])


def image_id(number: int, part: str, taken: set[int]) -> int:
  """An id for a part of an image, the same in each run.

  Args:
    number: image_id of the image.
    part: what is shown of it.
    taken: ids that are given away; the new one is added.
  """
  found = zlib.crc32(f'{number} {part}'.encode()) % cells.MAX_ID
  while found in taken:
    found = (found + 1) % cells.MAX_ID
  taken.add(found)
  return found


def _of_layout(src: pathlib.Path, skip: bool) -> Sources:
  found = layout.find(src, skip=skip, data_set='rsna_mammography')
  files = []
  for split, content in found.splits.items():
    rows = content.table.rows()
    for row, path in zip(rows, content.files, strict=True):
      stem = f'{split}_images/{row["patient_id"]}/{row["image_id"]}'
      files.append(
        Source(
          path=path,
          name=pathlib.Path(path).relative_to(src).as_posix(),
          stem=stem,
          split=split,
          row=row,
        )
      )
  skipped = [
    (f'{pathlib.Path(entry.file).name}', f'{entry.file}: {entry.reason}')
    for entry in found.skipped
  ]
  return Sources(files=files, skipped=skipped)


def _below(folder: pathlib.Path) -> Iterator[str]:
  """Relative paths of the images below a folder, sorted."""
  for parent, folders, names in os.walk(folder):
    folders[:] = sorted(name for name in folders if not name.startswith('.'))
    for name in sorted(names):
      path = pathlib.Path(parent, name)
      if not name.startswith('.') and _is_image(path):
        yield path.relative_to(folder).as_posix()


def _is_image(path: pathlib.Path) -> bool:
  if path.suffix.lower() in layout.SUFFIXES:
    return path.is_file()
  if path.name.upper() == 'DICOMDIR' or not path.is_file():
    return False
  # Archives name their files by numbers or UIDs, without a suffix.
  try:
    with path.open('rb') as file:
      return file.read(132)[128:] == b'DICM'
  except OSError:
    return False


def _stem(name: str) -> str:
  path = pathlib.PurePosixPath(name)
  # A UID has dots as well.
  known = path.suffix.lower() in layout.SUFFIXES
  return str(path.with_suffix('')) if known else name
