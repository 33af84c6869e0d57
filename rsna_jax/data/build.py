"""Writes a data set shard by shard, and finds again what was finished before.

A shard's fingerprint is made of its rows, its files and the spec; a shard
that is there with the right fingerprint is not redone. A folder is a data set
once dataset_info.json is in it, which is written last.
"""

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rsna_jax import errors, files
from rsna_jax.data import layout, preprocess, progress, records
from rsna_jax.data import table as table_lib

VERSION = '1.0.0'  # of the format; the builders have the same
SHARD_ROWS = 128
# A reader keeps a file open for each shard.
MAX_SHARDS = 256

# (columns, path) of rows -> the example of each, or what is wrong with it.
Answer = Callable[
  [Iterable[tuple[dict[str, Any], str]]],
  Iterator[dict[str, Any] | errors.InputError],
]


def build(
  found: layout.Layout,
  data_dir: pathlib.Path,
  spec: preprocess.Spec,
  answer: Answer,
  *,
  skip: bool,
) -> pathlib.Path:
  """Builds what is missing of a data set; see `convert.prepare`."""
  folder = data_dir / found.data_set / spec.name() / VERSION
  folder.mkdir(parents=True, exist_ok=True)
  with _locked(folder):
    _Build(folder, found, spec, skip, answer).run()
  return folder


@dataclasses.dataclass(frozen=True)
class _Plan:
  """A shard to be: its rows, its name and what it depends on."""

  split: str
  start: int
  stop: int
  file: str
  fingerprint: str


class _Build:
  """The work on one data set, under its lock."""

  def __init__(
    self,
    folder: pathlib.Path,
    found: layout.Layout,
    spec: preprocess.Spec,
    skip: bool,
    answer: Answer,
  ):
    self._folder = folder
    self._notes = folder / 'shards'
    self._layout = found
    self._spec = spec
    self._skip = skip
    self._answer = answer

  def run(self) -> None:
    self._notes.mkdir(exist_ok=True)
    for stray in (*self._folder.glob('.*.tmp'), *self._notes.glob('.*.tmp')):
      stray.unlink()
    plans = [
      plan
      for name, split in self._layout.splits.items()
      for plan in _plan(self._layout.data_set, name, split, self._spec)
    ]
    done = self._reuse(plans)
    left = [plan for plan in plans if plan.file not in done]
    total = sum(plan.stop - plan.start for plan in plans)
    if left:
      # From here on a reader must not take the folder for a data set.
      (self._folder / 'dataset_info.json').unlink(missing_ok=True)
      rows = sum(plan.stop - plan.start for plan in left)
      if rows < total:
        print(f'{self._folder}: {total - rows} of {total} images are done')
      self._write_all(left, done, rows)
    else:
      print(f'{self._folder}: all {total} images are done')
    if not sum(note['count'] for note in done.values()):
      first = next(s for note in done.values() for s in note['skipped'])
      raise errors.DataError(
        f'all {total} images are bad; the first: {first["reason"]}'
      )
    self._finish(plans, done)

  def _reuse(self, plans: Sequence[_Plan]) -> dict[str, dict]:
    """Notes of the shards that are there already, by file."""
    known = {}
    for path in self._notes.glob('*.json'):
      with contextlib.suppress(ValueError, KeyError, OSError):
        note = json.loads(path.read_text(encoding='utf-8'))
        shard = self._folder / path.stem
        if shard.stat().st_size == note['bytes']:
          known[note['fingerprint']] = (path.stem, note)
    done = {}
    for plan in plans:
      file, note = known.get(plan.fingerprint, ('', {}))
      if not file or (note['skipped'] and not self._skip):
        continue
      if file != plan.file:
        # The same rows in a table that has grown: one name for another.
        if (self._folder / plan.file).exists():
          continue
        (self._folder / 'dataset_info.json').unlink(missing_ok=True)
        os.replace(self._folder / file, self._folder / plan.file)
        self._write_note(plan, note)
      done[plan.file] = note
    return done

  def _write_all(
    self, plans: Sequence[_Plan], done: dict[str, dict], rows: int
  ) -> None:
    from rsna_jax.data import features

    serialise = features.features(self._spec).serialize_example
    # One stream through all shards, so that no child waits at a shard's end.
    answers = self._answer(row for plan in plans for row in self._rows(plan))
    with (
      contextlib.closing(answers),
      progress.Progress(rows, 'prepare', 'images') as bar,
    ):
      for plan in plans:
        done[plan.file] = self._write(plan, answers, serialise, bar)

  def _rows(self, plan: _Plan) -> Iterator[tuple[dict[str, Any], str]]:
    split = self._layout.splits[plan.split]
    table = split.table.take(np.arange(plan.start, plan.stop))
    return zip(table.rows(), split.files[plan.start : plan.stop], strict=True)

  def _write(
    self,
    plan: _Plan,
    answers: Iterator[dict[str, Any] | errors.InputError],
    serialise: Callable[[dict[str, Any]], bytes],
    bar: progress.Progress,
  ) -> dict:
    """Writes one shard, and the note that says what is in it."""
    path = self._folder / plan.file
    kept, digests, skipped = [], [], []
    with records.ShardWriter(path) as writer:
      for i, (columns, file) in enumerate(self._rows(plan)):
        answer = next(answers)
        if isinstance(answer, dict):
          writer.write(serialise(answer))
          kept.append(i)
          digests.append(records.digest(columns, answer['image']))
        elif self._skip:
          entry = layout.Skipped(
            file, '', str(columns['image_id']), str(answer)
          )
          skipped.append(dataclasses.asdict(entry))
        else:
          raise errors.DataError(f'{answer}; or use --bad-files skip')
        bar.advance()
    note = {
      'fingerprint': plan.fingerprint,
      'bytes': path.stat().st_size,
      'count': writer.count,
      'rows': kept,
      'digests': digests,
      'skipped': skipped,
    }
    self._write_note(plan, note)
    return note

  def _write_note(self, plan: _Plan, note: dict) -> None:
    files.write_json(self._notes / f'{plan.file}.json', note)

  def _finish(self, plans: Sequence[_Plan], done: dict[str, dict]) -> None:
    """Writes what makes the shards a data set."""
    for path in self._folder.glob('*.array_record-*'):
      if path.name not in done:
        path.unlink()
    for path in self._notes.glob('*.json'):
      if path.stem not in done:
        path.unlink()
    skipped = list(self._layout.skipped)
    lengths: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for name, split in self._layout.splits.items():
      mine = [plan for plan in plans if plan.split == name]
      notes = [done[plan.file] for plan in mine]
      kept = [
        plan.start + row
        for plan, note in zip(mine, notes, strict=True)
        for row in note['rows']
      ]
      table_lib.write_csv(
        self._folder / f'rows-{name}.csv',
        split.table.take(np.array(kept, np.int64)),
        kind=name,
      )
      skipped += [
        layout.Skipped(**s) for note in notes for s in note['skipped']
      ]
      lengths[name] = [note['count'] for note in notes]
      sizes[name] = sum(note['bytes'] for note in notes)
    for name in {'train', 'test'} - set(self._layout.splits):
      (self._folder / f'rows-{name}.csv').unlink(missing_ok=True)
    digests = [d for plan in plans for d in done[plan.file]['digests']]
    files.write_json(
      self._folder / 'records.json',
      {'fingerprint': records.fingerprint(digests)},
    )
    files.write_json(self._folder / 'preprocess.json', self._spec.to_json())
    _write_skipped(self._folder / 'skipped.csv', skipped)
    from rsna_jax.data import features

    features.write_info(
      self._folder, self._layout.data_set, self._spec, lengths, sizes
    )
    count = sum(map(sum, lengths.values()))
    print(f'{self._folder}: {count} images')
    if skipped:
      print(f'{len(skipped)} left out, see {self._folder / "skipped.csv"}')


def _plan(
  data_set: str, split_name: str, split: layout.Split, spec: preprocess.Spec
) -> list[_Plan]:
  """The shards of a split."""
  size = max(SHARD_ROWS, -(-len(split.files) // MAX_SHARDS))
  starts = range(0, len(split.files), size)
  common = json.dumps([VERSION, data_set, spec.to_json()])
  rows = list(split.table.rows())
  plans = []
  for i, start in enumerate(starts):
    stop = min(start + size, len(split.files))
    digest = hashlib.sha256(common.encode())
    for row, path in zip(
      rows[start:stop], split.files[start:stop], strict=True
    ):
      found = os.stat(path)
      # Not the folder above: a set that was moved is the same set.
      name = os.sep.join(path.split(os.sep)[-2:])
      what = [name, found.st_size, found.st_mtime_ns, list(row.values())]
      digest.update(repr(what).encode())
    file = f'{data_set}-{split_name}.array_record-{i:05d}-of-{len(starts):05d}'
    plans.append(_Plan(split_name, start, stop, file, digest.hexdigest()))
  return plans


def _write_skipped(
  path: pathlib.Path, skipped: Sequence[layout.Skipped]
) -> None:
  if not skipped:
    path.unlink(missing_ok=True)
    return
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(['file', 'line', 'image_id', 'reason'])
  writer.writerows(dataclasses.astuple(entry) for entry in skipped)
  files.write_text(path, out.getvalue())


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Keeps a second `prepare` out of the folder; ends with the process."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise errors.DataError(
        f'{folder}: another rsna-jax prepare is at work on it; wait for its end'
      ) from error
    yield
  finally:
    os.close(descriptor)
