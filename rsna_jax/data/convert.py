"""Turns a folder of mammograms into a TFDS data set of standard images.

Child processes decode, since the files are not to be trusted; `data/build.py`
writes what they return.
"""

import collections
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rsna_jax import errors
from rsna_jax.data import build, image, layout, preprocess, sandbox


def standard_example(item: tuple[str, dict]) -> dict[str, Any]:
  """Features of one image file; runs in a child process.

  Args:
    item: path, and `preprocess.Spec.to_json()`.

  Returns:
    `image` (PNG), `box`, `original_shape`, `flipped`, `inverted`,
    `to_original`, as `data/features.py` describes them.
  """
  path, spec = item
  found = preprocess.standardise(
    image.read(path), preprocess.Spec.from_json(spec)
  )
  return {
    'image': preprocess.encode_png(found.pixels),
    'box': np.asarray(found.box, np.float32),
    'original_shape': np.asarray(found.original_shape, np.int32),
    'flipped': bool(found.flipped),
    'inverted': bool(found.inverted),
    'to_original': np.asarray(found.to_original, np.float64),
  }


def examples(
  rows: Iterable[tuple[dict[str, Any], str]],
  spec: preprocess.Spec,
  pool: sandbox.Pool,
) -> Iterator[dict[str, Any] | sandbox.SandboxError]:
  """Yields the example of each row in order, or what is wrong with its file.

  Args:
    rows: (columns, path of the image) of each.
    spec: of the images.
    pool: of `standard_example`.
  """
  value = spec.to_json()
  waiting: collections.deque[dict[str, Any]] = collections.deque()

  def items() -> Iterator[tuple[str, dict]]:
    for columns, path in rows:
      waiting.append(columns)
      yield path, value

  for _, answer in pool.map(items(), name=lambda item: item[0]):
    columns = waiting.popleft()
    yield {**columns, **answer} if isinstance(answer, dict) else answer


def prepare(
  src: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  spec: preprocess.Spec | None = None,
  train_csv: str | os.PathLike | None = None,
  workers: int | None = None,
  bad_files: str = 'stop',
  time_s: float = sandbox.TIME_S,
  memory_bytes: int = sandbox.MEMORY_BYTES,
) -> pathlib.Path:
  """Builds a data set, or finishes one that was interrupted.

  Args:
    src: RSNA's layout, or folders Density1Benign ...; see `data/layout.py`.
    data_dir: where `<data set>/<spec>/<version>/` goes.
    spec: of the images.
    train_csv: the CSV to take in place of `src`/train.csv.
    workers: child processes; None: one for each CPU.
    bad_files: 'stop' at the first bad row or file, or 'skip' it and list it in
      skipped.csv.
    time_s: wall time that an image may take.
    memory_bytes: address space that a child may take.

  Returns:
    The folder of the data set.

  Raises:
    errors.DataError: bad input, which the message names, and how to mend it.
    OSError: the disk is full or cannot be written; finished shards stay.
  """
  if bad_files not in ('stop', 'skip'):
    raise errors.DataError(f'bad_files={bad_files!r}: choose stop or skip')
  spec = spec or preprocess.Spec()
  skip = bad_files == 'skip'
  found = layout.find(src, train_csv=train_csv, skip=skip)
  if found.unnamed:
    print(f'{src}: {found.unnamed} images that no row of a table names')
  pool = sandbox.Pool(
    standard_example,
    workers or os.cpu_count() or 1,
    time_s=time_s,
    memory_bytes=memory_bytes,
  )
  with pool:
    return build.build(
      found,
      pathlib.Path(data_dir),
      spec,
      lambda rows: examples(rows, spec, pool),
      skip=skip,
    )
