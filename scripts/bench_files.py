"""The files that the benchmarks of decoding read: made-up ones and real ones.

Sizes in bytes are like those of the RSNA set (315 GB in 54,706 files), since
most of the time goes to entropy decoding, which goes by the bit. So is the
place of the breast, by which the level to decode is chosen: 0.90 of the height
and 0.57 of the width on average, 0.90 and 0.56 in 151 pictures of rsna640.
"""

import dataclasses
import itertools
import os
import pathlib

import numpy as np
import pydicom
from pydicom import uid

from rsna_jax.data import phantom_dicom, phantom_image

RSNA_BYTES = 315e9 / 54_706  # of a file, on average
DATA = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA')
  or pathlib.Path(__file__).parents[2] / 'shared' / 'data'
)
_J2K, _SV1 = str(uid.JPEG2000Lossless), str(uid.JPEGLosslessSV1)
CODECS = {_J2K: 'JPEG 2000', _SV1: 'JPEG lossless'}
# Deviation of the noise at white, in stored values: gives 5.80 MB on average.
_NOISE = 13.0
_SMALL, _MIDDLE, _LARGE = (2294, 1914), (4096, 3328), (5928, 4728)


def _machine(size: tuple[int, int], **changes) -> phantom_dicom.Machine:
  values = {
    'site_id': 1,
    'weight': 1,
    'size': size,
    'bits': 12,
    'low': 0,
    'high': 4095,
    'syntax': '',
    'window_center': (2048,),
    'window_width': (4096,),
  } | changes
  values['noise'] = _NOISE / abs(values['high'] - values['low'])
  return phantom_dicom.Machine(**values)


# As at RSNA's machine, padding is shown as 0.01 of white by this window.
_INVERTED = {
  'low': 3140,
  'high': 460,
  'window_center': (1802.31, 1802.31, 2020.704),
  'window_width': (1239.97, 1239.97, 1239.97),
  'voi_function': 'SIGMOID',
}
# Three sizes, both polarities; 16 bits and JP2 boxes where RSNA has them.
MACHINES = (
  _machine(_SMALL, container=True, coded_bits=16),
  _machine(_SMALL, **_INVERTED),
  _machine(_MIDDLE, voi_function='LINEAR'),
  _machine(_MIDDLE, **_INVERTED),
  _machine(_LARGE),
  _machine(_LARGE, bits=16, **_INVERTED),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
  """A file of a benchmark."""

  path: str
  codec: str
  size: str
  photometric: str
  bytes: int


def synthetic(folder: pathlib.Path) -> list[File]:
  """Each picture in both codecs, made in `folder` where it is not yet."""
  folder.mkdir(parents=True, exist_ok=True)
  for number, machine in enumerate(MACHINES):
    paths = {s: folder / _name(machine, s) for s in CODECS}
    if all(path.exists() for path in paths.values()):
      continue
    pixels = _pixels(number, machine)
    for syntax, path in paths.items():
      print(f'making {path}', flush=True)
      data = phantom_dicom.encode(
        pixels,
        dataclasses.replace(machine, syntax=syntax),
        patient_id=1,
        image_id=number + 1,
        laterality='LR'[number % 2],
      )
      part = path.with_suffix('.part')
      part.write_bytes(data)
      part.replace(path)
  return [
    _file(folder / _name(machine, syntax))
    for machine, syntax in itertools.product(MACHINES, CODECS)
  ]


def real(folder: pathlib.Path = DATA) -> list[File]:
  """RSNA's files as they are, and as JPEG lossless; none where absent."""
  paths = sorted(folder.glob('rsna_dicom/*_images/*/*.dcm'))
  paths += sorted(folder.glob('rsna_transcoded/*_sv1_70.dcm'))
  return [_file(path) for path in paths]


def _name(machine: phantom_dicom.Machine, syntax: str) -> str:
  rows, columns = machine.size
  return f'{rows}x{columns}_{machine.photometric}_{syntax[-2:]}.dcm'


def _file(path: pathlib.Path) -> File:
  ds = pydicom.dcmread(path, stop_before_pixels=True)
  return File(
    path=str(path),
    codec=CODECS[str(ds.file_meta.TransferSyntaxUID)],
    size=f'{ds.Rows}x{ds.Columns}',
    photometric=ds.PhotometricInterpretation,
    bytes=path.stat().st_size,
  )


def _pixels(number: int, machine: phantom_dicom.Machine) -> np.ndarray:
  rng = np.random.default_rng([7, number])
  picture = phantom_image.render(
    phantom_image.Anatomy(density=2 + number % 3, cysts=1, coarse=1, vessels=3),
    view=('MLO', 'CC')[number // 2 % 2],
    shape=machine.size,
    rng=rng,
    noise=machine.noise,
  )
  return phantom_dicom.stored_values(
    picture.values,
    picture.breast,
    machine,
    chest_side=('left', 'right')[number % 2],
    label=('L MLO', 'R CC')[number % 2],
    rng=rng,
  )
