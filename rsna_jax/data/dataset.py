"""Opens a prepared data set: its table, and its encoded images by row number.

Reads what `rsna-jax prepare` wrote and what TFDS's own `download_and_prepare`
wrote with the builders beside this file; needs neither TFDS nor TensorFlow.
"""

import dataclasses
import errno
import json
import os
import pathlib
import resource
from collections.abc import Sequence

import numpy as np

from rsna_jax import errors
from rsna_jax.data import preprocess, records, rows
from rsna_jax.data import table as table_lib

VERSION = '1.0.0'
# Beside one for each shard, what a process may have open.
_OTHER_FILES = 768
SPLITS = ('train', 'test')
# What a mount says that is not there, rather than a file that is damaged.
_GONE = (
  errno.ENOENT,
  errno.EACCES,
  errno.ENODEV,
  errno.ENXIO,
  errno.ENOTCONN,
  errno.ETIMEDOUT,
  errno.EHOSTDOWN,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Rows, and their images.

  Attributes:
    table: the rows of the official splits, train before test.
    split: (N,) 'train' or 'test' for each row.
    spec: of the images; None without images.
    fingerprint: of all that the rows and the images hold.
    name: folder or file, for messages.
  """

  table: table_lib.Table
  split: np.ndarray
  spec: preprocess.Spec | None
  fingerprint: str
  name: str
  _shards: records.Shards | records.Part | None = None

  def __len__(self) -> int:
    return len(self.table)

  @property
  def has_images(self) -> bool:
    """Whether `read` can be called."""
    return self._shards is not None

  def read(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
    """The encoded images (PNG) of rows, in the order asked for.

    Safe from several threads.

    Raises:
      errors.DataError: no images, or a damaged file.
      IndexError: no such row.
    """
    if self._shards is None:
      raise errors.DataError(f'{self.name}: a table without images')
    try:
      found = self._shards.read(indices)
      return [records.parse_bytes(record, 'image') for record in found]
    except (OSError, ValueError) as error:
      if getattr(error, 'errno', None) == errno.ESTALE:
        raise errors.DataError(
          f'{self.name}: was prepared anew while it was read: start again'
        ) from error
      if getattr(error, 'errno', None) in _GONE:
        raise errors.DataError(
          f'{self.name}: {error}: is the disk or mount still there? mend it, '
          'and run the same command'
        ) from error
      raise errors.DataError(
        f'{self.name}: {error}: the data set is damaged; delete the folder '
        'and run rsna-jax prepare again'
      ) from error


def open_dataset(config, which: str = 'all') -> Dataset:
  """The data set that a config names.

  Args:
    config: its `data.name`, `data.dir`, `data.size`, `data.bits` and
      `data.window` count.
    which: 'train', 'test', or 'all': the official splits that are there.

  Raises:
    errors.DataError: not prepared, not finished, damaged, or no such split.
  """
  c = config.data
  if which not in ('all', *SPLITS):
    raise errors.DataError(f'split {which!r}: choose all, train or test')
  if c.name == 'csv':
    found = _open_csv(pathlib.Path(c.dir))
  else:
    spec = preprocess.Spec(
      size=tuple(c.size),
      bits=c.bits,
      window=c.window,
      quality=c.quality,
      for_processing=c.for_processing,
    )
    found = open_folder(_folder(pathlib.Path(c.dir), c.name, spec))
  if which == 'all':
    return found
  # The splits follow each other, so that the rows of one are a range.
  kept = np.flatnonzero(found.split == which)
  if not len(kept):
    raise errors.DataError(f'{found.name}: has no split {which!r}')
  shards = found._shards
  return dataclasses.replace(
    found,
    table=found.table.take(kept),
    split=found.split[kept],
    _shards=shards and shards.part(int(kept[0]), int(kept[-1]) + 1),
  )


def open_folder(folder: str | os.PathLike) -> Dataset:
  """The data set in `<data dir>/<name>/<spec>/<version>`.

  Raises:
    errors.DataError: not a finished data set, or a damaged one.
  """
  folder = pathlib.Path(folder)
  spec = preprocess.Spec.from_json(_spec_json(folder))
  try:
    info = json.loads((folder / 'dataset_info.json').read_text('utf-8'))
    lengths = {
      split['name']: list(map(int, split['shardLengths']))
      for split in info['splits']
    }
    names = [name for name in SPLITS if lengths.get(name)]
    paths = [
      folder / f'{info["name"]}-{name}.{info["fileFormat"]}-{i:05d}-of-{n:05d}'
      for name in names
      for n in [len(lengths[name])]
      for i in range(n)
    ]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.DataError(
      f'{folder}/dataset_info.json: {error}: run the same rsna-jax prepare '
      'again'
    ) from error
  if info['fileFormat'] != 'array_record':
    raise errors.DataError(
      f'{folder}: its files are {info["fileFormat"]}: prepare it with '
      "file_format='array_record'"
    )
  for path in paths:
    if not path.is_file():
      raise errors.DataError(
        f'{path}: missing; run the same rsna-jax prepare again'
      )
  _allow_files(len(paths) + _OTHER_FILES)
  counts = {name: sum(lengths[name]) for name in names}
  shards = records.Shards(
    [str(path) for path in paths],
    [n for name in names for n in lengths[name]],
  )
  tables, fingerprint = rows.read(folder, info['name'], shards, counts)
  return Dataset(
    table=table_lib.concatenate(tables),
    split=np.repeat(names, [counts[name] for name in names]),
    spec=spec,
    fingerprint=fingerprint,
    name=str(folder),
    _shards=shards,
  )


def _folder(
  data_dir: pathlib.Path, name: str, spec: preprocess.Spec
) -> pathlib.Path:
  """The folder of a finished data set, or an error that says what to do."""
  folder = data_dir / name / spec.name() / VERSION
  if (folder / 'dataset_info.json').is_file():
    return folder
  command = (
    f'rsna-jax prepare SRC --data-dir {data_dir} '
    f'--size {spec.size[0]}x{spec.size[1]}'
  )
  if spec.bits != 8:
    command += f' --bits {spec.bits}'
  if spec.window != 'full':
    command += f' --window {spec.window}'
  if folder.is_dir() or folder.with_name(f'{VERSION}.unfinished').is_dir():
    raise errors.DataError(
      f'{folder}: not finished: run the same rsna-jax prepare again ({command})'
    )
  others = sorted(
    path.parents[1].name
    for path in (data_dir / name).glob(f'*/{VERSION}/dataset_info.json')
  )
  there = f'{", ".join(others)} are there; ' if others else ''
  raise errors.DataError(
    f'{data_dir}: no {name} at {spec.name()}; {there}run {command}'
    + (', or choose data.size, data.bits and data.window' if others else '')
  )


def _allow_files(count: int) -> None:
  """Raises the number of files that may be open, as far as that is allowed."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft != resource.RLIM_INFINITY and soft < count:
    if hard != resource.RLIM_INFINITY:
      count = min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, soft), hard))


def _spec_json(folder: pathlib.Path) -> dict:
  """The spec: as `prepare` wrote it, or in the name that TFDS gave."""
  path = folder / 'preprocess.json'
  if path.is_file():
    try:
      return json.loads(path.read_text('utf-8'))
    except ValueError as error:
      raise errors.DataError(
        f'{path}: {error}: run the same rsna-jax prepare again'
      ) from error
  value = {}
  for part in folder.parent.name.split('_'):
    if part[:1].isdigit() and 'x' in part:
      value['size'] = tuple(map(int, part.split('x')))
    elif part.endswith('bit'):
      value['bits'] = int(part.removesuffix('bit'))
    elif part == 'processing':
      value['for_processing'] = 'accept'
    elif part in ('fine', 'exact'):
      value['quality'] = part
    else:
      value['window'] = part
  return value


def _open_csv(path: pathlib.Path) -> Dataset:
  """A table without images: a CSV, or a folder of train.csv and test.csv."""
  if path.is_file():
    paths = {'train': path}
  else:
    paths = {name: path / f'{name}.csv' for name in SPLITS}
    paths = {name: file for name, file in paths.items() if file.is_file()}
  if not paths:
    raise errors.DataError(
      f'{path}: no train.csv and no test.csv; set data.dir to a folder that '
      'holds one, or to a CSV'
    )
  tables = {
    name: table_lib.read_csv(file, kind=name) for name, file in paths.items()
  }
  table = table_lib.concatenate(list(tables.values()))
  return Dataset(
    table=table,
    split=np.repeat(list(tables), [len(part) for part in tables.values()]),
    spec=None,
    fingerprint=records.fingerprint(
      records.digest(row, b'') for row in table.rows()
    ),
    name=str(path),
  )
