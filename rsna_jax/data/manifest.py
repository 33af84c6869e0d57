"""What stands beside the shards of a data set: tables, sums and descriptions.

`manifest.csv` ties each image to the file it was made of, and `SHA256SUMS` is
for `sha256sum --check`.
"""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TextIO

import numpy as np

from rsna_jax import files
from rsna_jax.data import layout, preprocess, records, store, tree
from rsna_jax.data import table as table_lib

MANIFEST = (
  'split',
  'image_id',
  'source',
  'bytes',
  'sha256',
  'image_sha256',
  'shard',
)


class Plan(Protocol):
  """A shard: rows `start` to `stop` of a split, in `file`."""

  split: str
  start: int
  stop: int
  file: str
  fingerprint: str


def write(
  folder: pathlib.Path,
  found: layout.Layout,
  spec: preprocess.Spec,
  plans: Sequence[Plan],
  headers: Mapping[str, dict[str, Any]],
  notes: store.Store,
) -> None:
  """Writes all files of a data set but its shards.

  Args:
    folder: of the shards.
    found: where they come from.
    spec: of the images.
    plans: of the shards, in order.
    headers: fingerprint -> header of its note.
    notes: of the shards.

  Raises:
    OSError: the disk is full or cannot be written.
  """
  kept: dict[str, list[np.ndarray]] = {name: [] for name in found.splits}
  with (
    _writing(folder / 'manifest.csv') as manifest_file,
    _writing(folder / 'facts.jsonl') as facts_file,
  ):
    out = csv.writer(manifest_file, lineterminator='\n')
    out.writerow(MANIFEST)

    def digests() -> Iterator[str]:
      for plan in plans:
        rows = []
        for line in notes.lines(plan.fingerprint):
          rows.append(plan.start + line['row'])
          _write_line(out, facts_file, found, plan, line)
          yield line['digest']
        kept[plan.split].append(np.array(rows, np.int64))

    fingerprint = records.fingerprint(digests())
  for name, split in found.splits.items():
    table = split.table.take(np.concatenate(kept[name]))
    table_lib.write_csv(folder / f'rows-{name}.csv', table, kind=name)
  files.write_json(folder / 'records.json', {'fingerprint': fingerprint})
  files.write_json(folder / 'preprocess.json', spec.to_json())
  if text := skipped_text(found, (headers[p.fingerprint] for p in plans)):
    files.write_text(folder / 'skipped.csv', text)
  _write_info(folder, found, spec, plans, headers)
  sums = {p.file: headers[p.fingerprint]['sha256'] for p in plans}
  for path in folder.iterdir():
    if path.is_file() and path.name not in sums:
      sums[path.name] = store.file_sha256(path)
  lines = (f'{value}  {name}\n' for name, value in sorted(sums.items()))
  files.write_text(folder / 'SHA256SUMS', ''.join(lines))


def read_facts(
  folder: str | os.PathLike, source: tree.Tree
) -> dict[str, dict[str, Any] | str]:
  """What is known of the files that a data set was made of.

  Args:
    folder: of the data set.
    source: of its files, as `sources.open_tree` gives it.

  Returns:
    Path of each file -> its facts (`data/survey.py`), or why it was left out.

  Raises:
    OSError: no facts there.
  """
  folder = pathlib.Path(folder)
  found: dict[str, dict[str, Any] | str] = {}
  with (folder / 'facts.jsonl').open(encoding='utf-8') as file:
    for line in map(json.loads, file):
      found[source.path(line['source'])] = line['facts']
  if (folder / 'skipped.csv').exists():
    with (folder / 'skipped.csv').open(encoding='utf-8', newline='') as file:
      for row in csv.DictReader(file):
        if not row['line']:
          found[row['file']] = row['reason']
  return found


def skipped_text(
  found: layout.Layout, headers: Iterable[dict[str, Any]]
) -> str:
  """Content of skipped.csv; empty where nothing was left out."""
  skipped = list(found.skipped)
  for header in headers:
    for entry in header['skipped']:
      skipped.append(layout.Skipped(line='', **entry))
  if not skipped:
    return ''
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(['file', 'line', 'image_id', 'reason'])
  writer.writerows(dataclasses.astuple(entry) for entry in skipped)
  return out.getvalue()


def _write_line(
  out: Any,
  facts_file: TextIO,
  found: layout.Layout,
  plan: Plan,
  line: dict[str, Any],
) -> None:
  split = found.splits[plan.split]
  row = plan.start + line['row']
  image_id = int(split.table['image_id'][row])
  source = found.source.relative(split.files[row])
  hashes = (line['bytes'], line['sha256'], line['image_sha256'])
  out.writerow((plan.split, image_id, source, *hashes, plan.file))
  entry = {'split': plan.split, 'image_id': image_id, 'source': source}
  facts_file.write(json.dumps({**entry, 'facts': line['facts']}) + '\n')


def _write_info(
  folder: pathlib.Path,
  found: layout.Layout,
  spec: preprocess.Spec,
  plans: Sequence[Plan],
  headers: Mapping[str, dict[str, Any]],
) -> None:
  from rsna_jax.data import features

  lengths: dict[str, list[int]] = {name: [] for name in found.splits}
  sizes = dict.fromkeys(found.splits, 0)
  for plan in plans:
    header = headers[plan.fingerprint]
    lengths[plan.split].append(header['count'])
    sizes[plan.split] += header['bytes']
  features.write_info(folder, found.data_set, spec, lengths, sizes)


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[TextIO]:
  """A file of a folder that nobody reads yet, safe on the disk at the end."""
  try:
    with path.open('w', encoding='utf-8', newline='') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
  except OSError as error:
    error.filename = error.filename or str(path)
    raise
