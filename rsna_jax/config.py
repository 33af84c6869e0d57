"""Every option of a run, its default, and the checks that a config must pass.

The fields stand in `options`, a module for each group. A file in `configs/`
returns `default()` with its differences; derived numbers are computed in code,
never stored here.
"""

import importlib.util
import json
import os
import pathlib

import ml_collections

from rsna_jax import errors
from rsna_jax.options import (
  augment,
  checks,
  data,
  evaluation,
  loss,
  model,
  optim,
  train,
  unused,
)


def default() -> ml_collections.ConfigDict:
  """Returns all fields with their defaults, locked against unknown names."""
  c = ml_collections.ConfigDict()
  c.name = 'default'  # names the run in reports
  c.seed = 0  # of the weights, the order of examples, augmentation, dropout
  c.parallel = train.default_parallel()
  c.data = data.default()
  c.augment = augment.default()
  c.model = model.default()
  c.train = train.default()
  c.loss = loss.default()
  c.optim = optim.default()
  c.eval = evaluation.default()
  return c.lock()


def validate(c: ml_collections.ConfigDict) -> None:
  """Checks the values of a config.

  Raises:
    errors.ConfigError: names every field that is wrong, each with its value
      and what it may be.
  """
  found = checks.Checks(c)
  # What jax.random.key keeps of a number, and numpy's generators take.
  found.that('seed', 0 <= c.seed < 2**32, f'from 0 to {2**32 - 1}')
  for group in (train, data, augment, model, loss, optim, evaluation):
    group.check(found)
  for field, remedy in unused.changed(c, default()).items():
    found.that(field, False, remedy)
  if found.found:
    raise errors.ConfigError('config: ' + '; '.join(found.found))


def load(path: str | os.PathLike) -> ml_collections.ConfigDict:
  """Returns what `get_config()` of a file in `configs/` returns.

  Raises:
    errors.ConfigError: the file is missing, does not run, or has no
      `get_config`.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.ConfigError(f'{path}: no such config; see the folder configs/')
  spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
  if spec is None or spec.loader is None:
    raise errors.ConfigError(f'{path}: a config is a Python file, name.py')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    c = module.get_config()
  except errors.InputError:
    raise
  except Exception as error:
    text = str(error).splitlines()[0] if str(error) else ''
    raise errors.ConfigError(
      f'{path}: {type(error).__name__}: {text}'.strip()
    ) from error
  if not isinstance(c, ml_collections.ConfigDict):
    raise errors.ConfigError(
      f'{path}: get_config() returns {type(c).__name__}: return '
      'config.default() with your differences'
    )
  return c


def to_json(c: ml_collections.ConfigDict) -> str:
  """The config as JSON text, tuples as lists."""
  return c.to_json_best_effort(indent=2) + '\n'


def from_json(
  text: str, where: str = 'config.json'
) -> ml_collections.ConfigDict:
  """The config that `to_json` wrote.

  Fields that the text lacks keep their defaults, so that runs of an older
  version still load.

  Raises:
    errors.ConfigError: not JSON, an unknown field, or an ill-typed value.
  """
  c = default()
  try:
    values = json.loads(text)
    c.update(_with_tuples(values))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    # ml_collections appends the whole config to what it says.
    text = ' '.join(str(error).split())[:300]
    raise errors.ConfigError(f'{where}: {text}') from error
  return c


def _with_tuples(value):
  if isinstance(value, dict):
    return {key: _with_tuples(item) for key, item in value.items()}
  return tuple(value) if isinstance(value, list) else value
