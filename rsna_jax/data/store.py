"""Finished shards of a data set that is being built, each with its note.

A shard is named after what it depends on, so that whoever needs it finds it:
a run that goes on, one of another table, or a worker on another machine.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rsna_jax import errors, files
from rsna_jax.data import records

Columns = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Made:
  """What a child made of an image file.

  Attributes:
    example: columns and features of the record; `data/features.py`.
    source: `bytes` and `sha256` (hex) of the file.
    facts: plain values that tell of the file; `data/survey.py`.
  """

  example: dict[str, Any]
  source: dict[str, Any]
  facts: dict[str, Any]


Answers = Iterator[Made | errors.InputError]


@dataclasses.dataclass(frozen=True)
class Job:
  """A shard to be written.

  Attributes:
    fingerprint: of all that it depends on; its name.
    count: number of rows.
    rows: gives columns, and path of the image, of each.
  """

  fingerprint: str
  count: int
  rows: Callable[[], Iterable[tuple[Columns, str]]]


class Store:
  """A folder of shards and their notes; several processes may add to it.

  A note is a file `<fingerprint>.jsonl`: a header, and a line for each record.
  The header has `shard` (file name), `bytes`, `sha256`, `count`, `skipped`
  (file, reason, image_id of each); a line has `row` (of the job), `digest`,
  `bytes`, `sha256` of the image's file, `image_sha256` of the encoded image,
  and `facts`.
  """

  def __init__(self, folder: pathlib.Path):
    self.folder = folder

  def shard_path(self, header: dict[str, Any]) -> pathlib.Path:
    return self.folder / header['shard']

  def note_path(self, fingerprint: str) -> pathlib.Path:
    return self.folder / f'{fingerprint}.jsonl'

  def header(self, fingerprint: str) -> dict[str, Any] | None:
    """Header of the note, if there is one."""
    with (
      contextlib.suppress(OSError, ValueError),
      self.note_path(fingerprint).open(encoding='utf-8') as file,
    ):
      return json.loads(file.readline())
    return None

  def lines(self, fingerprint: str) -> Iterator[dict[str, Any]]:
    """The note's lines.

    Raises:
      errors.DataError: damaged.
    """
    path = self.note_path(fingerprint)
    try:
      with path.open(encoding='utf-8') as file:
        left = json.loads(next(file))['count']
        for line in file:
          yield json.loads(line)
          left -= 1
      if left:
        raise ValueError(f'{left} lines are missing')
    except (ValueError, KeyError, StopIteration) as error:
      raise errors.DataError(
        f'{path}: damaged ({error}): delete it and run the same command again'
      ) from error

  def write(
    self,
    job: Job,
    answers: Answers,
    serialise: Callable[[dict[str, Any]], bytes],
    *,
    skip: bool,
    advance: Callable[[], None] = lambda: None,
  ) -> dict[str, Any]:
    """Writes a shard and then its note, and returns the header.

    Args:
      job: what to write.
      answers: gives as many answers as the job has rows.
      serialise: makes a record of an example.
      skip: whether to leave bad files out.
      advance: called after each row.

    Raises:
      errors.DataError: a bad file, without `skip`.
      OSError: the disk is full or cannot be written.
    """
    # A runner may give one job to two workers: the later note counts.
    path = (
      self.folder / f'{job.fingerprint}.{uuid.uuid4().hex[:8]}.array_record'
    )
    lines, skipped = [], []
    with records.ShardWriter(path) as writer:
      for i, (columns, file) in enumerate(job.rows()):
        made = next(answers)
        if isinstance(made, Made):
          writer.write(serialise(made.example))
          png = made.example['image']
          lines.append(
            {
              'row': i,
              'digest': records.digest(columns, png),
              'bytes': made.source['bytes'],
              'sha256': made.source['sha256'],
              'image_sha256': hashlib.sha256(png).hexdigest(),
              'facts': made.facts,
            }
          )
        elif skip:
          image_id = str(columns['image_id'])
          skipped.append(
            {'file': file, 'image_id': image_id, 'reason': str(made)}
          )
        else:
          raise errors.DataError(f'{made}; or use --bad-files skip')
        advance()
    header = {
      'shard': path.name,
      'bytes': path.stat().st_size,
      'sha256': file_sha256(path),
      'count': len(lines),
      'skipped': skipped,
    }
    text = ''.join(
      json.dumps(line, default=str) + '\n' for line in (header, *lines)
    )
    files.write_text(self.note_path(job.fingerprint), text)
    return header

  def clean(self, kept: Iterable[str] | None = None) -> None:
    """Removes what no note tells of, and notes but those of `kept`."""
    kept = None if kept is None else set(kept)
    named = set()
    for path in self.folder.glob('*.jsonl'):
      header = self.header(path.stem)
      if header is None or (kept is not None and path.stem not in kept):
        path.unlink()
      else:
        named.add(header['shard'])
    for path in self.folder.iterdir():
      if path.suffix != '.jsonl' and path.name not in named:
        path.unlink()


def file_sha256(path: pathlib.Path) -> str:
  """SHA-256 of a file, in hex."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
