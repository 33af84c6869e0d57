"""Small layouts in RSNA's form, and what `prepare` made of them."""

import collections
import csv

import numpy as np
import pydicom
import tensorflow_datasets as tfds
from PIL import Image

from rsna_jax import schema
from rsna_jax.data import convert, preprocess, records

SPEC = preprocess.Spec(size=(64, 32))


def breast(seed, shape=(300, 250)):
  """A half ellipse at the left edge, with some texture."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[: shape[0], : shape[1]]
  inside = ((y - shape[0] / 2) / 120) ** 2 + (x / 160) ** 2 < 1
  return np.where(inside, rng.integers(90, 220, shape), 3).astype(np.uint8)


def save(path, seed):
  Image.fromarray(breast(seed)).save(path)


def row_text(i, cancer=0):
  laterality = 'LR'[i % 2]
  return (
    f'1,{i // 2},{1000 + i},{laterality},CC,{40 + i},{cancer},0,0,,0,B,49,False'
  )


def write_rsna(folder, n, split='train', suffix='.png'):
  header = ','.join(schema.TRAIN_COLUMNS)
  folder.mkdir(parents=True, exist_ok=True)
  lines = [header, *(row_text(i, cancer=int(i % 3 == 0)) for i in range(n))]
  (folder / f'{split}.csv').write_text('\n'.join(lines) + '\n')
  for i in range(n):
    path = folder / f'{split}_images' / str(i // 2) / f'{1000 + i}{suffix}'
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == '.dcm':
      write_dicom(path, breast(i))
    else:
      Image.fromarray(breast(i)).save(path)
  return folder


def write_dicom(path, pixels):
  found = pydicom.Dataset()
  found.file_meta = pydicom.dataset.FileMetaDataset()
  found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  found.SOPClassUID = '1.2.840.10008.5.1.4.1.1.1.2'
  found.SOPInstanceUID = '1.2.3.4'
  found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
  found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
  found.PhotometricInterpretation = 'MONOCHROME2'
  found.SamplesPerPixel = 1
  found.Rows, found.Columns = pixels.shape
  found.BitsAllocated, found.BitsStored, found.HighBit = 16, 12, 11
  found.PixelRepresentation = 0
  found.PixelData = (pixels.astype(np.uint16) * 16).tobytes()
  found.save_as(path, enforce_file_format=True)


def prepare(src, out, **kwargs):
  return convert.prepare(src, out, spec=SPEC, **{'workers': 1, **kwargs})


def records_of(folder):
  info = tfds.builder_from_directory(folder).info.splits['train']
  shards = records.Shards(
    [str(path) for path in sorted(folder.glob('*.array_record-*'))],
    info.shard_lengths,
  )
  found = shards.read(range(len(shards)))
  return [records.parse_example(record) for record in found]


def skipped_of(folder):
  with (folder / 'skipped.csv').open(newline='') as file:
    return list(csv.DictReader(file))


def manifest_of(folder):
  with (folder / 'manifest.csv').open(newline='') as file:
    return list(csv.DictReader(file))


def shards_of(folder):
  """Inode and time of writing of each shard, by the images in it."""
  images = collections.defaultdict(list)
  for entry in manifest_of(folder):
    images[entry['shard']].append(int(entry['image_id']))
  found = {}
  for name, ids in images.items():
    state = (folder / name).stat()
    found[tuple(ids)] = (state.st_ino, state.st_mtime_ns)
  return found


def states(folder):
  """What tells of each file below a folder whether it was written."""
  found = {path: path.stat() for path in folder.rglob('*')}
  return {path: (x.st_ino, x.st_mtime_ns) for path, x in found.items()}


def unfinished(out):
  return out / 'rsna_mammography/64x32/1.0.0.unfinished'
