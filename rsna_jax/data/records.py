"""Files of records: array_record shards of tf.train.Example messages.

Written under a temporary name and renamed, read at random, and parsed without
TensorFlow or TFDS: an Example is a few nested length-prefixed fields
(tensorflow/core/example/example.proto).
"""

import bisect
import errno
import hashlib
import itertools
import os
import pathlib
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module

from rsna_jax import schema

# What TFDS writes: every record can be read by itself.
_WRITE_OPTIONS = 'group_size:1'
# What array_record's documentation recommends for random access.
_READ_OPTIONS = 'readahead_buffer_size:0,max_parallelism:0'
_CODES = (
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EFBIG,
  errno.EACCES,
  errno.EROFS,
  errno.ENOENT,
)


class ShardWriter:
  """Writes one shard: complete under its name, or not there at all.

  Raises:
    OSError: with the path, where the disk is full or cannot be written.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = pathlib.Path(path)
    self._temporary = self._path.with_name(f'.{self._path.name}.tmp')
    self._writer = None
    self.count = 0

  def __enter__(self) -> 'ShardWriter':
    with _named_errors(self._path):
      self._writer = array_record_module.ArrayRecordWriter(
        str(self._temporary), _WRITE_OPTIONS
      )
    return self

  def write(self, record: bytes) -> None:
    with _named_errors(self._path):
      self._writer.write(record)
    self.count += 1

  def __exit__(self, kind, *exc_info) -> None:
    try:
      with _named_errors(self._path):
        self._writer.close()
        if kind is None:
          descriptor = os.open(self._temporary, os.O_RDONLY)
          try:
            os.fsync(descriptor)
          finally:
            os.close(descriptor)
          os.replace(self._temporary, self._path)
    except OSError:
      # The error that ended the writing says more than the one of closing.
      if kind is None:
        raise
    finally:
      self._temporary.unlink(missing_ok=True)


class _named_errors:  # noqa: N801
  """Turns array_record's RuntimeError into an OSError with a path."""

  def __init__(self, path: pathlib.Path):
    self._path = path

  def __enter__(self) -> None:
    return None

  def __exit__(self, kind, error, traceback) -> None:
    if isinstance(error, RuntimeError):
      text = str(error)
      for code in _CODES:
        if os.strerror(code) in text:
          raise OSError(code, os.strerror(code), str(self._path)) from None
      raise OSError(errno.EIO, text, str(self._path)) from None


class Shards:
  """Records of several shards by their running number, from any thread."""

  def __init__(self, paths: Sequence[str], lengths: Sequence[int]):
    """Opens nothing yet.

    Args:
      paths: of the shards.
      lengths: number of records of each.

    Raises:
      OSError: a shard is not there.
    """
    self._paths = list(paths)
    self._found = [_identity(path) for path in self._paths]
    self._starts = [0, *itertools.accumulate(lengths)]
    self._readers: dict[int, Any] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return self._starts[-1]

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """Records in the order asked for.

    Raises:
      IndexError: no such record.
      OSError: a shard cannot be read.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for position, index in enumerate(indices):
      index = int(index)
      if not 0 <= index < len(self):
        raise IndexError(f'record {index}: there are {len(self)}')
      shard = bisect.bisect_right(self._starts, index) - 1
      places.setdefault(shard, []).append(
        (position, index - self._starts[shard])
      )
    found: list[bytes] = [b''] * len(indices)
    for shard, wanted in places.items():
      with _named_errors(pathlib.Path(self._paths[shard])):
        records = self._reader(shard).read([inside for _, inside in wanted])
      for (position, _), record in zip(wanted, records, strict=True):
        found[position] = record
    return found

  def part(self, start: int, stop: int) -> 'Part':
    """The records from `start` on and before `stop`."""
    return Part(self, start, stop)

  def _reader(self, shard: int) -> Any:
    with self._lock:
      if shard not in self._readers:
        if _identity(self._paths[shard]) != self._found[shard]:
          raise OSError(errno.ESTALE, 'prepared anew since', self._paths[shard])
        self._readers[shard] = array_record_module.ArrayRecordReader(
          self._paths[shard], _READ_OPTIONS
        )
      return self._readers[shard]


def _identity(path: str) -> tuple[int, int, int]:
  found = os.stat(path)
  return found.st_dev, found.st_ino, found.st_size


class Part:
  """A range of the records of `Shards`, numbered from 0."""

  def __init__(self, shards: Shards, start: int, stop: int):
    self._shards = shards
    self._start = start
    self._stop = stop

  def __len__(self) -> int:
    return self._stop - self._start

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """As `Shards.read`."""
    indices = np.asarray(indices, np.int64)
    if ((indices < 0) | (indices >= len(self))).any():
      raise IndexError(f'records {indices}: there are {len(self)}')
    return self._shards.read(indices + self._start)


def digest(columns: Mapping[str, Any], png: bytes) -> str:
  """What a record holds, as 32 hexadecimal digits.

  Not of its bytes: protobuf writes the features in any order.

  Args:
    columns: value of each of `schema.COLUMNS`.
    png: the encoded image.
  """
  values = [columns[name] for name in schema.COLUMNS]
  return hashlib.sha256(repr(values).encode() + png).hexdigest()[:32]


def fingerprint(digests: Iterable[str]) -> str:
  """Of a whole data set, from the digests of its records in order."""
  found = hashlib.sha256()
  for i, one in enumerate(digests):
    found.update(f'\n{one}'.encode() if i else one.encode())
  return found.hexdigest()


def parse_example(record: bytes) -> dict[str, list]:
  """Feature name -> list of its bytes, floats or ints.

  Raises:
    ValueError: not an Example.
  """
  return {name: _values(record, *span) for name, span in _features(record)}


def parse_bytes(record: bytes, name: str) -> bytes:
  """The first value of one feature of bytes; the others are passed over.

  Raises:
    ValueError: not an Example, or no such feature.
  """
  for found, span in _features(record):
    if found == name:
      return _values(record, *span)[0]
  raise ValueError(f'a record has no {name}')


def _features(record: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
  """Name of each feature and where its message stands."""
  for _, start, end in _fields(record, 0, len(record)):  # Example.features
    for _, entry, entry_end in _fields(record, start, end):  # a map entry
      name, span = '', (0, 0)
      for field, a, b in _fields(record, entry, entry_end):
        if field == 1:
          name = record[a:b].decode()
        else:
          span = (a, b)
      yield name, span


def _values(record: bytes, start: int, end: int) -> list:
  values: list = []
  for kind, a, b in _fields(record, start, end):  # one of the three lists
    for _, c, d in _fields(record, a, b):
      if kind == 1:
        values.append(record[c:d])
      elif kind == 2:
        values.extend(struct.unpack(f'<{(d - c) // 4}f', record[c:d]))
      else:
        while c < d:
          value, c = _varint(record, c)
          values.append(value - (1 << 64) if value >> 63 else value)
  return values


def _fields(
  data: bytes, place: int, end: int
) -> Iterator[tuple[int, int, int]]:
  """Number and span of the fields between two places.

  Numbers that are not packed come as a span of one number.
  """
  while place < end:
    key, start = data[place], place + 1
    if key >= 0x80:
      key, start = _varint(data, place)
    kind = key & 7
    if kind == 2:
      length, start = _varint(data, start)
      place = start + length
    elif kind == 0:
      _, place = _varint(data, start)
    elif kind == 5:
      place = start + 4
    else:
      raise ValueError(f'field of kind {kind} in an Example')
    if place > end:
      raise ValueError('an Example ends early')
    yield key >> 3, start, place


def _varint(data: bytes, place: int) -> tuple[int, int]:
  try:
    value = data[place]
    place += 1
    if value < 0x80:
      return value, place
    value &= 0x7F
    for shift in range(7, 70, 7):
      byte = data[place]
      place += 1
      value |= (byte & 0x7F) << shift
      if byte < 0x80:
        return value, place
  except IndexError as error:
    raise ValueError('an Example ends early') from error
  raise ValueError('a number in an Example does not end')
