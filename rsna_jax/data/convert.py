"""Turns a folder of mammograms into a TFDS data set of standard images.

Child processes decode, since the files are not to be trusted; `data/build.py`
plans the shards, and `data/store.py` writes what the children return.
"""

import collections
import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rsna_jax import errors
from rsna_jax.data import (
  build,
  image,
  layout,
  preprocess,
  progress,
  sandbox,
  sources,
  store,
  survey,
)


def standard_example(item: tuple[str, dict, bytes | None]) -> dict[str, Any]:
  """What a data set keeps of one image file; runs in a child process.

  Args:
    item: path, `preprocess.Spec.to_json()`, and the content of the file where
      this process cannot read it.

  Returns:
    `example`, with `image` (PNG), `box`, `original_shape`, `flipped`,
    `inverted` and `to_original`, as `data/features.py` describes them;
    `source`, with `bytes` and `sha256` of the file; `facts` of `survey`.

  Raises:
    errors.InputError: the file is not there, or is no usable mammogram.
  """
  path, spec, data = item
  if data is None:
    data = sources.read(path)
  mammogram = image.open_mammogram(data, name=path)
  found = preprocess.standardise(mammogram, preprocess.Spec.from_json(spec))
  return {
    'example': {
      'image': preprocess.encode_png(found.pixels),
      'box': np.asarray(found.box, np.float32),
      'original_shape': np.asarray(found.original_shape, np.int32),
      'flipped': bool(found.flipped),
      'inverted': bool(found.inverted),
      'to_original': np.asarray(found.to_original, np.float64),
    },
    'source': {
      'bytes': len(data),
      'sha256': hashlib.sha256(data).hexdigest(),
    },
    'facts': survey.describe(mammogram, found, beside=False),
  }


def examples(
  rows: Iterable[tuple[dict[str, Any], str]],
  spec: preprocess.Spec,
  pool: sandbox.Pool,
) -> Iterator[store.Made | errors.InputError]:
  """Yields the example of each row in order, or what is wrong with its file.

  Args:
    rows: (columns, path of the image) of each.
    spec: of the images.
    pool: of `standard_example`.
  """
  value = spec.to_json()
  waiting: collections.deque[dict[str, Any]] = collections.deque()

  def items() -> Iterator[tuple[str, dict, bytes | None]]:
    for columns, path in rows:
      waiting.append(columns)
      private = sources.is_private(path)
      yield path, value, sources.read(path) if private else None

  for _, answer in pool.map(items(), name=lambda item: item[0]):
    columns = waiting.popleft()
    if isinstance(answer, dict):
      example = {**columns, **answer['example']}
      yield store.Made(example, answer['source'], answer['facts'])
    else:
      yield answer


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
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
) -> pathlib.Path:
  """Builds a data set, or finishes one that was interrupted.

  Args:
    src: RSNA's layout, or folders Density1Benign ...; see `data/layout.py`. A
      folder, the competition's zip, or a URL; see `data/sources.py`.
    data_dir: where `<data set>/<spec>/<version>/` goes.
    spec: of the images.
    train_csv: the CSV to take in place of `src`/train.csv.
    workers: child processes; None: one for each CPU, and under Beam one for
      each of its worker processes.
    bad_files: 'stop' at the first bad row or file, or 'skip' it and list it in
      skipped.csv.
    time_s: wall time that an image may take.
    memory_bytes: address space that a child may take.
    beam_runner: of Apache Beam, which then does the work; `data/beam.py`.
    beam_options: of that runner, as on its own command line.

  Returns:
    The folder of the data set.

  Raises:
    errors.DataError: bad input, which the message names, and how to mend it.
    OSError: the disk is full or cannot be written; finished shards stay.
  """
  if bad_files not in ('stop', 'skip'):
    raise errors.DataError(f'bad_files={bad_files!r}: choose stop or skip')
  if '://' in os.fspath(data_dir):
    raise errors.DataError(
      f'{data_dir}: a data set is written to a folder; mount the bucket, or '
      'copy the finished data set there'
    )
  spec = spec or preprocess.Spec()
  skip = bad_files == 'skip'
  if beam_runner is None and beam_options:
    raise errors.ConfigError('beam options need a beam runner')
  if beam_runner is not None:
    from rsna_jax.data import beam

    # Before anything is read: a wrong option is cheap to answer.
    runner = beam.Runner(beam_runner, beam_options)
    if sources.is_private(os.fspath(src)):
      raise errors.ConfigError(
        f'{src}: no Beam worker can read it: give a folder or another URL'
      )
    src = src if '://' in os.fspath(src) else os.path.abspath(src)
  with sources.patience(os.fspath(src)):
    found = layout.find(src, train_csv=train_csv, skip=skip)
  if found.unnamed:
    print(f'{src}: {found.unnamed} images that no row of a table names')
  data_dir = pathlib.Path(data_dir).absolute()
  limits = {'time_s': time_s, 'memory_bytes': memory_bytes}
  if beam_runner is not None:
    work = beam.Work(spec.to_json(), skip, workers or 1, limits)
    return build.build(
      found,
      data_dir,
      spec,
      lambda where, jobs: beam.write(where, jobs, work, runner),
      skip=skip,
    )
  with sandbox.Pool(
    standard_example, workers or os.cpu_count() or 1, **limits
  ) as pool:
    return build.build(
      found,
      data_dir,
      spec,
      lambda where, jobs: write(where, jobs, spec, pool, skip=skip),
      skip=skip,
    )


def write(
  where: store.Store,
  jobs: Sequence[store.Job],
  spec: preprocess.Spec,
  pool: sandbox.Pool,
  *,
  skip: bool,
  bar: bool = True,
) -> None:
  """Writes shards, one after the other.

  Args:
    where: they go.
    jobs: of the shards.
    spec: of the images.
    pool: of `standard_example`.
    skip: whether to leave bad files out.
    bar: whether to tell of the progress.

  Raises:
    errors.DataError: a bad file, without `skip`.
    OSError: the disk is full or cannot be written.
  """
  from rsna_jax.data import features

  serialise = features.features(spec).serialize_example
  # One stream through all shards, so that no child waits at a shard's end.
  answers = examples((row for job in jobs for row in job.rows()), spec, pool)
  with contextlib.ExitStack() as stack:
    stack.enter_context(contextlib.closing(answers))
    advance = lambda: None  # noqa: E731
    if bar:
      rows = sum(job.count for job in jobs)
      shown = progress.Progress(rows, 'prepare', 'images')
      advance = stack.enter_context(shown).advance
    for job in jobs:
      where.write(job, answers, serialise, skip=skip, advance=advance)
