"""Keras's weight files: legacy .h5, .weights.h5, and .keras, which holds one.

HDF5 can lead out of a file by links, external storage and virtual data sets:
all are refused. Nothing of a stored model description is built; it is read for
what would execute code, and for epsilon.
"""

import io
import json
import os
import zipfile
from typing import Any

import numpy as np

from rsna_jax import errors

_ARRAY_BYTES = 2**28
_CONFIG_BYTES = 2**24
_MEMBERS = 16  # of a .keras
_LINKS = 20_000
_CODE = ('Lambda', '__lambda__')


def read(path: str | os.PathLike) -> dict[str, Any]:
  """The fields of a `port.Stored`; to be called in a sandbox.

  Raises:
    errors.DataError: damaged, or something leads out of the file or would
      execute code.
  """
  try:
    with open(path, 'rb') as file:
      is_zip = file.read(4) == b'PK\3\4'
    if is_zip:
      source, config = _archive(path)
      return _hdf5(source, path, config)
    return _hdf5(path, path, None)
  except errors.DataError:
    raise
  except (
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
  ) as error:
    text = ' '.join(str(error).split())[:120]
    raise errors.DataError(
      f'{path}: damaged or no file of Keras ({text}); fetch it again'
    ) from error


def _archive(path) -> tuple[io.BytesIO, Any]:
  with zipfile.ZipFile(path) as archive:
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) > _MEMBERS or len(infos) != len(archive.infolist()):
      raise errors.DataError(f'{path}: no .keras file: it has other members')
    for name, limit in (
      ('config.json', _CONFIG_BYTES),
      ('model.weights.h5', 4 * _ARRAY_BYTES),
    ):
      if name not in infos or infos[name].file_size > limit:
        raise errors.DataError(f'{path}: {name} is missing or too large')
    config = archive.read('config.json')
    return io.BytesIO(archive.read('model.weights.h5')), config


def _hdf5(source, path, config) -> dict[str, Any]:
  import h5py

  with h5py.File(source, 'r') as file:
    _check_links(file, path)
    config = config or file.attrs.get('model_config')
    epsilons = [] if config is None else _epsilons(config, path)
    root = file.get('model_weights', file)
    if 'layer_names' in root.attrs or 'layer_names0' in root.attrs:
      form, names = 'layers', {}
      arrays = _by_layer(root, path)
    else:
      form = 'paths'
      arrays, names = _by_path(root)
    return {
      'form': form,
      'arrays': {key: _array(x, path) for key, x in arrays.items()},
      'names': names,
      'epsilons': epsilons,
    }


def _check_links(file, path) -> None:
  import h5py

  seen = 0

  def check(name, link):
    nonlocal seen
    seen += 1
    # A value ends the visit; HDF5 has no way to pass an exception on.
    if seen > _LINKS:
      return f'more than {_LINKS} objects'
    if not isinstance(link, h5py.HardLink):
      return f'{name[:80]} is a link that may lead out of the file'
    return None

  problem = file.visititems_links(check)
  if problem:
    raise errors.DataError(
      f'{path}: {problem}; fetch it again from a source you trust'
    )


def _array(dataset, path) -> np.ndarray:
  if dataset.is_virtual or dataset.external:
    raise errors.DataError(
      f'{path}: {dataset.name[:80]} has its values in another file; fetch it '
      'again from a source you trust'
    )
  if dataset.dtype.kind not in 'fiu' or dataset.dtype.itemsize > 8:
    raise errors.DataError(
      f'{path}: {dataset.name[:80]} is {dataset.dtype}, floats wanted'
    )
  if dataset.size * dataset.dtype.itemsize > _ARRAY_BYTES:
    raise errors.DataError(
      f'{path}: {dataset.name[:80]} has {dataset.size} values, too many'
    )
  return dataset[()]


def _by_layer(root, path) -> dict[str, Any]:
  """Data sets by layer and weight, in the order that the attributes tell."""
  arrays = {}
  layers = _names(root, 'layer_names')
  for layer in layers:
    group = root[layer]
    for weight in _names(group, 'weight_names'):
      key = f'{layer}/{weight.rpartition("/")[2]}'
      if key in arrays:
        raise errors.DataError(f'{path}: {key[:80]} stands in it twice')
      arrays[key] = _dataset(group, weight)
  listed = {x.name for x in arrays.values()}
  for layer in root:
    if layer in layers or layer == 'top_level_model_weights':
      _add_others(root[layer], layer, listed, arrays)
  return arrays


def _add_others(group, layer: str, listed, arrays) -> None:
  """Names what no attribute lists, to be refused as additional."""

  def visit(name, x):
    if hasattr(x, 'dtype') and x.name not in listed:
      arrays[f'{layer}/{name}'] = x

  group.visititems(visit)


def _by_path(root) -> tuple[dict[str, Any], dict[str, str]]:
  """Data sets by path, and the names of layers where the file tells them."""
  arrays, names = {}, {}

  def visit(name, x):
    if name.split('/')[0] == 'optimizer':
      return
    if hasattr(x, 'dtype'):
      arrays[name] = x
    elif name.endswith('/vars') and 'name' in x.attrs:
      names[name.removesuffix('/vars')] = _text(x.attrs['name'])

  root.visititems(visit)
  return arrays, names


def _dataset(group, name: str):
  found = group[name]
  if not hasattr(found, 'dtype'):
    raise KeyError(f'{name} is no array')
  return found


def _names(group, name: str) -> list[str]:
  """A list of names; Keras cuts long ones into numbered attributes."""
  if name in group.attrs:
    return [_text(x) for x in group.attrs[name]]
  found, i = [], 0
  while f'{name}{i}' in group.attrs:
    found += [_text(x) for x in group.attrs[f'{name}{i}']]
    i += 1
  if not i:
    raise KeyError(f'{group.name[:80]} has no {name}')
  return found


def _text(value: Any) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)


def _epsilons(config: str | bytes, path) -> list[float]:
  """Of every batch normalisation in a stored model description.

  Raises:
    errors.DataError: a part of the description would execute code.
  """
  try:
    todo, found = [json.loads(config)], set()
  except (ValueError, RecursionError) as error:
    raise errors.DataError(
      f'{path}: its model description is damaged'
    ) from error
  while todo:
    value = todo.pop()
    if isinstance(value, list):
      todo += value
    elif isinstance(value, dict):
      name = value.get('class_name')
      if name in _CODE:
        raise errors.DataError(
          f'{path}: its model has a Lambda layer, which is code; save the '
          'weights alone, as .weights.h5'
        )
      if name in ('BatchNormalization', 'LayerNormalization'):
        found.add(float(value.get('config', {}).get('epsilon', 1e-3)))
      todo += value.values()
  return sorted(found)
