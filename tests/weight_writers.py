"""Files of weights written byte by byte, so that each rule can be broken."""

import json
import os
import pathlib
import pickle
import zipfile

import numpy as np

_NAMES = {'f4': 'F32', 'i8': 'I64'}
_STORAGES = {'f4': 'FloatStorage', 'i8': 'LongStorage'}


def safetensors(path, arrays, change=None, header=None) -> None:
  """Args: change(header) is called before it is written."""
  entries, at = {}, 0
  for name, x in arrays.items():
    entries[name] = {
      'dtype': _NAMES[x.dtype.str[1:]],
      'shape': list(x.shape),
      'data_offsets': [at, at + x.nbytes],
    }
    at += x.nbytes
  if change:
    change(entries)
  text = json.dumps(entries).encode() if header is None else header
  body = b''.join(x.tobytes() for x in arrays.values())
  pathlib.Path(path).write_bytes(len(text).to_bytes(8, 'little') + text + body)


def text(value: str) -> bytes:
  data = value.encode()
  return b'X' + len(data).to_bytes(4, 'little') + data


def _number(value: int) -> bytes:
  return b'J' + value.to_bytes(4, 'little', signed=True)


def _numbers(values) -> bytes:
  return b'(' + b''.join(map(_number, values)) + b't'


def tensor(key: str, x: np.ndarray, shape=None, offset=0) -> bytes:
  """The opcodes of one tensor."""
  shape = x.shape if shape is None else shape
  strides = [s // x.itemsize for s in x.strides]
  storage = f'ctorch\n{_STORAGES[x.dtype.str[1:]]}\n'.encode()
  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n(('
    + text('storage')
    + storage
    + text(key)
    + text('cpu')
    + _number(x.size)
    + b'tQ'
    + _number(offset)
    + _numbers(shape)
    + _numbers(strides)
    + b'\x89ccollections\nOrderedDict\n)RtR'
  )


def torch_zip(
  path, arrays, *, pickled=None, compression=zipfile.ZIP_STORED, extra=()
) -> None:
  """Args: pickled: opcodes in place of the state dict's."""
  if pickled is None:
    pickled = b'\x80\x02ccollections\nOrderedDict\n)R('
    for i, (name, x) in enumerate(arrays.items()):
      pickled += text(name) + tensor(str(i), x)
    pickled += b'u.'
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', pickled)
    archive.writestr('archive/byteorder', 'little')
    for i, x in enumerate(arrays.values()):
      archive.writestr(f'archive/data/{i}', x.tobytes())
    archive.writestr('archive/version', '3\n')
    for name, data in extra:
      archive.writestr(name, data)


def pickle_that_makes(path) -> bytes:
  """Executed, it makes a folder."""

  class Make:
    def __reduce__(self):
      return os.mkdir, (str(path),)

  return pickle.dumps(Make(), protocol=2)
