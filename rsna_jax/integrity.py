"""Folders that are whole: a manifest of SHA-256 sums, written last.

A folder without one was never finished, and one that differs from its manifest
is damaged.
"""

import hashlib
import json
import pathlib

from rsna_jax import files

MANIFEST = 'manifest.json'


def seal(folder: pathlib.Path) -> None:
  """Writes the manifest of all files below a folder.

  Raises:
    OSError: the disk is full; the folder stays unfinished.
  """
  files.write_json(folder / MANIFEST, _digests(folder))


def damage(folder: pathlib.Path, max_bytes: int) -> str | None:
  """What differs from the manifest of a folder, or None.

  Args:
    folder: to be compared.
    max_bytes: of all its files; more are not read. A file of nothing but a
      hole would be read for hours.
  """
  try:
    expected = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    return f'{MANIFEST}: {type(error).__name__}'
  if not isinstance(expected, dict):
    return f'{MANIFEST}: not a list of files'
  size = sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())
  if size > max_bytes:
    return f'{size >> 30} GiB, at most {max_bytes >> 30} are read'
  found = _digests(folder)
  for name in sorted(expected.keys() | found.keys()):
    if name not in found:
      return f'{name} is missing'
    if name not in expected:
      return f'{name} does not belong there'
    if found[name] != expected[name]:
      return f'{name} has changed'
  return None


def _digests(folder: pathlib.Path) -> dict[str, str]:
  digests = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name != MANIFEST:
      with path.open('rb') as file:
        digests[str(path.relative_to(folder))] = hashlib.file_digest(
          file, 'sha256'
        ).hexdigest()
  return digests
