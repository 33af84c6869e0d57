"""From the elements of a DICOM header to what a frame and a Mammogram need.

What decides how much memory is taken is checked and bounded. Of the rest, what
no viewer could use (a width of 0, a slope that is not a number, a LUT shorter
than its descriptor) counts as absent, so the picture stays finite.
"""

from typing import Any

import pydicom

from rsna_jax.data import (
  codestream,
  dicom_attributes,
  functional_groups,
  grey_fields,
  header_values,
  mammogram,
)

HeaderError = header_values.HeaderError

MAX_FRAMES = 2_000

# All that is ever read of a header: names and birth dates never enter.
KEYWORDS = (
  *dicom_attributes.KEYWORDS,
  'SOPClassUID',
  'Modality',
  'PresentationIntentType',
  'SamplesPerPixel',
  'PhotometricInterpretation',
  'PlanarConfiguration',
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
  'WindowCenterWidthExplanation',
  'VOILUTFunction',
  'PresentationLUTShape',
  'RedPaletteColorLookupTableDescriptor',
  'GreenPaletteColorLookupTableDescriptor',
  'BluePaletteColorLookupTableDescriptor',
  'RedPaletteColorLookupTableData',
  'GreenPaletteColorLookupTableData',
  'BluePaletteColorLookupTableData',
  'LossyImageCompression',
  'BurnedInAnnotation',
  'BodyPartExamined',
  'ImageType',
  'SharedFunctionalGroupsSequence',
  'PerFrameFunctionalGroupsSequence',
  'ExtendedOffsetTable',
  'ExtendedOffsetTableLengths',
)
INTENTS = ('', 'FOR PRESENTATION', 'FOR PROCESSING')
MONOCHROME = ('MONOCHROME1', 'MONOCHROME2')
# Objects that name their intent by their class alone (PS3.4 B.5): X-ray,
# mammography, intra-oral, breast projection.
_CLASSES = {
  f'1.2.840.10008.5.1.4.1.1.{end}': intent
  for intent, ends in (
    ('FOR PRESENTATION', ('1.1', '1.2', '1.3', '13.1.4')),
    ('FOR PROCESSING', ('1.1.1', '1.2.1', '1.3.1', '13.1.5')),
  )
  for end in ends
}


def frames(
  header: pydicom.Dataset, checked: bool = False
) -> tuple[codestream.Frame, int]:
  """What the header says of each frame, and how many there are.

  Args:
    header: the elements of `KEYWORDS`, as far as there are any.
    checked: whether colour and the high bit are seen to (`colour.layout`);
      else none but greyscale from bit 0 is taken.

  Raises:
    HeaderError: a value is missing, absurd, or not a mammogram's.
  """
  number = header_values.number
  if 'Rows' not in header and 'Columns' not in header:
    raise HeaderError('no pixels: Rows and Columns are missing', about='size')
  rows, columns = number(header, 'Rows'), number(header, 'Columns')
  if min(rows, columns) < 1 or rows * columns > mammogram.MAX_PIXELS:
    raise HeaderError(
      f'Rows={rows}, Columns={columns}: a frame has 1 to '
      f'{mammogram.MAX_PIXELS} pixels',
      about='size',
    )
  count = number(header, 'NumberOfFrames', 1)
  if not 1 <= count <= MAX_FRAMES:
    raise HeaderError(
      f'NumberOfFrames={count}: 1 to {MAX_FRAMES} are read', about='frames'
    )
  if not checked:
    _check_plain(header)
  allocated = number(header, 'BitsAllocated')
  stored = number(header, 'BitsStored', allocated)
  if allocated not in (8, 16) or not 1 <= stored <= allocated:
    raise HeaderError(
      f'BitsAllocated={allocated}, BitsStored={stored}: 8 or 16 bits, and no '
      'more stored than allocated, are read',
      about='bits',
    )
  high = number(header, 'HighBit', stored - 1)
  if high != stored - 1 and not checked:
    raise HeaderError(
      f'HighBit={high}: has to be {stored - 1}, BitsStored - 1', about='bits'
    )
  representation = number(header, 'PixelRepresentation', 0)
  if representation not in (0, 1):
    raise HeaderError(
      f'PixelRepresentation={representation}: choose 0 or 1', about='bits'
    )
  frame = codestream.Frame(
    rows=rows,
    columns=columns,
    bits_allocated=allocated,
    bits_stored=stored,
    signed=bool(representation),
  )
  return frame, count


def fields(header: pydicom.Dataset, frame: int = 0) -> dict[str, Any]:
  """Keyword arguments of a Mammogram, save `pixels`, `name` and `encoding`.

  Args:
    header: the elements of `KEYWORDS`, as far as there are any.
    frame: number of the frame, from 0; multi-frame objects say frame by frame
      how it is to be shown.
  """
  photometric = header_values.text(header, 'PhotometricInterpretation')
  groups = functional_groups.of(header, frame)
  found = {
    'photometric': photometric,
    'attributes': dicom_attributes.attributes(header, groups),
    'presentation_intent': _intent(header),
  }
  if photometric not in MONOCHROME:
    # Colour is reduced to luma of 8 bits, which is shown as it is. Like any
    # exported picture it does not say whether dark and bright were exchanged.
    return found | {
      'photometric': '',
      'bits_stored': 8,
      'windows': ((128.0, 256.0),),
      'warnings': (
        f'PhotometricInterpretation={photometric[:16]}: reduced to luma '
        '(ITU-R BT.601)',
      ),
    }
  return found | grey_fields.grey_fields(header, groups)


def encoding(header: pydicom.Dataset) -> dict[str, Any]:
  """Plain values that tell how the pixels are stored, as the header has it."""
  found: dict[str, Any] = {
    name: int(value[0])
    for name, keyword in (
      ('bits_allocated', 'BitsAllocated'),
      ('bits_stored', 'BitsStored'),
      ('high_bit', 'HighBit'),
      ('samples', 'SamplesPerPixel'),
    )
    if (value := header_values.numbers(header, keyword))
  }
  lossy = header_values.text(header, 'LossyImageCompression')
  if lossy in ('00', '01'):
    found['lossy'] = lossy == '01'
  return found


def _check_plain(header: pydicom.Dataset) -> None:
  samples = header_values.number(header, 'SamplesPerPixel', 1)
  if samples != 1:
    raise HeaderError(
      f'SamplesPerPixel={samples}: a mammogram has 1', about='bits'
    )
  photometric = header_values.text(header, 'PhotometricInterpretation')
  if photometric not in MONOCHROME:
    raise HeaderError(
      f'PhotometricInterpretation={photometric[:16]!r}: a mammogram has '
      'MONOCHROME1 or MONOCHROME2',
      about='bits',
    )


def _intent(header: pydicom.Dataset) -> str:
  named = header_values.one_of(header, 'PresentationIntentType', INTENTS)
  return named or _CLASSES.get(header_values.text(header, 'SOPClassUID'), '')
