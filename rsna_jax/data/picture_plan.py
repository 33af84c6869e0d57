"""Which pictures a set of files gives, and how each is called.

Nothing is decoded here: names and fingerprints follow from what the headers
say, so that a second run knows what is there before it starts a child.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from rsna_jax import errors
from rsna_jax.data import picture_journal, picture_sources, pictures, slabs

KINDS = ('slices', 'slabs', 'both')
SLAB_FRAMES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
  """What becomes of files of several frames.

  Attributes:
    kind: 'slices', 'slabs' or 'both'.
    projections: of the slabs, of `slabs.PROJECTIONS`.
    slab_frames: frames of a slab; None: `SLAB_FRAMES`, or as `slab_mm` says.
    slab_mm: thickness of a slab in place of `slab_frames`.
  """

  kind: str = 'slices'
  projections: tuple[str, ...] = ('max',)
  slab_frames: int | None = None
  slab_mm: float | None = None

  def __post_init__(self):
    if self.kind not in KINDS:
      raise errors.ConfigError(
        f'frames={self.kind!r}: choose {", ".join(KINDS)}'
      )
    if not self.projections or set(self.projections) - set(slabs.PROJECTIONS):
      raise errors.ConfigError(
        f'projections={self.projections}: choose {", ".join(slabs.PROJECTIONS)}'
      )
    if self.slab_frames is not None and self.slab_mm is not None:
      raise errors.ConfigError('slab_frames and slab_mm: give one of them')
    for name in ('slab_frames', 'slab_mm'):
      value = getattr(self, name)
      if value is not None and not 0 < value < 1e6:
        raise errors.ConfigError(f'{name}={value}: has to be more than 0')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
  """One file to write.

  Attributes:
    entry: `input`, `frames`, `projection`, `output` and `fingerprint`, of the
      journal.
    split: 'train' or 'test' of RSNA's layout, else ''.
    row: columns of RSNA's layout with those of `deidentify.SLAB_COLUMNS`.
  """

  entry: dict[str, Any]
  split: str
  row: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """What one child does at once, and the pictures that it gives.

  Attributes:
    source: the file.
    count: frames of the file.
    ranged: whether black and white are those of all its frames.
    span: first frame and one past the last; None for a file of one frame.
    pictures: one for each projection.
  """

  source: picture_sources.Source
  count: int
  ranged: bool
  span: tuple[int, int] | None
  pictures: tuple[Picture, ...]

  @property
  def projections(self) -> tuple[str, ...]:
    return tuple(one.entry['projection'] for one in self.pictures)


def plan(
  sources: Sequence[picture_sources.Source],
  described: dict[str, tuple[str, dict[str, Any]]],
  options: pictures.Options,
  frames: Frames,
) -> list[Task]:
  """The tasks of the files that are described.

  Args:
    sources: the files.
    described: path -> fingerprint, and the answer of `pictures.describe`.
    options: of the pictures.
    frames: what becomes of files of several frames.

  Raises:
    errors.DataError: two files give one picture, or millimetres are asked for
      and a file does not know its own.
  """
  taken = {source.row.get('image_id') for source in sources}
  makers: dict[str, str] = {}
  tasks = []
  for source in sources:
    if source.path not in described:
      continue
    fingerprint, content = described[source.path]
    for span, projections in _parts(content, frames, source.path):
      task = Task(
        source=source,
        count=content['frames'],
        ranged=content['ranged'],
        span=span,
        pictures=tuple(
          _picture(source, span, projection, content, taken, options)
          for projection in projections
        ),
      )
      for one in task.pictures:
        one.entry['fingerprint'] = picture_journal.fingerprint(
          pictures.VERSION,
          fingerprint,
          dataclasses.asdict(options),
          span,
          one.entry['projection'],
        )
        other = makers.setdefault(one.entry['output'], source.path)
        if other != source.path:
          raise errors.DataError(
            f'{source.path}: gives {one.entry["output"]}, as does {other}: '
            'rename one of them, or convert them one by one'
          )
      tasks.append(task)
  return tasks


def _parts(
  content: dict[str, Any], frames: Frames, path: str
) -> Iterator[tuple[tuple[int, int] | None, tuple[str, ...]]]:
  count = content['frames']
  if count == 1:
    yield None, ('',)
    return
  if frames.kind != 'slabs':
    yield from (((i, i + 1), ('',)) for i in range(count))
  if frames.kind != 'slices':
    length = frames.slab_frames or SLAB_FRAMES
    if frames.slab_mm is not None:
      length = slabs.frames_of_mm(frames.slab_mm, content['spacing_mm'], path)
    yield from (
      (span, frames.projections) for span in slabs.spans(count, length)
    )


def _picture(
  source: picture_sources.Source,
  span: tuple[int, int] | None,
  projection: str,
  content: dict[str, Any],
  taken: set[int],
  options: pictures.Options,
) -> Picture:
  part = ''
  if span is not None:
    digits = max(3, len(str(content['frames'] - 1)))
    ends = [span[0]] if span[1] == span[0] + 1 else [span[0], span[1] - 1]
    part = '-'.join(f'{i:0{digits}}' for i in ends)
  path = pathlib.PurePosixPath(source.stem)
  row = {}
  if source.split:
    number = source.row['image_id']
    row = {
      **source.row,
      'source_image_id': number,
      'slab': part,
      'projection': projection,
    }
    if part:
      row['image_id'] = picture_sources.image_id(
        number, f'{part} {projection}', taken
      )
      path = path.with_name(str(row['image_id']))
  elif part:
    path = path.with_name('_'.join(filter(None, [path.name, part, projection])))
  entry = {
    'input': source.name,
    'frames': part,
    'projection': projection,
    'output': f'{path}{pictures.FORMATS[options.format]}',
  }
  return Picture(entry=entry, split=source.split, row=row)
