"""From the elements of a DICOM header to what a frame and a Mammogram need.

What decides how much memory is taken is checked and bounded. Of the rest, what
no viewer could use (a width of 0, a slope that is not a number, a LUT shorter
than its descriptor) counts as absent, so the picture stays finite.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pydicom

from rsna_jax.data import codestream, mammogram

MAX_FRAMES = 2_000

# All that is ever read of a header: names and birth dates never enter.
KEYWORDS = (
  'Modality',
  'PatientID',
  'PatientAge',
  'InstanceNumber',
  'ImageLaterality',
  'Laterality',
  'ViewPosition',
  'BreastImplantPresent',
  'SamplesPerPixel',
  'PhotometricInterpretation',
  'NumberOfFrames',
  'Rows',
  'Columns',
  'BitsAllocated',
  'BitsStored',
  'HighBit',
  'PixelRepresentation',
  'PixelPaddingValue',
  'PixelPaddingRangeLimit',
  'RescaleSlope',
  'RescaleIntercept',
  'ModalityLUTSequence',
  'VOILUTSequence',
  'WindowCenter',
  'WindowWidth',
  'VOILUTFunction',
  'PresentationLUTShape',
  'ExtendedOffsetTable',
  'ExtendedOffsetTableLengths',
)
VOI_FUNCTIONS = ('LINEAR', 'LINEAR_EXACT', 'SIGMOID')
_YEARS = {'Y': 1.0, 'M': 1 / 12, 'W': 7 / 365.25, 'D': 1 / 365.25}


class HeaderError(ValueError):
  """A header that no mammogram has."""


def frames(header: pydicom.Dataset) -> tuple[codestream.Frame, int]:
  """What the header says of each frame, and how many there are.

  Raises:
    HeaderError: a value is missing, absurd, or not a mammogram's.
  """
  if 'Rows' not in header and 'Columns' not in header:
    raise HeaderError('no pixels: Rows and Columns are missing')
  rows, columns = _number(header, 'Rows'), _number(header, 'Columns')
  if min(rows, columns) < 1 or rows * columns > mammogram.MAX_PIXELS:
    raise HeaderError(
      f'Rows={rows}, Columns={columns}: a frame has 1 to '
      f'{mammogram.MAX_PIXELS} pixels'
    )
  count = _number(header, 'NumberOfFrames', 1)
  if not 1 <= count <= MAX_FRAMES:
    raise HeaderError(f'NumberOfFrames={count}: 1 to {MAX_FRAMES} are read')
  samples = _number(header, 'SamplesPerPixel', 1)
  if samples != 1:
    raise HeaderError(f'SamplesPerPixel={samples}: a mammogram has 1')
  photometric = _text(header.get('PhotometricInterpretation'))
  if photometric not in ('MONOCHROME1', 'MONOCHROME2'):
    raise HeaderError(
      f'PhotometricInterpretation={photometric[:16]!r}: a mammogram has '
      'MONOCHROME1 or MONOCHROME2'
    )
  allocated = _number(header, 'BitsAllocated')
  stored = _number(header, 'BitsStored', allocated)
  if allocated not in (8, 16) or not 1 <= stored <= allocated:
    raise HeaderError(
      f'BitsAllocated={allocated}, BitsStored={stored}: 8 or 16 bits, and no '
      'more stored than allocated, are read'
    )
  high = _number(header, 'HighBit', stored - 1)
  if high != stored - 1:
    raise HeaderError(f'HighBit={high}: has to be {stored - 1}, BitsStored - 1')
  representation = _number(header, 'PixelRepresentation', 0)
  if representation not in (0, 1):
    raise HeaderError(f'PixelRepresentation={representation}: choose 0 or 1')
  frame = codestream.Frame(
    rows=rows,
    columns=columns,
    bits_allocated=allocated,
    bits_stored=stored,
    signed=bool(representation),
  )
  return frame, count


def fields(header: pydicom.Dataset) -> dict[str, Any]:
  """Keyword arguments of a Mammogram, save `pixels` and `name`."""
  signed = header.get('PixelRepresentation') == 1
  stored = int(header.get('BitsStored') or header.BitsAllocated)
  slope = _numbers(header.get('RescaleSlope'))[:1]
  intercept = _numbers(header.get('RescaleIntercept'))[:1]
  slope = slope[0] if slope and 1e-30 < abs(slope[0]) < 1e30 else 1.0
  intercept = intercept[0] if intercept and abs(intercept[0]) < 1e30 else 0.0
  modality_luts = _luts(header.get('ModalityLUTSequence'), signed)
  # The VOI LUT takes what the modality transform gives, so its sign counts.
  negative = signed if not modality_luts else False
  negative |= slope < 0 or intercept < 0
  windows = tuple(
    (center, width)
    for center, width in zip(
      _numbers(header.get('WindowCenter')),
      _numbers(header.get('WindowWidth')),
      strict=False,
    )
  )
  return {
    'photometric': str(header.PhotometricInterpretation).strip(),
    'attributes': attributes(header),
    'rescale_slope': slope,
    'rescale_intercept': intercept,
    'modality_lut': modality_luts[0] if modality_luts else None,
    'voi_luts': _luts(header.get('VOILUTSequence'), negative),
    'windows': windows,
    'voi_function': _one_of(header.get('VOILUTFunction'), VOI_FUNCTIONS),
    'padding': _padding(header, signed, stored),
    'bits_stored': stored,
    'signed': signed,
    'presentation_lut_shape': str(
      header.get('PresentationLUTShape') or ''
    ).strip(),
  }


def attributes(header: pydicom.Dataset) -> dict[str, Any]:
  """Plain values of the few elements that are allowed to leave the header."""
  found: dict[str, Any] = {}
  patient = _text(header.get('PatientID'))[:64]
  if patient:
    found['patient_id'] = int(patient) if _is_integer(patient) else patient
  image = _text(header.get('InstanceNumber'))
  if _is_integer(image):
    found['image_id'] = int(image)
  for keyword in ('ImageLaterality', 'Laterality'):
    side = _text(header.get(keyword)).upper()
    if side in ('L', 'R'):
      found['laterality'] = side
      break
  view = _text(header.get('ViewPosition')).upper()
  if view.isalnum() and view.isascii() and len(view) <= 8:
    found['view'] = view
  age = _text(header.get('PatientAge')).upper()
  if age[:-1].isdecimal() and len(age) <= 4 and age[-1] in _YEARS:
    found['age'] = int(age[:-1]) * _YEARS[age[-1]]
  implant = _text(header.get('BreastImplantPresent')).upper()
  if implant in ('YES', 'NO'):
    found['implant'] = int(implant == 'YES')
  return found


def _number(
  header: pydicom.Dataset, keyword: str, default: int | None = None
) -> int:
  try:
    value = header.get(keyword)
    return int(default if value in (None, '') else value)
  # pydicom converts a value when it is asked for, with errors of many kinds.
  except Exception as error:
    raise HeaderError(f'{keyword} is missing or is no number') from error


def _padding(
  header: pydicom.Dataset, signed: bool, bits: int
) -> tuple[int, int] | None:
  value = _numbers(header.get('PixelPaddingValue'))
  if not value:
    return None
  limit = _numbers(header.get('PixelPaddingRangeLimit')) or value
  ends = sorted(int(end) for end in (value[0], limit[0]))
  if signed:
    # Written unsigned by some; or by us, where the element's type was unknown.
    ends = sorted(e - (1 << 16) if e > 0x7FFF else e for e in ends)
  elif ends[0] < 0:
    ends = sorted(e % (1 << max(bits, 16)) for e in ends)
  return ends[0], ends[1]


def _luts(sequence, negative: bool) -> tuple[mammogram.Lut, ...]:
  luts = []
  for item in sequence or ():
    descriptor = [int(v) for v in _numbers(item.get('LUTDescriptor'))]
    data = item.get('LUTData')
    if len(descriptor) != 3 or data is None:
      continue
    count, first, bits = descriptor
    count = (count % (1 << 16)) or 1 << 16
    if negative and first > 0x7FFF:
      first -= 1 << 16
    elif not negative:
      first %= 1 << 16
    values = _lut_values(data, count)
    if values is None or not 8 <= bits <= 16:
      continue
    luts.append(mammogram.Lut(first=first, values=values, bits=bits))
  return tuple(luts)


def _lut_values(data, count: int) -> np.ndarray | None:
  if isinstance(data, bytes | bytearray):
    wide = len(data) >= 2 * count
    values = np.frombuffer(data, '<u2' if wide else 'u1')
  else:
    values = np.atleast_1d(np.asarray(data))
  if values.ndim != 1 or values.dtype.kind not in 'iu' or len(values) < count:
    return None
  return (values[:count].astype(np.int64) % (1 << 16)).astype(np.float64)


def _numbers(value) -> list[float]:
  """The finite numbers of an element, up to the first that is none."""
  if value is None or value == '':
    return []
  if isinstance(value, str | bytes) or not isinstance(value, Iterable):
    value = [value]
  found = []
  for item in value:
    try:
      number = float(item)
    except (TypeError, ValueError, OverflowError):
      break
    if not math.isfinite(number):
      break
    found.append(number)
  return found


def _text(value) -> str:
  if value is None or isinstance(value, bytes):
    return ''
  return str(value).strip('\0 \t\r\n')


def _one_of(value, choices: tuple[str, ...]) -> str:
  text = _text(value).upper()
  return text if text in choices else choices[0]


def _is_integer(text: str) -> bool:
  return text.isascii() and text.isdecimal() and len(text) <= 18
