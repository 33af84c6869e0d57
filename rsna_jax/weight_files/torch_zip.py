"""PyTorch's zip format, read without PyTorch and without executing pickles.

Its index is a pickle. It is run here by an interpreter of a few opcodes that
calls nothing: names in it stand for tensors, or the file is refused.
"""

import collections
import math
import os
import pickletools
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from rsna_jax import errors

_INDEX_BYTES = 2**24
_BYTES = 2**32  # of all storages
_STORAGES = {
  'DoubleStorage': np.dtype('<f8'),
  'FloatStorage': np.dtype('<f4'),
  'HalfStorage': np.dtype('<f2'),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ShortStorage': np.dtype('<i2'),
  'CharStorage': np.dtype('i1'),
  'ByteStorage': np.dtype('u1'),
  'BoolStorage': np.dtype('bool'),
}
_STATES = (  # where checkpoints of training keep the weights
  'state_dict_ema',
  'model_ema',
  'state_dict',
  'model_state_dict',
  'model',
)
_VALUES = (
  'BININT',
  'BININT1',
  'BININT2',
  'LONG1',
  'BINFLOAT',
  'BINUNICODE',
  'SHORT_BINUNICODE',
  'BINUNICODE8',
  'BINBYTES',
  'SHORT_BINBYTES',
)
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


class _Name(str):
  """A name of the pickle that stands for something."""


class _Inert:
  """A value that is of no use here, such as a program's arguments."""


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The tensors of a state dict, or of a checkpoint that holds one.

  Raises:
    errors.DataError: not PyTorch's zip format, damaged, or its pickle asks for
      anything but tensors.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      return _state(_Index(archive, path).load(), path)
  except zipfile.BadZipFile as error:
    raise errors.DataError(
      f'{path}: not a zip file: a bare pickle, as PyTorch wrote before 1.6, is '
      'not read; take the .safetensors, or save it again with a newer PyTorch'
    ) from error


def _state(found: Any, path) -> dict[str, np.ndarray]:
  while isinstance(found, dict):
    inner = [found.get(name) for name in _STATES]
    inner = [one for one in inner if isinstance(one, dict) and one]
    if not inner:
      break
    found = inner[0]
  if not isinstance(found, dict) or not all(
    isinstance(key, str) for key in found
  ):
    raise errors.DataError(f'{path}: holds no state dict')
  arrays = {k: x for k, x in found.items() if isinstance(x, np.ndarray)}
  if not arrays:
    raise errors.DataError(f'{path}: holds no tensors')
  return arrays


class _Index:
  """The interpreter of one archive's pickle."""

  def __init__(self, archive: zipfile.ZipFile, path):
    self._archive, self._path = archive, path
    infos = {info.filename: info for info in archive.infolist()}
    indices = [name for name in infos if name.endswith('/data.pkl')]
    if len(indices) != 1 or len(infos) != len(archive.infolist()):
      raise self._refuse('not one state dict of PyTorch')
    stored = all(
      info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
      for info in infos.values()
    )
    whole = sum(info.file_size for info in infos.values())
    if not stored or whole > _BYTES:
      raise self._refuse('a zip file of another kind than PyTorch writes')
    self._infos, self._room = infos, indices[0].removesuffix('data.pkl')
    order = (
      self._read('byteorder') if f'{self._room}byteorder' in infos else b''
    )
    if order not in (b'', b'little'):
      raise self._refuse('its numbers are big-endian')
    self._storages: dict[str, np.ndarray] = {}

  def load(self) -> Any:
    data = self._read('data.pkl', _INDEX_BYTES)
    try:
      return self._run(data)
    except (
      IndexError,
      KeyError,
      TypeError,
      ValueError,
      AttributeError,
    ) as error:
      if isinstance(error, errors.DataError):
        raise
      raise self._refuse('its pickle is damaged') from error

  def _run(self, data: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
      at = marks.pop()
      items = stack[at:]
      del stack[at:]
      return items

    def set_items(items) -> None:
      if isinstance(stack[-1], dict):
        stack[-1].update(zip(items[::2], items[1::2], strict=True))

    for opcode, argument, _ in pickletools.genops(data):
      name = opcode.name
      if name in _VALUES:
        stack.append(argument)
      elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
      elif name in _TUPLES:
        count = _TUPLES[name]
        stack[-count:] = [tuple(stack[-count:])]
      elif name in ('BINPUT', 'LONG_BINPUT'):
        memo[argument] = stack[-1]
      elif name == 'MEMOIZE':
        memo[len(memo)] = stack[-1]
      elif name in ('BINGET', 'LONG_BINGET'):
        stack.append(memo[argument])
      elif name == 'MARK':
        marks.append(len(stack))
      elif name == 'TUPLE':
        stack.append(tuple(since_mark()))
      elif name == 'EMPTY_TUPLE':
        stack.append(())
      elif name == 'EMPTY_LIST':
        stack.append([])
      elif name == 'EMPTY_DICT':
        stack.append({})
      elif name == 'APPEND':
        value = stack.pop()
        stack[-1].append(value)
      elif name == 'APPENDS':
        items = since_mark()
        stack[-1].extend(items)
      elif name == 'SETITEM':
        value, key = stack.pop(), stack.pop()
        set_items([key, value])
      elif name == 'SETITEMS':
        set_items(since_mark())
      elif name == 'GLOBAL':
        stack.append(_Name(argument.replace(' ', '.')))
      elif name == 'STACK_GLOBAL':
        last, module = stack.pop(), stack.pop()
        stack.append(_Name(f'{module}.{last}'))
      elif name in ('REDUCE', 'NEWOBJ'):
        arguments, function = stack.pop(), stack.pop()
        stack.append(self._made(function, arguments))
      elif name == 'BUILD':
        stack.pop()  # the state of an OrderedDict or of arguments
      elif name == 'BINPERSID':
        stack.append(self._storage(stack.pop()))
      elif name == 'STOP':
        return stack.pop()
      elif name not in ('PROTO', 'FRAME'):
        raise self._refuse(f'its pickle has the opcode {name}')
    raise ValueError('no STOP')

  def _made(self, function: Any, arguments: tuple) -> Any:
    """What a call in the pickle stands for."""
    if function == 'collections.OrderedDict' and not arguments:
      return collections.OrderedDict()
    if function == 'argparse.Namespace':
      return _Inert()
    if function == 'torch._utils._rebuild_tensor_v2':
      return self._tensor(*arguments[:4])
    if function == 'torch._utils._rebuild_parameter':
      return arguments[0]
    what = function if isinstance(function, _Name) else type(function).__name__
    raise self._refuse(f'its pickle calls {what[:80]}')

  def _storage(self, place: Any) -> np.ndarray:
    kind, storage, key, _, count = place
    module, _, name = storage.rpartition('.')
    if kind != 'storage' or module != 'torch' or name not in _STORAGES:
      raise self._refuse(f'its pickle has the storage {str(storage)[:80]}')
    if key not in self._storages:
      data = self._read(f'data/{key}')
      self._storages[key] = np.frombuffer(data, _STORAGES[name])
    found = self._storages[key]
    if found.dtype != _STORAGES[name] or found.size != count:
      raise self._refuse(f'storage {str(key)[:80]} has not its {count} values')
    return found

  def _tensor(self, storage, offset, shape, strides) -> np.ndarray:
    numbers = (offset, *shape, *strides)
    last = offset + sum(
      (n - 1) * s for n, s in zip(shape, strides, strict=True)
    )
    if (
      not isinstance(storage, np.ndarray)
      or len(shape) > 8
      or any(type(n) is not int or n < 0 for n in numbers)
      or math.prod(shape) > storage.size
      or (math.prod(shape) > 0 and last >= storage.size)
    ):
      raise self._refuse('a tensor reaches beyond its storage')
    return np.lib.stride_tricks.as_strided(
      storage[offset:],
      shape,
      tuple(s * storage.itemsize for s in strides),
      writeable=False,
    )

  def _read(self, name: str, limit: int = _BYTES) -> bytes:
    info = self._infos.get(f'{self._room}{name}')
    if info is None or info.file_size > limit:
      raise self._refuse(f'{name[:80]} is missing or too large')
    return self._archive.read(info)

  def _refuse(self, what: str) -> errors.DataError:
    return errors.DataError(
      f'{self._path}: {what}; take a .safetensors file, or save the state dict '
      'alone'
    )
