"""Published weights as a folder to start a training from.

The folder holds the arrays under the network's own names, weights.safetensors,
and weights.json: the network, the fields that the weights were trained with,
and where they come from.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import errors, files, models
from rsna_jax.data import sandbox
from rsna_jax.models import port, xception_port
from rsna_jax.weight_files import keras_file, safetensors, torch_zip

# Of each network, the port of a file: (what it holds, depth) -> its plan.
PORTS: Mapping[str, Callable[[port.Stored, float], port.Plan]] = {
  'xception': xception_port.plan,
}
_ARRAYS, _ABOUT = 'weights.safetensors', 'weights.json'
_READ_S = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
  """What a folder of weights holds.

  Attributes:
    model: a key of `PORTS`.
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


def convert(
  path: str | os.PathLike,
  model: str,
  out: str | os.PathLike | None = None,
  *,
  width: float = 1.0,
  depth: float = 1.0,
) -> Weights:
  """Ports a file of weights.

  Args:
    path: .h5, .weights.h5 or .keras of Keras; .safetensors, .pth, .pt or .bin
      of timm.
    model: a key of `PORTS`.
    out: folder to write; None: none.
    width: of the network, as config.model.width.
    depth: of the network, as config.model.depth.

  Raises:
    errors.ConfigError: no such model.
    errors.DataError: the file cannot be read, or is not of this network.
  """
  if model not in PORTS:
    raise errors.ConfigError(
      f'--model={model}: choose {", ".join(sorted(PORTS))}'
    )
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.DataError(f'{path}: no such file')
  stored = _read(path)
  plan = PORTS[model](stored, depth)
  arrays = port.fill(plan, stored.arrays, _shapes(model, width, depth), path)
  found = Weights(
    model=model,
    fields=plan.fields,
    arrays=arrays,
    left={key: why for key, why in plan.left.items() if key in stored.arrays},
    source={
      'name': path.name,
      'form': stored.form,
      'sha256': _sha256(path),
    },
  )
  if out is not None:
    _write(found, pathlib.Path(out))
  return found


def is_folder(path: str | os.PathLike) -> bool:
  """Whether `convert` wrote a folder."""
  return (pathlib.Path(path) / _ABOUT).is_file()


def load(folder: str | os.PathLike) -> Weights:
  """What `convert` wrote.

  Raises:
    errors.DataError: the folder is damaged.
  """
  folder = pathlib.Path(folder)
  try:
    about = json.loads((folder / _ABOUT).read_text(encoding='utf-8'))
    digest = about.pop('sha256')
    if _sha256(folder / _ARRAYS) != digest:
      raise errors.DataError(
        f'{folder / _ARRAYS}: is not what was written; write it again with '
        'rsna-jax weights'
      )
    return Weights(arrays=safetensors.read(folder / _ARRAYS), **about)
  except FileNotFoundError as error:
    raise errors.DataError(f'{error.filename}: missing') from error
  except errors.InputError:
    raise
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise errors.DataError(f'{folder / _ABOUT}: is damaged') from error


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
      f'model.name={model!r}: choose the same'
    )
  return found.fields


def merge(variables: dict, found: Weights, where: str) -> dict:
  """First variables with the arrays of a folder in their places.

  Args:
    variables: {'params', 'batch_stats'} of the whole network.
    found: the weights.
    where: the folder, for messages.

  Raises:
    errors.RunError: an array has no place, or another shape.
  """
  placed = set()

  def choose(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    array = found.arrays.get(name)
    if array is None:
      if name.split('/')[1] == 'trunk':
        raise errors.RunError(
          f'model.init_from={where!r}: holds none of {name}; leave '
          'model.depth at 1'
        )
      return leaf
    if array.shape != leaf.shape:
      raise errors.RunError(
        f'model.init_from={where!r}: {name} is {array.shape} there, '
        f'{leaf.shape} here; leave model.width at 1'
      )
    placed.add(name)
    return array

  merged = jax.tree_util.tree_map_with_path(choose, variables)
  lost = found.arrays.keys() - placed
  if lost:
    raise errors.RunError(
      f'model.init_from={where!r}: {len(lost)} arrays have no place here, as '
      f'{min(lost)}; leave model.depth at 1'
    )
  return merged


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


def _read(path: pathlib.Path) -> port.Stored:
  suffix = path.suffix.lower()
  if suffix == '.safetensors':
    return port.Stored(form='names', arrays=safetensors.read(path))
  if suffix in ('.pth', '.pt', '.bin', '.tar'):
    return port.Stored(form='names', arrays=torch_zip.read(path))
  if suffix not in ('.h5', '.hdf5', '.keras'):
    raise errors.DataError(
      f'{path}: files that end in .h5, .keras, .safetensors or .pth are read'
    )
  if importlib.util.find_spec('h5py') is None:
    raise errors.DataError(
      f'{path}: needs h5py, which is not installed: pip install '
      "'rsna_jax[weights]'"
    )
  # HDF5 is a library in C, and the file is from outside.
  with sandbox.Pool(keras_file.read, time_s=_READ_S) as pool:
    try:
      found = pool.call(os.fspath(path), name=str(path))
    except sandbox.SandboxError as error:
      if not error.about:
        raise errors.DataError(str(error)) from error
      raise errors.DataError(
        f'{path}: reading it was stopped ({error.about}): the file is damaged '
        'or hostile; fetch it again from a source you trust'
      ) from error
  return port.Stored(
    form=found['form'],
    arrays=found['arrays'],
    names=found['names'],
    epsilons=frozenset(found['epsilons']),
  )


def _shapes(model: str, width: float, depth: float) -> dict[str, tuple]:
  """Of all arrays of a network but those of its last layer."""
  network = models.MODELS[model](width=width, depth=depth)
  tree = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 128, 128, 1), jnp.float32),
    jax.ShapeDtypeStruct((1, 0), jnp.float32),
  )
  named = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  return {
    name: shape
    for name, shape in named.items()
    if not name.startswith('params/head/logits/')
  }


def _write(found: Weights, out: pathlib.Path) -> None:
  (out / _ABOUT).unlink(missing_ok=True)  # what makes the folder one, last
  safetensors.write(out / _ARRAYS, found.arrays)
  files.write_json(
    out / _ABOUT,
    {
      'model': found.model,
      'fields': dict(found.fields),
      'left': dict(found.left),
      'source': dict(found.source),
      'sha256': _sha256(out / _ARRAYS),
    },
  )


def _sha256(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
