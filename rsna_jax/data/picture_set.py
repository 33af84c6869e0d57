"""Turns files and folders into a folder of pictures: `rsna-jax convert`.

Child processes decode, since the files are not to be trusted; what they return
is written here, one whole file after the other. Names of files and folders are
kept; nothing else of an input leaves but its pixels.
"""

import contextlib
import csv
import dataclasses
import io
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from rsna_jax import errors, files, schema
from rsna_jax.data import (
  cells,
  deidentify,
  picture_journal,
  picture_plan,
  picture_sources,
  pictures,
  progress,
  sandbox,
)

FRAME_S = 5.0  # wall time of an item for each of its frames
_LISTS = ('manifest.csv', 'skipped.csv')
_log = logging.getLogger('rsna_jax')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What was done: pictures written, and found there; files left out."""

  out: pathlib.Path
  written: int
  reused: int
  skipped: Sequence[str]


def convert(
  inputs: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  options: pictures.Options | None = None,
  frames: picture_plan.Frames | None = None,
  workers: int = 1,
  bad_files: str = 'stop',
) -> Outcome:
  """Writes pictures of mammograms, or finishes what was begun.

  Beside them it writes manifest.csv; in RSNA's layout train.csv and test.csv,
  with one row for each picture; and skipped.csv if files were left out.

  Args:
    inputs: files, folders or one RSNA layout; see `picture_sources.find`.
    out: the folder to write; files that are there and not of an earlier call
      are never overwritten.
    options: of the pictures.
    frames: what becomes of files of several frames.
    workers: child processes.
    bad_files: 'stop' at the first bad file, or 'skip' it.

  Raises:
    errors.InputError: bad input, which the message names, and how to mend it.
    OSError: the disk is full or cannot be written; finished pictures stay.
  """
  if bad_files not in ('stop', 'skip'):
    raise errors.ConfigError(f'bad_files={bad_files!r}: choose stop or skip')
  out = pathlib.Path(out)
  if out.exists() and not out.is_dir():
    raise errors.DataError(f'{out}: is a file; name a folder for the pictures')
  found = picture_sources.find(inputs, out, skip=bad_files == 'skip')
  out.mkdir(parents=True, exist_ok=True)
  with picture_journal.Journal(out) as journal:
    run = _Run(
      journal=journal,
      options=options or pictures.Options(),
      frames=frames or picture_plan.Frames(),
      workers=workers,
      skip=bad_files == 'skip',
    )
    try:
      return run.run(found, out)
    finally:
      run.close()


class _Run:
  """The work on one output folder, under its lock."""

  def __init__(
    self,
    *,
    journal: picture_journal.Journal,
    options: pictures.Options,
    frames: picture_plan.Frames,
    workers: int,
    skip: bool,
  ):
    self._journal = journal
    self._options = options
    self._frames = frames
    self._workers = workers
    self._skip = skip
    self._bad: list[tuple[str, str]] = []  # input, and what is wrong with it
    self._pool: sandbox.Pool | None = None
    self._time_s = 0.0

  def close(self) -> None:
    """Ends the children."""
    if self._pool is not None:
      self._pool.close()

  def run(self, found: picture_sources.Sources, out: pathlib.Path) -> Outcome:
    """Does what is left of the work, then writes the tables."""
    self._bad += found.skipped
    tasks = picture_plan.plan(
      found.files, self._describe(found.files), self._options, self._frames
    )
    planned = [one for task in tasks for one in task.pictures]
    tables = sorted({f'{one.split}.csv' for one in planned if one.split})
    self._journal.begin(
      [*(one.entry['output'] for one in planned), *_LISTS, *tables]
    )
    todo = [task for task in tasks if not self._is_done(task)]
    count = len(planned)
    reused = count - sum(len(task.pictures) for task in todo)
    if reused:
      print(f'{out}: {reused} of {count} pictures are done')
    if todo:
      self._write_all(todo, self._ranges(todo))
    done = [
      one for task in tasks if self._is_done(task) for one in task.pictures
    ]
    if not done:
      raise errors.DataError(
        f'{out}: no picture could be made; the first: {self._bad[0][1]}'
      )
    self._journal.finish([one.entry['output'] for one in done])
    for split in ('train', 'test'):
      rows = [one.row for one in done if one.split == split]
      if rows:
        _write_table(out / f'{split}.csv', rows, split)
    _write_skipped(out / 'skipped.csv', [name for name, _ in self._bad])
    print(f'{out}: {len(done)} pictures')
    return Outcome(
      out=out,
      written=len(done) - reused,
      reused=reused,
      skipped=[reason for _, reason in self._bad],
    )

  def _is_done(self, task: picture_plan.Task) -> bool:
    return all(self._journal.has(one.entry) for one in task.pictures)

  def _describe(
    self, sources: Sequence[picture_sources.Source]
  ) -> dict[str, tuple[str, dict[str, Any]]]:
    """Path of a file -> its fingerprint, and what is in it."""
    prints = {}
    for source in sources:
      stat = os.stat(source.path)
      prints[source.path] = picture_journal.fingerprint(
        source.name, stat.st_size, stat.st_mtime_ns, self._options.window
      )
    known = self._journal.described
    new = [source for source in sources if prints[source.path] not in known]
    items = [('describe', (one.path, self._options.window)) for one in new]
    for index, answer in self._children().map(items, name=_path):
      if isinstance(answer, dict):
        self._journal.describe(prints[new[index].path], answer)
      else:
        self._complain(new[index], answer)
    return {
      path: (key, known[key]) for path, key in prints.items() if key in known
    }

  def _ranges(
    self, tasks: Sequence[picture_plan.Task]
  ) -> dict[str, tuple[float, float]]:
    """Black and white of the volumes that have no window to be used."""
    counts = {task.source.path: task.count for task in tasks if task.ranged}
    items = [
      ('range', (path, i))
      for path, count in counts.items()
      for i in range(count)
    ]
    ranges: dict[str, tuple[float, float]] = {}
    for index, answer in self._children().map(items, name=_path):
      # What is wrong with a frame is told when its picture is made.
      if isinstance(answer, tuple):
        path = items[index][1][0]
        low, high = ranges.get(path, answer)
        ranges[path] = min(low, answer[0]), max(high, answer[1])
    return ranges

  def _write_all(
    self,
    tasks: Sequence[picture_plan.Task],
    ranges: dict[str, tuple[float, float]],
  ) -> None:
    what = dataclasses.asdict(self._options)
    items = [
      (
        'picture',
        (
          task.source.path,
          task.span,
          task.projections,
          ranges.get(task.source.path),
          what,
        ),
      )
      for task in tasks
    ]
    spans = [task.span or (0, 1) for task in tasks]
    longest = max(stop - start for start, stop in spans)
    answers = self._children(longest).map(items, name=_path)
    total = sum(len(task.pictures) for task in tasks)
    with (
      contextlib.closing(answers),
      progress.Progress(total, 'convert', 'pictures') as bar,
    ):
      for index, answer in answers:
        task = tasks[index]
        if isinstance(answer, list):
          for one, made in zip(task.pictures, answer, strict=True):
            self._journal.write(one.entry, **made)
        else:
          self._complain(task.source, answer)
        bar.advance(len(task.pictures))

  def _children(self, frames: int = 1) -> sandbox.Pool:
    """The pool, in which an item of so many frames has its time."""
    time_s = max(sandbox.TIME_S, FRAME_S * frames)
    if self._pool is None or time_s > self._time_s:
      self.close()
      self._pool = sandbox.Pool(pictures.work, self._workers, time_s=time_s)
      self._time_s = time_s
    return self._pool

  def _complain(
    self, source: picture_sources.Source, error: errors.InputError
  ) -> None:
    if not self._skip:
      raise errors.DataError(f'{error}; or use --bad-files skip')
    _log.warning('%s', error)
    self._bad.append((source.name, str(error)))


def _path(item: tuple[str, tuple]) -> str:
  return item[1][0]


def _write_table(
  path: pathlib.Path, rows: Sequence[dict[str, Any]], split: str
) -> None:
  """RSNA's table with one row for each picture."""
  columns = list(
    schema.TRAIN_COLUMNS if split == 'train' else schema.TEST_COLUMNS
  )
  if any(row['slab'] for row in rows):
    columns += deidentify.SLAB_COLUMNS
  deidentify.check(columns)
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(columns)
  for row in rows:
    writer.writerow([cells.text_of(name, row[name]) for name in columns])
  files.write_text(path, out.getvalue())


def _write_skipped(path: pathlib.Path, names: Sequence[str]) -> None:
  """The files alone: a reason may quote a header, and is printed only."""
  if not names:
    path.unlink(missing_ok=True)
    return
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(['input'])
  writer.writerows([name] for name in dict.fromkeys(names))
  files.write_text(path, out.getvalue())
