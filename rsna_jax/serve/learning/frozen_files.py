"""The files of a frozen set: its pictures in RSNA's layout, a folder a side.

A submission that is deleted after its set was frozen goes from there as well.
"""

import csv
import dataclasses
import io
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import sqlalchemy as sa

from rsna_jax import errors, files, schema
from rsna_jax.data import table as table_lib
from rsna_jax.serve.learning import freeze, frozen_layout
from rsna_jax.serve.store import blobs, database, tables

_MEMBERS = 'members.csv'
_FIELDS = ('submission_id', 'side', 'patient_id', 'image_id', 'contributor')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
  """A picture of a frozen set.

  Attributes:
    submission_id: of the store.
    side: train | validation.
    patient_id, image_id: its numbers in the layout.
    contributor: number of the person.
  """

  submission_id: str
  side: str
  patient_id: int
  image_id: int
  contributor: int


def write(
  db: database.Database, pictures: blobs.Blobs, number: int
) -> pathlib.Path:
  """Writes the pictures and tables of a frozen set, unless they are there.

  Returns:
    `datasets/<number>`, with a folder for each side that has a picture, and
    left_out.csv for what contradicts itself within a breast.

  Raises:
    OSError: the disk is full; the folder is not there.
    errors.DataError: no picture of it is left.
  """
  folder = folder_of(db, number)
  if folder.is_dir():
    return folder
  part = db.store / 'tmp' / f'dataset-{number}'
  shutil.rmtree(part, ignore_errors=True)
  with db.reading() as session:
    found = session.execute(
      sa.select(tables.DatasetMember, tables.Submission)
      .join(
        tables.Submission,
        tables.Submission.id == tables.DatasetMember.submission_id,
      )
      .where(tables.DatasetMember.dataset_number == number)
      .order_by(tables.DatasetMember.submission_id)
    ).all()
    rows = [_row(member, submission) for member, submission in found]
  if not rows:
    raise errors.DataError(
      f'dataset {number}: its submissions were deleted: accept others'
    )
  kept, left_out = frozen_layout.arrange(rows)
  try:
    for side in tables.SIDES:
      of = [row for row in kept if row['side'] == side]
      if of:
        _write_side(part / side, of, pictures)
    members = [[row[name] for name in _FIELDS] for row in kept]
    files.write_text(part / _MEMBERS, _csv(_FIELDS, members))
    files.write_text(
      part / 'left_out.csv', _csv(('submission_id', 'reason'), left_out)
    )
    for each, _, _ in os.walk(part):
      blobs.sync_folder(each)
    folder.parent.mkdir(exist_ok=True)
    os.rename(part, folder)
    blobs.sync_folder(folder.parent)
  finally:
    shutil.rmtree(part, ignore_errors=True)
  return folder


def folder_of(db: database.Database, number: int) -> pathlib.Path:
  """Where a frozen set lies."""
  return db.store / 'datasets' / str(number)


def members(folder: pathlib.Path) -> list[Member]:
  """The pictures of a written set."""
  with (folder / _MEMBERS).open(encoding='utf-8', newline='') as file:
    return [
      Member(
        submission_id=row['submission_id'],
        side=row['side'],
        patient_id=int(row['patient_id']),
        image_id=int(row['image_id']),
        contributor=int(row['contributor']),
      )
      for row in csv.DictReader(file)
    ]


def forget_deleted(db: database.Database) -> list[int]:
  """Removes from all written sets the pictures of deleted submissions.

  To be called after a deletion, so that deleted means gone.

  Returns:
    Numbers of the sets that have lost one; what was made of them, as prepared
    data, has to go as well.
  """
  with db.reading() as session:
    there = set(session.scalars(sa.select(tables.Submission.id)))
  changed = []
  for folder in sorted((db.store / 'datasets').glob('*')):
    if not (folder / _MEMBERS).is_file():
      continue
    found = members(folder)
    gone = [one for one in found if one.submission_id not in there]
    if not gone:
      continue
    for one in gone:
      _unlink(folder, one)
    kept = [one for one in found if one.submission_id in there]
    for side in tables.SIDES:
      _shorten(folder / side, {x.image_id for x in kept if x.side == side})
    files.write_text(
      folder / _MEMBERS,
      _csv(_FIELDS, [[getattr(x, name) for name in _FIELDS] for x in kept]),
    )
    changed.append(int(folder.name))
  return changed


def _row(member: tables.DatasetMember, row: tables.Submission) -> dict:
  key = freeze.patient_key(row)
  return {
    'submission_id': row.id,
    'side': member.side,
    'patient': key,
    'contributor': row.user_id,
    'image_sha256': row.image_sha256,
    'laterality': row.laterality,
    'view': row.view,
    'age': np.nan if row.age is None else row.age,
    'implant': _or_missing(row.implant),
    'density': _or_missing(member.density),
    'cancer': _or_missing(member.cancer),
  }


def _or_missing(value: int | None) -> int:
  return schema.MISSING if value is None else value


def _write_side(
  folder: pathlib.Path, rows: Sequence[Mapping], pictures: blobs.Blobs
) -> None:
  for row in rows:
    png = pictures.read(row['image_sha256'])
    files.write_bytes(_path(folder, row['patient_id'], row['image_id']), png)
  names = set(schema.COLUMNS) & set(rows[0])
  table = table_lib.Table.from_columns(
    {name: [row[name] for row in rows] for name in names}
  )
  table_lib.write_csv(folder / 'train.csv', table, kind='train')


def _path(folder: pathlib.Path, patient: int, image: int) -> pathlib.Path:
  return folder / 'train_images' / str(patient) / f'{image}.png'


def _unlink(folder: pathlib.Path, one: Member) -> None:
  path = _path(folder / one.side, one.patient_id, one.image_id)
  path.unlink(missing_ok=True)
  if path.parent.is_dir():
    blobs.sync_folder(path.parent)


def _shorten(folder: pathlib.Path, images: set[int]) -> None:
  """Leaves only some images in a side's table; without any, it goes."""
  path = folder / 'train.csv'
  if not path.is_file():
    return
  if not images:
    shutil.rmtree(folder)
    return
  table = table_lib.read_csv(path, kind='train')
  kept = [i for i, x in enumerate(table['image_id'].tolist()) if x in images]
  table_lib.write_csv(path, table.take(np.array(kept)), kind='train')


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
  out = io.StringIO(newline='')
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(header)
  writer.writerows(rows)
  return out.getvalue()
