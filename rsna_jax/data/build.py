"""Builds a data set beside the one that is there, and then takes its place.

A shard's fingerprint is made of its rows, its files and the spec; a shard that
is there with the right fingerprint is not redone. Until all are done, a reader
finds the data set as it was before, or none.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rsna_jax import errors, files
from rsna_jax.data import layout, manifest, preprocess, sources, store

VERSION = '1.0.0'  # of the format; the builders have the same
SHARD_ROWS = 128  # in the mean
# A reader keeps a file open for each shard: more only where each is big.
MAX_SHARDS = 256
LARGE_ROWS = 2048

# Writes the jobs that are given into the store.
Write = Callable[[store.Store, Sequence[store.Job]], None]


def build(
  found: layout.Layout,
  data_dir: pathlib.Path,
  spec: preprocess.Spec,
  write: Write,
  *,
  skip: bool,
) -> pathlib.Path:
  """Builds what is missing of a data set; see `convert.prepare`."""
  folder = data_dir / found.data_set / spec.name() / VERSION
  folder.parent.mkdir(parents=True, exist_ok=True)
  with _locked(folder):
    _Build(folder, found, spec, skip).run(write)
  return folder


@dataclasses.dataclass(frozen=True)
class Plan:
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
  ):
    self._folder = folder
    self._work = unfinished(folder)
    self._replaced = folder.with_name(f'{folder.name}.replaced')
    self._layout = found
    self._spec = spec
    self._skip = skip
    self._new = store.Store(self._work / 'shards')
    self._old = store.Store(folder / 'shards')
    with sources.patience(found.source.name):
      self._plans = [
        plan
        for name, split in found.splits.items()
        for plan in _plan(found, name, split, spec)
      ]

  def run(self, write: Write) -> None:
    self._recover()
    there = self._names(self._old)
    headers, reused, left = {}, {}, []
    total = sum(plan.stop - plan.start for plan in self._plans)
    for plan in self._plans:
      key = plan.fingerprint
      if header := self._usable(self._new, key):
        headers[key] = header
      elif header := self._usable(self._old, key, there.get(key)):
        headers[key], reused[key] = header, self._folder / there[key]
      else:
        left.append(plan)
    if not left and self._is_whole(headers, reused):
      print(f'{self._folder}: all {total} images are done')
      if self._work.exists():
        shutil.rmtree(self._work)
      return
    self._new.folder.mkdir(parents=True, exist_ok=True)
    if left:
      rows = sum(plan.stop - plan.start for plan in left)
      if rows < total:
        print(f'{self._folder}: {total - rows} of {total} images are done')
      write(self._new, [self._job(plan) for plan in left])
      for plan in left:
        headers[plan.fingerprint] = self._new.header(plan.fingerprint)
    if not any(header['count'] for header in headers.values()):
      first = next(s for header in headers.values() for s in header['skipped'])
      raise errors.DataError(
        f'all {total} images are bad; the first: {first["reason"]}'
      )
    self._finish(headers, reused)

  def _recover(self) -> None:
    """Makes an end of what a killed run was in the middle of."""
    if self._replaced.exists():
      if not self._folder.exists():
        os.rename(self._work, self._folder)
      shutil.rmtree(self._replaced)
    for key, name in self._names(self._new).items():
      with contextlib.suppress(FileNotFoundError):
        if header := self._new.header(key):
          os.replace(self._work / name, self._new.shard_path(header))
    if self._new.folder.exists():
      self._new.clean()
      for path in self._work.iterdir():
        if path.is_file():
          path.unlink()

  def _names(self, where: store.Store) -> dict[str, str]:
    """Fingerprint -> name of a shard that has its final name."""
    try:
      path = where.folder / 'names.json'
      found = json.loads(path.read_text(encoding='utf-8'))
      return {key: name for name, key in found.items()}
    except (OSError, ValueError, AttributeError):
      return {}

  def _usable(
    self, where: store.Store, key: str, name: str | None = None
  ) -> dict[str, Any] | None:
    """Header of a shard that need not be written again."""
    header = where.header(key)
    if header is None or (header['skipped'] and not self._skip):
      return None
    path = self._folder / name if name else where.shard_path(header)
    try:
      for _ in where.lines(key):
        pass
      return header if path.stat().st_size == header['bytes'] else None
    except (OSError, errors.DataError):
      return None

  def _is_whole(
    self, headers: dict[str, dict], reused: dict[str, pathlib.Path]
  ) -> bool:
    """Whether the data set that is there is the one that is wanted."""
    wanted = {
      plan.fingerprint: self._folder / plan.file for plan in self._plans
    }
    skipped = self._folder / 'skipped.csv'
    text = skipped.read_text(encoding='utf-8') if skipped.exists() else ''
    return (
      (self._folder / 'dataset_info.json').exists()
      and set(self._folder.glob('*.array_record-*')) == set(wanted.values())
      and reused == wanted
      and text == manifest.skipped_text(self._layout, headers.values())
    )

  def _job(self, plan: Plan) -> store.Job:
    def rows() -> Iterator[tuple[dict[str, Any], str]]:
      split = self._layout.splits[plan.split]
      table = split.table.take(np.arange(plan.start, plan.stop))
      paths = split.files[plan.start : plan.stop]
      return zip(table.rows(), paths, strict=True)

    return store.Job(plan.fingerprint, plan.stop - plan.start, rows)

  def _finish(
    self, headers: dict[str, dict], reused: dict[str, pathlib.Path]
  ) -> None:
    """Gives the shards their names, and describes them."""
    self._new.clean(headers)
    # Written first, so that a run that is killed here can be taken up.
    names = {plan.file: plan.fingerprint for plan in self._plans}
    files.write_json(self._new.folder / 'names.json', names)
    for plan in self._plans:
      key = plan.fingerprint
      if key in reused:
        _link(self._old.note_path(key), self._new.note_path(key))
        _link(reused[key], self._work / plan.file)
      else:
        path = self._new.shard_path(headers[key])
        os.replace(path, self._work / plan.file)
    manifest.write(
      self._work, self._layout, self._spec, self._plans, headers, self._new
    )
    if self._folder.exists():
      os.rename(self._folder, self._replaced)
    os.rename(self._work, self._folder)
    shutil.rmtree(self._replaced, ignore_errors=True)
    count = sum(header['count'] for header in headers.values())
    print(f'{self._folder}: {count} images')
    skipped = sum(len(header['skipped']) for header in headers.values())
    if skipped := skipped + len(self._layout.skipped):
      print(f'{skipped} left out, see {self._folder / "skipped.csv"}')


def unfinished(folder: pathlib.Path) -> pathlib.Path:
  """Where a data set is built before it is `folder`."""
  return folder.with_name(f'{folder.name}.unfinished')


def _plan(
  found: layout.Layout,
  split_name: str,
  split: layout.Split,
  spec: preprocess.Spec,
) -> list[Plan]:
  """The shards of a split."""
  # Not the folders above: a set that was moved is the same set.
  names = [
    '/'.join(found.source.relative(path).split('/')[-2:])
    for path in split.files
  ]
  states = found.source.states(split.files)
  common = json.dumps([VERSION, found.data_set, spec.to_json()])
  starts = [0, *_cuts(names)]
  plans = []
  for i, start in enumerate(starts):
    stop = starts[i + 1] if i + 1 < len(starts) else len(names)
    digest = hashlib.sha256(common.encode())
    rows = split.table.take(np.arange(start, stop)).rows()
    for row, name in zip(rows, names[start:stop], strict=True):
      what = [name, *next(states), list(row.values())]
      digest.update(repr(what).encode())
    file = (
      f'{found.data_set}-{split_name}.array_record-{i:05d}-of-{len(starts):05d}'
    )
    plans.append(Plan(split_name, start, stop, file, digest.hexdigest()[:40]))
  return plans


def _cuts(names: Sequence[str]) -> Iterator[int]:
  """Where a shard ends and the next begins.

  The names say where, so that a row that is added moves no shard but its own,
  or a few: counted from the start, every later one would be another.
  """
  size = SHARD_ROWS
  while len(names) > size * MAX_SHARDS and size < LARGE_ROWS:
    size *= 2
  start = 0
  for i, name in enumerate(names):
    if i - start < size // 2:
      continue
    chance = hashlib.blake2b(name.encode(), digest_size=8).digest()
    if i - start >= 2 * size or int.from_bytes(chance) * size < 2 << 64:
      yield i
      start = i


def _link(path: pathlib.Path, other: pathlib.Path) -> None:
  """A file under a second name; a copy where the disk cannot do that."""
  try:
    os.link(path, other)
  except FileExistsError:
    pass
  except OSError:
    files.write_bytes(other, path.read_bytes())


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Keeps a second `prepare` out of the folder; ends with the process."""
  path = folder.with_name(f'.{folder.name}.lock')
  # A file and not the folder: a network file system locks no folders.
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
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
