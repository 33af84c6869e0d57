"""CBIS-DDSM as TFDS prepared it, written out as a layout of RSNA's columns.

`tfds build curated_breast_imaging_ddsm` gives whole mammograms with what was
found in each; from the layout `rsna-jax prepare` makes a set to mix in by
`data.extra`. Reads TFRecord and array_record without TensorFlow.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Iterator, Sequence

from rsna_jax import errors, files
from rsna_jax.data import progress, records
from rsna_jax.data import table as table_lib

NAME = 'curated_breast_imaging_ddsm'
# In the order in which the builder numbers them.
BREASTS, VIEWS = ('L', 'R'), ('CC', 'MLO')
BENIGN, BENIGN_WITHOUT_CALLBACK, MALIGNANT = 0, 1, 2
# Patients are P_00001 and on; RSNA's have other numbers, all far smaller.
FIRST_PATIENT = 2_000_000_000
SITE = 3  # RSNA's hospitals are 1 and 2
_BITS = 30  # of an image's number, which is made of its name


@dataclasses.dataclass
class _Image:
  """What the data sets say of one mammogram."""

  patient: int
  laterality: str
  view: str
  pathologies: set[int]
  assessments: set[int]


def export(folders: Sequence[str | os.PathLike], out: str | os.PathLike) -> int:
  """Writes `out`/train.csv and `out`/train_images/<patient>/<image>.png.

  Cancer is a malignant finding; difficult_negative_case a benign one that was
  called back, and no malignant one; BIRADS the highest assessment. A mammogram
  in both data sets, with masses and with calcifications, becomes one. Age,
  density, implant, biopsy and machine are not among what TFDS keeps; site_id
  is `SITE`. Rows of both splits are written, as all have labels.

  The pictures are those of the records, byte for byte; those that are there
  already are left. The table comes last.

  Args:
    folders: of `original-calc` and `original-mass`, such as
      `~/tensorflow_datasets/curated_breast_imaging_ddsm/original-mass/3.0.0`.
    out: the layout's folder.

  Returns:
    The number of images.

  Raises:
    errors.DataError: not such a data set, or damaged.
    OSError: `out` cannot be written.
  """
  out = pathlib.Path(out)
  found: dict[int, _Image] = {}
  names: dict[int, str] = {}
  for folder in folders:
    for name, image, png in _images(pathlib.Path(folder)):
      number = _number(name)
      if names.setdefault(number, name) != name:
        raise errors.DataError(
          f'{folder}: {name} and {names[number]} would have one number, '
          f'{number}: export the data sets into two folders'
        )
      if number in found:
        found[number].pathologies |= image.pathologies
        found[number].assessments |= image.assessments
        continue
      found[number] = image
      path = out / 'train_images' / str(image.patient) / f'{number}.png'
      if not path.is_file() or path.stat().st_size != len(png):
        files.write_bytes(path, png)
  table_lib.write_csv(out / 'train.csv', _table(found), kind='train')
  return len(found)


def _table(found: dict[int, _Image]) -> table_lib.Table:
  numbers = sorted(found, key=lambda number: (found[number].patient, number))
  images = [found[number] for number in numbers]
  cancer = [int(MALIGNANT in image.pathologies) for image in images]
  return table_lib.Table.from_columns(
    {
      'site_id': [SITE] * len(images),
      'patient_id': [image.patient for image in images],
      'image_id': numbers,
      'laterality': [image.laterality for image in images],
      'view': [image.view for image in images],
      'cancer': cancer,
      'BIRADS': [max(image.assessments) for image in images],
      'difficult_negative_case': [
        int(BENIGN in image.pathologies and not sick)
        for image, sick in zip(images, cancer, strict=True)
      ],
    }
  )


def _number(name: str) -> int:
  """An image_id that hangs on the name alone; RSNA's table has such ones."""
  digest = hashlib.sha256(name.encode()).digest()
  return (1 << _BITS) + int.from_bytes(digest[:4], 'big') % (1 << _BITS)


def _images(folder: pathlib.Path) -> Iterator[tuple[str, _Image, bytes]]:
  """Name, labels and PNG of each example of a prepared data set."""
  info = _info(folder)
  total = sum(int(n) for split in info['splits'] for n in split['shardLengths'])
  with progress.Progress(total, 'cbis-ddsm', 'images') as bar:
    for split in info['splits']:
      lengths = list(map(int, split['shardLengths']))
      for i, length in enumerate(lengths):
        path = folder / (
          f'{NAME}-{split["name"]}.{info["fileFormat"]}-{i:05d}-of-'
          f'{len(lengths):05d}'
        )
        for record in _records(path, info['fileFormat'], length):
          yield _parse(path, record)
          bar.advance()


def _info(folder: pathlib.Path) -> dict:
  """dataset_info.json, of which splits, fileFormat and name are checked."""
  path = folder / 'dataset_info.json'
  try:
    info = json.loads(path.read_text('utf-8'))
    name, kind = info['name'], info.get('configName', folder.parent.name)
    ok = name == NAME and kind.startswith('original-')
    _ = [split['shardLengths'] for split in info['splits']], info['fileFormat']
  except FileNotFoundError:
    raise errors.DataError(
      f'{path}: no such file: give the folder of a version, such as '
      f'{NAME}/original-mass/3.0.0'
    ) from None
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.DataError(
      f'{path}: {error}: run tfds build {NAME} again'
    ) from error
  if not ok:
    raise errors.DataError(
      f'{folder}: {name}/{kind}: give {NAME}/original-mass or original-calc, '
      'which hold whole mammograms'
    )
  return info


def _records(path: pathlib.Path, kind: str, length: int) -> Iterator[bytes]:
  """The records of a shard, one after the other."""
  count = 0
  if kind == 'array_record':
    shards = records.Shards([str(path)], [length])
    for i in range(length):
      count += 1
      yield shards.read([i])[0]
  elif kind == 'tfrecord':
    for record in _tfrecords(path):
      count += 1
      yield record
  else:
    raise errors.DataError(
      f'{path}: files of {kind}: build it with tfrecord or array_record'
    )
  if count != length:
    raise errors.DataError(
      f'{path}: {count} of {length} examples: copy the data set again'
    )


def _tfrecords(path: pathlib.Path) -> Iterator[bytes]:
  """Length (8 bytes), its checksum (4), the record, and its checksum (4)."""
  try:
    with path.open('rb') as file:
      while head := file.read(12):
        (size,) = struct.unpack('<Q', head[:8])
        body = file.read(size) if len(head) == 12 and size < 1 << 32 else b''
        if len(body) < size or len(file.read(4)) < 4:
          raise errors.DataError(f'{path}: cut short: copy the data set again')
        yield body
  except OSError as error:
    raise errors.DataError(
      f'{path}: {error.strerror}: copy the data set again'
    ) from error


def _parse(path: pathlib.Path, record: bytes) -> tuple[str, _Image, bytes]:
  try:
    example = records.parse_example(record)
    name = example['id'][0].decode()
    patient = example['patient'][0].decode()
    image = _Image(
      patient=FIRST_PATIENT + int(patient.removeprefix('P_')),
      laterality=BREASTS[example['breast'][0]],
      view=VIEWS[example['view'][0]],
      pathologies=set(example['abnormalities/pathology']),
      assessments=set(example['abnormalities/assessment']),
    )
    if not image.pathologies or not image.assessments:
      raise ValueError(f'{name} has no finding')
    return name, image, example['image'][0]
  except (ValueError, KeyError, IndexError, UnicodeError) as error:
    raise errors.DataError(
      f'{path}: {error!r}: an example that {NAME} does not write: build it '
      'again'
    ) from error
