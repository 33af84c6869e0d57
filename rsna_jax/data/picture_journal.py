"""What `rsna-jax convert` has written into a folder, kept while it works.

One line is appended for each file and picture, so a run that was ended in any
way goes on where it was, and never overwrites a file that is not its own.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from rsna_jax import errors, files

NAME = '.convert.jsonl'
_MANIFEST = (
  'input',
  'frames',
  'projection',
  'output',
  'sha256',
  'rows',
  'columns',
)


class Journal:
  """The journal of an output folder, locked while it is open.

  Attributes:
    described: fingerprint of an input -> what is in it.
    written: output -> its manifest row, with `fingerprint` and `bytes`.
    own: outputs that were written or begun.
  """

  def __init__(self, out: pathlib.Path):
    """Opens or begins the journal.

    Raises:
      errors.DataError: another process has it open.
      OSError: `out` cannot be written.
    """
    self.described: dict[str, dict[str, Any]] = {}
    self.written: dict[str, dict[str, Any]] = {}
    self.own: set[str] = set()
    self._out = out
    self._file = (out / NAME).open('a+', encoding='utf-8')
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      self._file.close()
      raise errors.DataError(
        f'{out}: another rsna-jax convert is at work on it; wait for its end'
      ) from error
    self._read()

  def __enter__(self) -> 'Journal':
    return self

  def __exit__(self, *_) -> None:
    self._file.close()

  def describe(self, fingerprint: str, description: dict[str, Any]) -> None:
    """Notes what is in an input."""
    self.described[fingerprint] = description
    self._append({'input': fingerprint, **description})

  def begin(self, outputs: Sequence[str]) -> None:
    """Notes the pictures that will be written.

    Raises:
      errors.DataError: one of them is there, and is not ours.
    """
    new = [output for output in outputs if output not in self.own]
    for output in new:
      if (self._out / output).exists():
        raise errors.DataError(
          f'{self._out / output}: is there, and was not written by rsna-jax '
          'convert: choose another folder'
        )
    if new:
      self.own.update(new)
      self._append({'begun': new})
    paths = {self._out / output for output in self.own}
    for folder in {path.parent for path in paths}:
      # Of a run that was killed; see `files.write_bytes`.
      for stray in folder.glob('.*.tmp'):
        if stray.with_name(stray.name[1:].rsplit('.', 2)[0]) in paths:
          stray.unlink()

  def write(
    self, entry: dict[str, Any], data: bytes, rows: int, columns: int
  ) -> None:
    """Writes a picture, and then notes that it is there."""
    entry = {
      **entry,
      'sha256': hashlib.sha256(data).hexdigest(),
      'bytes': len(data),
      'rows': rows,
      'columns': columns,
    }
    files.write_bytes(self._out / entry['output'], data)
    self.written[entry['output']] = entry
    self._append({'written': entry})

  def has(self, entry: dict[str, Any]) -> bool:
    """Whether a picture is there, made of the same input in the same way."""
    known = self.written.get(entry['output'])
    if known is None or known['fingerprint'] != entry['fingerprint']:
      return False
    with contextlib.suppress(OSError):
      return (self._out / known['output']).stat().st_size == known['bytes']
    return False

  def finish(self, outputs: Sequence[str]) -> None:
    """Writes manifest.csv of these pictures, by the order given."""
    out = io.StringIO(newline='')
    writer = csv.DictWriter(
      out, _MANIFEST, extrasaction='ignore', lineterminator='\n'
    )
    writer.writeheader()
    writer.writerows(self.written[output] for output in outputs)
    files.write_text(self._out / 'manifest.csv', out.getvalue())

  def _append(self, line: dict[str, Any]) -> None:
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()

  def _read(self) -> None:
    self._file.seek(0)
    for text in self._file:
      # The last line of a run that was killed may be cut.
      with contextlib.suppress(ValueError, KeyError, TypeError):
        line = json.loads(text)
        if 'input' in line:
          self.described[line.pop('input')] = line
        elif 'begun' in line:
          self.own.update(line['begun'])
        else:
          self.written[line['written']['output']] = line['written']
    self._file.seek(0, os.SEEK_END)
    if self._file.tell():
      self._file.write('\n')


def fingerprint(*parts: Any) -> str:
  """A digest of plain values."""
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
