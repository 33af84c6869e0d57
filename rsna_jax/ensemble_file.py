"""Where an ensemble's runs are: in ensemble.json, or the folds of a folder."""

import json
import pathlib
import re

from rsna_jax import errors

NAME = 'ensemble.json'
_FOLD = re.compile(r'fold(\d+)')


def folds(folder: pathlib.Path) -> list[pathlib.Path]:
  """The runs that `rsna-jax crossvalidate` has written below a folder."""
  found = {}
  if folder.is_dir():
    for path in folder.iterdir():
      match = _FOLD.fullmatch(path.name)
      if match and (path / 'config.json').is_file():
        found[int(match[1])] = path
  return [found[k] for k in sorted(found)]


def read(path: pathlib.Path) -> dict:
  """The content of an ensemble.json, each run as a dict with its path.

  Raises:
    errors.RunError: it is not one; unknown fields are named.
  """
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise errors.RunError(f'{path}: not JSON ({error})') from error
  fields = {'runs', 'average'}
  if not isinstance(found, dict) or not isinstance(found.get('runs'), list):
    raise errors.RunError(f'{path}: an object with the list "runs" is wanted')
  if set(found) - fields:
    raise errors.RunError(
      f'{path}: unknown field {sorted(set(found) - fields)[0]}; there are '
      'runs and average'
    )
  known = {'path', 'weight', 'reject_below', 'checkpoint'}
  runs = []
  for i, entry in enumerate(found['runs']):
    entry = {'path': entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get('path'), str):
      raise errors.RunError(f'{path}: runs[{i}]: its "path" is missing')
    if set(entry) - known:
      raise errors.RunError(
        f'{path}: runs[{i}]: unknown field {sorted(set(entry) - known)[0]}; '
        f'there are {", ".join(sorted(known))}'
      )
    runs.append(entry)
  return found | {'runs': runs}


def number(place: str, entry: dict, name: str, default: float) -> float:
  """A number of a run's entry, or its default.

  Raises:
    errors.ConfigError: it is no number.
  """
  value = entry.get(name, default)
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise errors.ConfigError(f'{place}.{name}={value!r}: a number')
  return float(value)
