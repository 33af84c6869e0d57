"""A CSV file as rows of text, refused early where it cannot be a table."""

import collections
import csv
import io
import os
import pathlib

from rsna_jax import errors

# RSNA's train.csv has 3 MB and lines of 60 characters, one of 10 million images
# half a gigabyte; beyond, it is not a table, and reading on would fill the
# memory.
MAX_BYTES = 2**30
MAX_LINE_CHARACTERS = 10_000


class TableError(errors.DataError):
  """A CSV is not readable as the table it has to be."""


def read(
  path: str | os.PathLike, data: bytes | None = None
) -> tuple[list[str], list[list[str]], list[int]]:
  """Splits a CSV file into cells.

  Args:
    path: the file; UTF-8 with or without BOM, any line ends. Blank lines are
      passed over.
    data: its content, where `path` is but a name.

  Returns:
    The names of the columns, the cells of each row (not always as many as
    columns), and the line of the file, from 1, on which each row begins.

  Raises:
    TableError: names the file, the line where there is one, and the remedy.
  """
  if data is None:
    data = _content(pathlib.Path(path))
  _check_size(path, len(data))
  if not data.strip():
    raise TableError(f'{path}: empty: give a header and rows')
  if b'\0' in data:
    line = data[: data.index(b'\0')].count(b'\n') + 1
    raise TableError(f'{path}:{line}: a NUL byte: save it as CSV in UTF-8')
  try:
    text = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = data[: error.start].count(b'\n') + 1
    raise TableError(
      f'{path}:{line}: byte {data[error.start]:#04x} is not UTF-8: save it as '
      'CSV in UTF-8'
    ) from error
  file = io.StringIO(text, newline='')
  for line, content in enumerate(file, 1):
    if len(content) > MAX_LINE_CHARACTERS:
      raise TableError(
        f'{path}:{line}: a line of {len(content)} characters: at most '
        f'{MAX_LINE_CHARACTERS}; are the line ends lost?'
      )
  file.seek(0)
  reader = csv.reader(file, strict=True)
  header, rows, lines, start = [], [], [], 1
  try:
    for row in reader:
      if row and not header:
        header = [name.strip() for name in row]
      elif row:
        rows.append(row)
        lines.append(start)
      start = reader.line_num + 1
  except csv.Error as error:
    raise TableError(f'{path}:{start}: {error}: check the quotes') from error
  twice = [n for n, k in collections.Counter(header).items() if k > 1]
  if twice:
    raise TableError(
      f'{path}:1: column {twice[0]!a} stands twice: keep one of them'
    )
  if not rows:
    raise TableError(f'{path}: no rows below the header: give at least one')
  return header, rows, lines


def _content(path: pathlib.Path) -> bytes:
  if path.is_dir():
    raise TableError(f'{path}: a folder: name the CSV file in it')
  if not path.is_file():
    raise TableError(f'{path}: no such file: check the path')
  try:
    size = path.stat().st_size
    data = path.read_bytes() if size <= MAX_BYTES else b''
  except OSError as error:
    raise TableError(f'{path}: cannot be read: {error.strerror}') from error
  _check_size(path, size)
  return data


def _check_size(path: str | os.PathLike, size: int) -> None:
  if size > MAX_BYTES:
    raise TableError(
      f'{path}: {size} bytes: a table has at most {MAX_BYTES}; is it a CSV?'
    )
