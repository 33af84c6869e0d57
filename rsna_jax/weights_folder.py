"""A folder of weights to start a training from.

It holds the arrays under the network's own names, weights.safetensors, and
weights.json: the network, the fields that the weights were trained with, and
where they come from.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rsna_jax import errors, files, models
from rsna_jax.weight_files import safetensors

_FIELDS = types.MappingProxyType(
  {'epsilon': float, 'input_scale': float, 'pool_padding': str}
)
# Where a network of two trunks has the second one.
LOCAL = 'local_network/'
_ARRAYS, _ABOUT = 'weights.safetensors', 'weights.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
  """What a folder of weights holds.

  Attributes:
    model: a key of `models.MODELS`.
    fields: of config.model, that these weights were trained with.
    arrays: 'params/trunk/...' and 'batch_stats/trunk/...' in float32.
    left: why arrays of the source were not loaded.
    source: name, form and SHA-256 of the file.
  """

  model: str
  fields: Mapping[str, Any]
  arrays: Mapping[str, np.ndarray]
  left: Mapping[str, str]
  source: Mapping[str, str]


def is_folder(path: str | os.PathLike) -> bool:
  """Whether `write` wrote a folder."""
  return (pathlib.Path(path) / _ABOUT).is_file()


def load(folder: str | os.PathLike) -> Weights:
  """What `write` wrote.

  Raises:
    errors.DataError: the folder is damaged.
  """
  folder = pathlib.Path(folder)
  try:
    about = json.loads((folder / _ABOUT).read_text(encoding='utf-8'))
    digest = about.pop('sha256')
    if sha256(folder / _ARRAYS) != digest:
      raise errors.DataError(
        f'{folder / _ARRAYS}: is not what was written; write it again with '
        'rsna-jax weights'
      )
    found = Weights(arrays=safetensors.read(folder / _ARRAYS), **about)
    _check(found)
    return found
  except FileNotFoundError as error:
    raise errors.DataError(f'{error.filename}: missing') from error
  except errors.InputError:
    raise
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise errors.DataError(f'{folder / _ABOUT}: is damaged') from error


def _check(found: Weights) -> None:
  """Whether all is as `write` writes it, since others may have written it.

  Raises:
    ValueError: it is not.
  """
  texts = [*found.source.values(), *found.left, *found.left.values()]
  if (
    found.model not in models.MODELS
    or not {'name', 'form', 'sha256'} <= found.source.keys()
    or not all(isinstance(text, str) for text in texts)
    or not all(isinstance(x, _FIELDS[k]) for k, x in found.fields.items())
    or found.fields.get('pool_padding', 'same') not in ('same', 'one')
    or any(x.dtype != np.float32 for x in found.arrays.values())
  ):
    raise ValueError('not as it was written')


def fields(folder: str | os.PathLike, model: str) -> Mapping[str, Any]:
  """The fields of config.model that the weights of a folder ask for.

  Raises:
    errors.ConfigError: they are of another network than `model`.
    errors.DataError: the folder is damaged.
  """
  found = load(folder)
  if found.model != model:
    raise errors.ConfigError(
      f'model.init_from={str(folder)!r}: weights of {found.model}, and '
      f'model.name={model!r} (of many_view: model.trunk): choose the same'
    )
  return found.fields


def merge(
  variables: dict, found: Weights, where: str
) -> tuple[dict, dict[str, str]]:
  """First variables with the arrays of a folder in their places.

  A network of two trunks (`LOCAL`) takes them in each that they fit, as long as
  they fit one.

  Args:
    variables: {'params', 'batch_stats'} of the whole network.
    found: the weights.
    where: the folder, for messages.

  Returns:
    The variables; and for paths below 'params' and 'batch_stats' that got
    nothing, though they are of a trunk or the weights have them, why.

  Raises:
    errors.RunError: an array has no place, or another shape.
  """
  ours = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
  }
  taken, left, wrong = {}, {}, []
  for place in ('', LOCAL):
    start = f'{place}trunk/'
    mine = [x for x in ours if x.partition('/')[2].startswith(start)]
    if place and not mine:
      continue
    given = {
      name.replace('/trunk/', f'/{start}', 1): x
      for name, x in found.arrays.items()
      if not place or '/trunk/' in name
    }
    text = _misfit(ours, mine, given, 'local_width' if place else 'width')
    if text:
      wrong.append(text)
      lost = {*mine, *(given.keys() & ours.keys())}
      left |= dict.fromkeys((x.partition('/')[2] for x in lost), text)
    else:
      taken |= given
  if not taken:
    raise errors.RunError(f'model.init_from={where!r}: {wrong[0]}')

  def choose(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return taken.get(name, leaf)

  return jax.tree_util.tree_map_with_path(choose, variables), left


def _misfit(ours, mine, given, width: str) -> str:
  """Why not all of `given` and of `mine` find each other; '' if they do."""
  for name in mine:
    if name not in given:
      return f'holds none of {name}; leave model.depth at 1'
  lost = given.keys() - ours.keys()
  if lost:
    return (
      f'{len(lost)} arrays have no place here, as {min(lost)}; leave '
      'model.depth at 1'
    )
  for name, x in given.items():
    if x.shape != ours[name]:
      return (
        f'{name} is {x.shape} there, {ours[name]} here; leave model.{width} '
        'at 1'
      )
  return ''


def text(found: Weights) -> str:
  """What was loaded, and what was left and why, as a table."""
  values = sum(x.size for x in found.arrays.values())
  rows = [
    ('loaded', f'{len(found.arrays)} arrays', f'{values:,} values'),
    *(('left', key, why) for key, why in _grouped(found.left)),
    ('left', "the network's head", 'a training makes it for its own targets'),
  ]
  widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
  lines = [
    f'{found.model} from {found.source["name"]}, '
    f'SHA-256 {found.source["sha256"]}',
    ', '.join(f'model.{name}={x}' for name, x in found.fields.items()),
  ]
  for kind, what, why in rows:
    lines.append(f'  {kind:{widths[0]}}  {what:{widths[1]}}  {why}')
  return '\n'.join(lines)


def _grouped(left: Mapping[str, str]) -> list[tuple[str, str]]:
  """A row for each reason, when more than a few arrays share it."""
  reasons: dict[str, list[str]] = {}
  for key, why in left.items():
    reasons.setdefault(why, []).append(key)
  return [
    (keys[0] if len(keys) == 1 else f'{keys[0]} and {len(keys) - 1} more', why)
    for why, keys in reasons.items()
  ]


def write(found: Weights, out: pathlib.Path) -> None:
  """Writes the folder; without weights.json it is none."""
  (out / _ABOUT).unlink(missing_ok=True)  # what makes the folder one, last
  safetensors.write(out / _ARRAYS, found.arrays)
  files.write_json(
    out / _ABOUT,
    {
      'model': found.model,
      'fields': dict(found.fields),
      'left': dict(found.left),
      'source': dict(found.source),
      'sha256': sha256(out / _ARRAYS),
    },
  )


def sha256(path: pathlib.Path) -> str:
  """Of a file, as hexadecimal text."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
