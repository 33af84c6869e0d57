"""Files in safetensors' format: a JSON header, then arrays end to end."""

import json
import math
import os
import pathlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from rsna_jax import errors, files

_HEADER_BYTES = 2**23
_TYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
  'I16': np.dtype('<i2'),
  'I8': np.dtype('i1'),
  'U8': np.dtype('u1'),
  'BOOL': np.dtype('bool'),
}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """All arrays of a file, in the order of their bytes.

  Raises:
    errors.DataError: the file is cut short, its header is no header, or the
      arrays do not lie end to end.
  """
  size = os.path.getsize(path)
  with open(path, 'rb') as file:
    header_bytes = int.from_bytes(file.read(8), 'little')
    if size < 8 or header_bytes > min(size - 8, _HEADER_BYTES):
      raise errors.DataError(
        f'{path}: a header of {header_bytes} bytes in a file of {size}: not a '
        'safetensors file, or cut short; fetch it again'
      )
    header = _header(file.read(header_bytes), path)
    body = file.read()
  places = []
  for name, entry in header.items():
    if name == '__metadata__':
      continue
    places.append((*_place(name, entry, path), name))
  found, at = {}, 0
  for begin, end, dtype, shape, name in sorted(places, key=lambda x: x[:2]):
    if begin != at:
      raise errors.DataError(
        f'{path}: {name} begins at byte {begin}, {at} expected: arrays overlap '
        'or leave a gap'
      )
    if end > len(body):
      raise errors.DataError(
        f'{path}: {name} ends at byte {end} of {len(body)}: the file is cut '
        'short; fetch it again'
      )
    found[name] = np.frombuffer(body[begin:end], dtype).reshape(shape)
    at = end
  if at != len(body):
    raise errors.DataError(f'{path}: {len(body) - at} bytes belong to no array')
  return found


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays of float32, at once as `files.write_bytes` does."""
  header, at = {}, 0
  blocks = []
  for name, x in arrays.items():
    data = np.ascontiguousarray(x, '<f4').tobytes()
    header[name] = {
      'dtype': 'F32',
      'shape': list(x.shape),
      'data_offsets': [at, at + len(data)],
    }
    blocks.append(data)
    at += len(data)
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  files.write_bytes(
    pathlib.Path(path),
    b''.join([len(text).to_bytes(8, 'little'), text, *blocks]),
  )


def _header(text: bytes, path) -> dict:
  def unique(pairs):
    made = dict(pairs)
    if len(made) != len(pairs):
      raise ValueError('a name stands in it twice')
    return made

  try:
    header = json.loads(text.decode(), object_pairs_hook=unique)
  except (ValueError, RecursionError) as error:
    raise errors.DataError(f'{path}: its header is damaged: {error}') from error
  if not isinstance(header, dict):
    raise errors.DataError(f'{path}: its header is no table of arrays')
  return header


def _place(name: str, entry, path) -> tuple:
  """(first byte, last + 1, dtype, shape) of an entry of the header."""
  try:
    dtype = _TYPES[entry['dtype']]
    shape, (begin, end) = tuple(entry['shape']), entry['data_offsets']
    whole = (*shape, begin, end)
    ok = (
      len(shape) <= 8
      and all(type(n) is int and n >= 0 for n in whole)
      and begin + math.prod(shape) * dtype.itemsize == end
    )
  except (KeyError, TypeError, ValueError):
    ok = False
  if not ok:
    raise errors.DataError(
      f'{path}: the header of {name[:80]} is wrong: its type, shape and bytes '
      'do not agree'
    )
  return begin, end, dtype, shape
