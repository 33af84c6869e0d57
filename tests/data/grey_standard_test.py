"""The grey chain, from DICOM bytes, against the formulas of PS3.3.

The reference below computes value by value in plain Python from the standard's
text; it shares nothing with the code but the elements of the header.
"""

import io
import math
import struct
import warnings

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from rsna_jax.data import dicom, grey, mammogram

SYNTAXES = (
  uid.ExplicitVRLittleEndian,
  uid.ImplicitVRLittleEndian,
  uid.ExplicitVRBigEndian,
)
RAMP = np.arange(4096).reshape(64, 64).astype(np.uint16)
SIGNED = (np.arange(4096) - 2048).reshape(64, 64).astype(np.int16)


def written(pixels, syntax=SYNTAXES[0], raw=None, **elements) -> bytes:
  """A DICOM file; `elements` come last, and None leaves one out."""
  ds = Dataset()
  ds.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
  ds.SOPInstanceUID = '1.2.3'
  ds.SamplesPerPixel = 1
  ds.PhotometricInterpretation = 'MONOCHROME2'
  ds.Rows, ds.Columns = pixels.shape
  ds.BitsAllocated = 8 * pixels.itemsize
  ds.BitsStored = 8 if pixels.itemsize == 1 else 12
  ds.HighBit = ds.BitsStored - 1
  ds.PixelRepresentation = int(pixels.dtype.kind == 'i')
  for keyword, value in elements.items():
    if value is None:
      delattr(ds, keyword)
    elif isinstance(value, pydicom.DataElement):
      ds.add(value)
    else:
      setattr(ds, keyword, value)
  order = '<' if syntax.is_little_endian else '>'
  words = pixels.astype(pixels.dtype.newbyteorder(order))
  ds.add_new('PixelData', 'OW', words.tobytes() if raw is None else raw)
  ds.file_meta = FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = syntax
  ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
  ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
  out = io.BytesIO()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    pydicom.dcmwrite(
      out,
      ds,
      enforce_file_format=True,
      implicit_vr=syntax.is_implicit_VR,
      little_endian=syntax.is_little_endian,
    )
  return out.getvalue()


def read(pixels, syntax=SYNTAXES[0], **elements) -> mammogram.Mammogram:
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return dicom.read_mammogram(written(pixels, syntax, **elements))


def table(first, values, bits, syntax=SYNTAXES[0], signed=False, wide=True):
  """An item of a LUT sequence, its entries in the file's own byte order."""
  item = Dataset()
  kind = 'SS' if signed else 'US'
  count = len(values) % 65536
  if signed and count > 0x7FFF:
    count -= 65536
  item.add_new('LUTDescriptor', kind, [count, first, bits])
  order = '<' if syntax.is_little_endian else '>'
  data = struct.pack(f'{order}{len(values)}{"H" if wide else "B"}', *values)
  item.add_new('LUTData', 'OW', data)
  return item


def entry(lut, x):
  """C.11.1.1.1, C.11.2.1.1: ends map what lies beyond them."""
  first, values = lut
  return values[min(max(int(x) - first, 0), len(values) - 1)]


def windowed(x, center, width, function):
  """C.11.2.1.2.1, C.11.2.1.3.1, C.11.2.1.3.2 for an output from 0 to 1."""
  if function == 'SIGMOID':
    return 1 / (1 + math.exp(-4 * (x - center) / width))
  if function == 'LINEAR_EXACT':
    if x <= center - width / 2:
      return 0.0
    if x > center + width / 2:
      return 1.0
    return (x - center) / width + 0.5
  if x <= center - 0.5 - (width - 1) / 2:
    return 0.0
  if x > center - 0.5 + (width - 1) / 2:
    return 1.0
  return (x - (center - 0.5)) / (width - 1) + 0.5


def expected(
  pixels,
  slope=1.0,
  intercept=0.0,
  modality=None,
  voi=None,
  bits=16,
  window=None,
  function='LINEAR',
  inverse=False,
  padding=None,
):
  """The whole chain, one stored value after the other."""
  values = [int(x) for x in pixels.ravel()]
  inside = [
    x for x in values if padding is None or not padding[0] <= x <= padding[1]
  ]

  def rescaled(x):
    return entry(modality, x) if modality else slope * x + intercept

  low = min(map(rescaled, inside))
  high = max(map(rescaled, inside))
  out = []
  for x in values:
    if padding is not None and padding[0] <= x <= padding[1]:
      out.append(0.0)
      continue
    y = rescaled(x)
    if voi:
      shown = entry(voi, y) / (2**bits - 1)
    elif window:
      shown = windowed(y, *window, function)
    else:
      shown = (y - low) / (high - low)
    shown = min(max(shown, 0.0), 1.0)
    out.append(1 - shown if inverse else shown)
  return np.array(out).reshape(pixels.shape)


def check(image, reference, atol=3e-7):
  shown = grey.presentation(image)
  assert shown.dtype == np.float32
  assert np.isfinite(shown).all()
  np.testing.assert_allclose(shown, reference, atol=atol)


WINDOWS = {
  'plain': (2048.0, 4096.0, 'LINEAR'),
  'half counts': (2048.5, 1001.0, 'LINEAR'),
  'width 2': (2048.0, 2.0, 'LINEAR'),
  'width 1': (2048.0, 1.0, 'LINEAR'),
  'below the values': (-500.0, 300.0, 'LINEAR'),
  'above the values': (9000.0, 300.0, 'LINEAR'),
  'exact': (2048.0, 4096.0, 'LINEAR_EXACT'),
  'exact, width 1': (2048.0, 1.0, 'LINEAR_EXACT'),
  'exact, width under 1': (2048.25, 0.5, 'LINEAR_EXACT'),
  'sigmoid': (2048.0, 1000.0, 'SIGMOID'),
  'steep sigmoid': (2048.0, 90.0, 'SIGMOID'),
}


@pytest.mark.parametrize('case', WINDOWS)
@pytest.mark.parametrize(
  'slope, intercept', [(1, 0), (2, -1000), (-1, 4095), (-0.5, 100)]
)
def test_windows_act_on_rescaled_values(case, slope, intercept):
  center, width, function = WINDOWS[case]
  image = read(
    RAMP,
    RescaleSlope=str(slope),
    RescaleIntercept=str(intercept),
    WindowCenter=str(center),
    WindowWidth=str(width),
    VOILUTFunction=function,
  )
  check(
    image,
    expected(
      RAMP,
      slope,
      intercept,
      window=(center, width),
      function=function,
    ),
    # A steep curve magnifies the rounding of single precision.
    atol=1e-6,
  )


def test_every_branch_of_the_linear_window_is_where_the_standard_has_it():
  pixels = np.arange(95, 107, dtype=np.uint16).reshape(1, -1)
  shown = grey.presentation(read(pixels, WindowCenter='101', WindowWidth='5'))
  # c - 0.5 = 100.5, (w - 1) / 2 = 2: black to 98.5, white from 102.5.
  np.testing.assert_allclose(
    shown[0], [0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]
  )


def test_the_first_of_several_windows_counts_and_all_names_are_kept():
  image = read(
    RAMP,
    WindowCenter=['1000', '2000', '3000'],
    WindowWidth=['500', '800', '900'],
    WindowCenterWidthExplanation=['NORMAL', 'HARDER', 'SOFTER'],
  )
  assert image.windows == ((1000, 500), (2000, 800), (3000, 900))
  assert image.window_explanations == ('NORMAL', 'HARDER', 'SOFTER')
  check(image, expected(RAMP, window=(1000, 500)))
  one = read(
    RAMP,
    WindowCenter='1000',
    WindowWidth='500',
    WindowCenterWidthExplanation='NORMAL',
  )
  assert one.window_explanations == ('NORMAL',)
  assert read(RAMP).window_explanations == ()


def test_an_explanation_too_long_for_a_name_does_not_leave_the_header():
  image = read(
    RAMP,
    WindowCenter=['1', '2'],
    WindowWidth=['5', '5'],
    WindowCenterWidthExplanation=['A' * 33, 'SOFT'],
  )
  assert image.window_explanations == ('', 'SOFT')


@pytest.mark.parametrize(
  'center, width',
  [
    ('2000', '0'),
    ('2000', '-400'),
    ('2000', 'nan'),
    ('nan', '400'),
    ('inf', '400'),
    ('2000', 'inf'),
    ('1e300', '1e300'),
    ('2000', '0.5'),
    ('hello', '400'),
    ('2000', ''),
    ('', ''),
    ('1e400', '400'),
  ],
)
def test_a_window_that_is_none_leaves_the_range_of_the_values(center, width):
  elements = {
    name: pydicom.DataElement(name, 'DS', None)
    for name in ('WindowCenter', 'WindowWidth')
  }
  for name, value in (('WindowCenter', center), ('WindowWidth', width)):
    elements[name]._value = value
  image = read(RAMP, **elements)
  check(image, expected(RAMP))


def test_a_usable_window_counts_where_the_first_one_is_none():
  elements = {'WindowCenter': ['5', '1000'], 'WindowWidth': ['0', '500']}
  check(read(RAMP, **elements), expected(RAMP, window=(1000, 500)))
  width = pydicom.DataElement('WindowWidth', 'DS', None)
  width._value = 'nan\\500'
  image = read(
    RAMP,
    WindowCenter=['5', '1000'],
    WindowWidth=width,
    WindowCenterWidthExplanation=['BAD', 'GOOD'],
  )
  assert image.windows == ((1000, 500),)
  assert image.window_explanations == ('GOOD',)


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize('pixels', [RAMP, SIGNED], ids=['unsigned', 'signed'])
def test_a_modality_lut_takes_the_place_of_the_slope(syntax, pixels):
  values = [int(40000 * (1 + math.sin(i / 50)) / 2) for i in range(3000)]
  first = -900 if pixels is SIGNED else 700
  item = table(first, values, 16, syntax, signed=pixels is SIGNED)
  image = read(
    pixels,
    syntax,
    ModalityLUTSequence=Sequence([item]),
    RescaleSlope='7',
    WindowCenter='20000',
    WindowWidth='30000',
  )
  check(
    image,
    expected(pixels, modality=(first, values), window=(20000.0, 30000.0)),
  )


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize('bits', range(8, 17))
def test_a_voi_lut_of_every_depth_maps_as_written(bits, syntax):
  values = [min(i // 2, 2**bits - 1) for i in range(2**12)]
  item = table(100, values, bits, syntax)
  image = read(RAMP, syntax, VOILUTSequence=Sequence([item]))
  check(image, expected(RAMP, voi=(100, values), bits=bits))


def test_entries_of_eight_bits_may_take_a_byte_each():
  values = [i % 256 for i in range(1000)]
  narrow = table(100, values, 8, wide=False)
  image = read(RAMP, VOILUTSequence=Sequence([narrow]))
  check(image, expected(RAMP, voi=(100, values), bits=8))


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize(
  'pixels, slope, intercept, first',
  [
    (SIGNED, 1, 0, -1500),
    (RAMP, 1, -2048, -1500),
    (RAMP, -1, 0, -3000),
    (RAMP, 16, 0, 40000),
    # A slope below zero whose results are not: the first value is unsigned.
    (RAMP, -16, 65520, 40000),
    (SIGNED, 16, 32768, 40000),
  ],
)
def test_the_first_value_mapped_is_signed_where_the_input_can_be(
  syntax, pixels, slope, intercept, first
):
  values = [i % 65536 for i in range(0, 60000, 20)]
  item = table(first, values, 16, syntax, signed=first < 0)
  image = read(
    pixels,
    syntax,
    RescaleSlope=str(slope),
    RescaleIntercept=str(intercept),
    VOILUTSequence=Sequence([item]),
  )
  assert image.voi_luts[0].first == first
  check(image, expected(pixels, slope, intercept, voi=(first, values)))


@pytest.mark.parametrize('syntax', SYNTAXES)
def test_what_a_modality_lut_gives_is_unsigned(syntax):
  # C.11.1.1.1: whatever the pixels are, so the VOI LUT starts unsigned.
  given = [16 * i for i in range(4096)]
  values = [i % 65536 for i in range(0, 60000, 20)]
  image = read(
    SIGNED,
    syntax,
    ModalityLUTSequence=Sequence([table(-2048, given, 16, syntax, True)]),
    VOILUTSequence=Sequence([table(40000, values, 16, syntax)]),
  )
  check(image, expected(SIGNED, modality=(-2048, given), voi=(40000, values)))


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize('signed', [False, True])
def test_a_count_of_zero_means_65536_entries(syntax, signed):
  values = [(i * 7) % 65536 for i in range(65536)]
  pixels = SIGNED if signed else RAMP
  first = -32768 if signed else 0
  item = table(first, values, 16, syntax, signed=signed)
  image = read(pixels, syntax, VOILUTSequence=Sequence([item]))
  assert len(image.voi_luts[0].values) == 65536
  check(image, expected(pixels, voi=(first, values)))


def test_the_first_of_several_luts_counts_and_comes_before_the_window():
  one = [i % 256 for i in range(4096)]
  two = [255 - i % 256 for i in range(4096)]
  image = read(
    RAMP,
    VOILUTSequence=Sequence([table(0, one, 8), table(0, two, 8)]),
    WindowCenter='1000',
    WindowWidth='500',
  )
  assert len(image.voi_luts) == 2
  check(image, expected(RAMP, voi=(0, one), bits=8))


@pytest.mark.parametrize('kind', ['short', 'depth', 'count'])
def test_an_unusable_lut_leaves_the_window_and_a_warning(kind):
  item = table(0, list(range(4096)), 12)
  if kind == 'short':
    item.LUTDescriptor = [9000, 0, 12]
  elif kind == 'depth':
    item.LUTDescriptor = [4096, 0, 17]
  else:
    item.LUTDescriptor = [4096, 0]
  image = read(
    RAMP,
    VOILUTSequence=Sequence([item]),
    WindowCenter='1000',
    WindowWidth='500',
  )
  assert 'VOILUTSequence: no usable LUT' in image.warnings
  check(image, expected(RAMP, window=(1000, 500)))


# PS3.3 C.8.11.3 has MONOCHROME1 with INVERSE and MONOCHROME2 with IDENTITY.
@pytest.mark.parametrize(
  'photometric, shape, inverse, conflict',
  [
    ('MONOCHROME2', None, False, False),
    ('MONOCHROME2', 'IDENTITY', False, False),
    ('MONOCHROME1', None, True, False),
    ('MONOCHROME1', 'INVERSE', True, False),
    ('MONOCHROME1', 'IDENTITY', True, True),
    ('MONOCHROME2', 'INVERSE', True, True),
  ],
)
@pytest.mark.parametrize('function', ['LINEAR', 'SIGMOID'])
def test_one_inversion_comes_after_the_window(
  photometric, shape, inverse, conflict, function
):
  elements = {} if shape is None else {'PresentationLUTShape': shape}
  image = read(
    RAMP,
    PhotometricInterpretation=photometric,
    WindowCenter='1200',
    WindowWidth='700',
    VOILUTFunction=function,
    **elements,
  )
  assert bool(image.warnings) == conflict
  check(
    image,
    expected(RAMP, window=(1200, 700), function=function, inverse=inverse),
  )


def test_a_voi_lut_is_inverted_as_well():
  values = [i // 16 for i in range(4096)]
  image = read(
    RAMP,
    PhotometricInterpretation='MONOCHROME1',
    VOILUTSequence=Sequence([table(0, values, 8)]),
  )
  check(image, expected(RAMP, voi=(0, values), bits=8, inverse=True))


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
@pytest.mark.parametrize(
  'pixels, value, limit',
  [
    (RAMP, 4095, None),
    (RAMP, 0, 20),
    (RAMP, 4095, 4000),
    (SIGNED, -2048, None),
    (SIGNED, -2048, -2000),
    (SIGNED, -1990, -2048),
    (SIGNED, 2047, 2000),
  ],
)
def test_padding_is_black_and_has_no_say_in_the_range(
  syntax, photometric, pixels, value, limit
):
  kind = 'SS' if pixels is SIGNED else 'US'
  elements = {
    'PixelPaddingValue': pydicom.DataElement('PixelPaddingValue', kind, value)
  }
  if limit is not None:
    elements['PixelPaddingRangeLimit'] = pydicom.DataElement(
      'PixelPaddingRangeLimit', kind, limit
    )
  image = read(
    pixels, syntax, PhotometricInterpretation=photometric, **elements
  )
  ends = tuple(sorted((value, value if limit is None else limit)))
  assert image.padding == ends
  check(
    image,
    expected(pixels, inverse=photometric == 'MONOCHROME1', padding=ends),
  )


def test_overlays_in_the_unused_high_bits_are_not_seen():
  overlaid = RAMP | (np.uint16(0xA000) * (RAMP % 3 == 0)).astype(np.uint16)
  check(
    read(overlaid, WindowCenter='900', WindowWidth='999'),
    expected(RAMP, window=(900, 999)),
  )
  cut = (SIGNED & 0xFFF).astype(np.uint16)
  check(
    read(cut, PixelRepresentation=1, WindowCenter='-9', WindowWidth='999'),
    expected(SIGNED, window=(-9, 999)),
  )


@pytest.mark.parametrize('high', [10, 0])
def test_a_high_bit_below_the_stored_bits_is_refused_by_name(high):
  with pytest.raises(dicom.DicomError, match=f'HighBit={high}'):
    read(RAMP, HighBit=high)


def test_eight_bits_are_shown_like_others():
  pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
  check(read(pixels), expected(pixels))
  check(
    read(pixels, WindowCenter='100', WindowWidth='50'),
    expected(pixels, window=(100, 50)),
  )
  identity = read(pixels, WindowCenter='128', WindowWidth='256')
  check(identity, pixels.astype(float) / 255)


@pytest.mark.parametrize(
  'elements, intent',
  [
    ({'PresentationIntentType': 'FOR PROCESSING'}, 'FOR PROCESSING'),
    ({'PresentationIntentType': 'FOR PRESENTATION'}, 'FOR PRESENTATION'),
    (
      {'SOPClassUID': uid.DigitalMammographyXRayImageStorageForProcessing},
      'FOR PROCESSING',
    ),
    ({}, 'FOR PRESENTATION'),
    (
      {'SOPClassUID': uid.DigitalXRayImageStorageForProcessing},
      'FOR PROCESSING',
    ),
    ({'SOPClassUID': uid.SecondaryCaptureImageStorage}, ''),
    (
      {
        'SOPClassUID': uid.DigitalMammographyXRayImageStorageForPresentation,
        'PresentationIntentType': 'FOR PROCESSING',
      },
      'FOR PROCESSING',
    ),
  ],
)
def test_images_for_processing_are_recognised(elements, intent):
  assert read(RAMP, **elements).presentation_intent == intent


@pytest.mark.parametrize(
  'slope, intercept', [('0', '0'), ('nan', '5'), ('inf', '1e400'), ('x', 'y')]
)
def test_an_unusable_rescale_counts_as_none(slope, intercept):
  elements = {}
  for name, value in (('RescaleSlope', slope), ('RescaleIntercept', intercept)):
    elements[name] = pydicom.DataElement(name, 'DS', None)
    elements[name]._value = value
  image = read(RAMP, WindowCenter='900', WindowWidth='999', **elements)
  offset = 5.0 if intercept == '5' else 0.0
  check(image, expected(RAMP, intercept=offset, window=(900, 999)), atol=1e-6)
