"""Multi-frame headers: what each frame says, at a bounded cost."""

import io
import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr import _snomed_dict, codedict

from rsna_jax.data import (
  dicom,
  dicom_attributes,
  dicom_header,
  functional_groups,
  grey,
)

SYNTAXES = (
  uid.ExplicitVRLittleEndian,
  uid.ImplicitVRLittleEndian,
  uid.ExplicitVRBigEndian,
)
VOLUME = (np.arange(3 * 70 * 50) % 1024).reshape(3, 70, 50).astype(np.uint16)


def item(**elements) -> Dataset:
  ds = Dataset()
  for keyword, value in elements.items():
    setattr(ds, keyword, value)
  return ds


def one(**elements) -> Sequence:
  return Sequence([item(**elements)])


def volume(shared=None, frames=None, pixels=VOLUME, **elements) -> Dataset:
  """A breast tomosynthesis image (PS3.3 A.55), as far as greys need it."""
  ds = item(
    SOPClassUID=uid.BreastTomosynthesisImageStorage,
    SOPInstanceUID='1.2.3',
    Modality='MG',
    SamplesPerPixel=1,
    PhotometricInterpretation='MONOCHROME2',
    NumberOfFrames=len(pixels),
    Rows=pixels.shape[1],
    Columns=pixels.shape[2],
    BitsAllocated=16,
    BitsStored=10,
    HighBit=9,
    PixelRepresentation=0,
    **elements,
  )
  if shared is not None:
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
  if frames is not None:
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
  return ds


def written(
  ds: Dataset, syntax=SYNTAXES[0], undefined=(), items=(), pixels=VOLUME
) -> bytes:
  """A file; `undefined` sequences and the `items` of some have open lengths."""
  for element in ds.iterall():
    if element.VR == 'SQ':
      element.is_undefined_length = element.keyword in undefined
      for each in element.value if element.keyword in items else ():
        each.is_undefined_length_sequence_item = True
  order = '<' if syntax.is_little_endian else '>'
  ds.add_new('PixelData', 'OW', pixels.astype(f'{order}u2').tobytes())
  ds.file_meta = FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = syntax
  ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
  ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
  out = io.BytesIO()
  pydicom.dcmwrite(
    out,
    ds,
    enforce_file_format=True,
    implicit_vr=syntax.is_implicit_VR,
    little_endian=syntax.is_little_endian,
  )
  return out.getvalue()


def header(data: bytes, syntax=SYNTAXES[0]) -> Dataset:
  """The header as the reader fetches it."""
  return pydicom.dcmread(
    io.BytesIO(data),
    stop_before_pixels=True,
    specific_tags=list(dicom_header.KEYWORDS),
  )


def tomosynthesis() -> Dataset:
  view = item(
    CodeValue='R-10226',
    CodingSchemeDesignator='SRT',
    CodeMeaning='medio-lateral oblique',
  )
  shared = item(
    PixelMeasuresSequence=one(
      PixelSpacing=['0.1', '0.1'], SliceThickness='1.5'
    ),
    FrameAnatomySequence=one(FrameLaterality='R'),
    PixelValueTransformationSequence=one(
      RescaleIntercept='-10', RescaleSlope='2', RescaleType='US'
    ),
  )
  frames = [
    item(
      FrameVOILUTSequence=one(
        WindowCenter=[str(100 + 100 * i), '7'],
        WindowWidth=['50', '9'],
        WindowCenterWidthExplanation=['FIRST', 'SECOND'],
        VOILUTFunction='SIGMOID',
      )
    )
    for i in range(3)
  ]
  return volume(shared, frames, ViewCodeSequence=Sequence([view]))


GROUPS = ('PerFrameFunctionalGroupsSequence', 'SharedFunctionalGroupsSequence')
MACROS = ('FrameVOILUTSequence', 'PixelValueTransformationSequence')


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize('undefined', [(), GROUPS, MACROS, GROUPS + MACROS])
@pytest.mark.parametrize('items', [(), GROUPS, GROUPS + MACROS])
def test_every_frame_has_its_own_greys(syntax, undefined, items):
  data = written(tomosynthesis(), syntax, undefined, items)
  for frame in range(3):
    fields = dicom_header.fields(header(data), frame)
    assert fields['windows'] == ((100 + 100 * frame, 50), (7, 9))
    assert fields['window_explanations'] == ('FIRST', 'SECOND')
    assert fields['voi_function'] == 'SIGMOID'
    assert fields['rescale_slope'] == 2
    assert fields['rescale_intercept'] == -10
    assert fields['attributes'] == {
      'laterality': 'R',
      'view': 'MLO',
      'slice_thickness': 1.5,
    }


def test_the_first_frame_is_shown_as_its_groups_say():
  image = dicom.read_mammogram(written(tomosynthesis()), frame=0)
  value = 2.0 * VOLUME[0] - 10
  expected = 1 / (1 + np.exp(-4 * (value - 100) / 50))
  np.testing.assert_allclose(grey.presentation(image), expected, atol=1e-6)


@pytest.mark.parametrize('syntax', SYNTAXES)
def test_a_frame_may_have_a_lut(syntax):
  lut = item()
  lut.add_new('LUTDescriptor', 'SS', [1200, -500, 8])
  order = '<' if syntax.is_little_endian else '>'
  values = (np.arange(1200) % 251).astype(f'{order}u2')
  lut.add_new('LUTData', 'OW', values.tobytes())
  shared = item(
    FrameVOILUTSequence=one(VOILUTSequence=Sequence([lut])),
    PixelValueTransformationSequence=one(
      RescaleIntercept='-512', RescaleSlope='1'
    ),
  )
  fields = dicom_header.fields(header(written(volume(shared), syntax)), 2)
  assert fields['voi_luts'][0].first == -500
  np.testing.assert_array_equal(fields['voi_luts'][0].values, values)


def test_groups_come_before_the_header_and_the_header_stands_in_for_them():
  plain = {'WindowCenter': '9', 'WindowWidth': '8', 'ImageLaterality': 'L'}
  shared = item(FrameVOILUTSequence=one(WindowCenter='1', WindowWidth='2'))
  fields = dicom_header.fields(header(written(volume(shared, **plain))), 1)
  assert fields['windows'] == ((1, 2),)
  assert fields['attributes'] == {'laterality': 'L'}
  empty = volume(item(), [item() for _ in range(3)], **plain)
  fields = dicom_header.fields(header(written(empty)), 1)
  assert fields['windows'] == ((9, 8),)


@pytest.mark.parametrize(
  'code, view',
  [
    ('399162004', 'CC'),
    ('R-10242', 'CC'),
    ('399368009', 'MLO'),
    ('399260004', 'ML'),
    ('R-10228', 'LM'),
    ('R-1024A', 'XCCL'),
    ('nonsense', None),
  ],
)
def test_a_coded_view_gets_its_short_name(code, view):
  ds = volume(ViewCodeSequence=one(CodeValue=code))
  fields = dicom_header.fields(header(written(ds)))
  assert fields['attributes'].get('view') == view


def test_the_axillary_tail_is_a_modifier_and_a_named_view_comes_first():
  tail = one(CodeValue='R-102D1')
  code = one(CodeValue='R-10226', ViewModifierCodeSequence=tail)
  ds = volume(ViewCodeSequence=code)
  assert dicom_header.fields(header(written(ds)))['attributes']['view'] == 'AT'
  ds.ViewPosition = 'LMO'
  assert dicom_header.fields(header(written(ds)))['attributes']['view'] == 'LMO'


def test_views_are_those_of_the_standard():
  concepts = codedict.codes.cid4014
  for name in concepts.dir():
    code = getattr(concepts, name).value
    if name == 'TissueSpecimenFromBreast':
      continue
    views = dicom_attributes.VIEWS
    assert views[code] == views[_snomed_dict.mapping['SCT'][code]]


def test_what_a_frame_says_comes_before_what_all_share():
  shared = item(FrameVOILUTSequence=one(WindowCenter='1', WindowWidth='2'))
  own = item(FrameVOILUTSequence=one(WindowCenter='3', WindowWidth='4'))
  data = written(volume(shared, [item(), own, item()]))
  windows = [dicom_header.fields(header(data), i)['windows'] for i in range(3)]
  assert windows == [((1, 2),), ((3, 4),), ((1, 2),)]


def test_frames_past_the_last_item_take_the_shared_groups():
  shared = item(FrameVOILUTSequence=one(WindowCenter='1', WindowWidth='2'))
  ds = volume(shared, [item()])
  assert dicom_header.fields(header(written(ds)), 2)['windows'] == ((1, 2),)


def test_one_frame_of_a_thousand_is_parsed_alone():
  frames = [
    item(FrameVOILUTSequence=one(WindowCenter=str(i), WindowWidth='50'))
    for i in range(1000)
  ]
  found = header(written(volume(item(), frames)))
  tracemalloc.start()
  fields = dicom_header.fields(found, 700)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert fields['windows'] == ((700, 50),)
  assert peak < 300_000


def test_an_absurdly_long_item_is_refused():
  big = Dataset()
  for i in range(functional_groups.MAX_ELEMENTS + 1):
    big.add_new((0x0009, 0x1000 + i), 'UN', b'')
  big.add_new((0x0009, 0x0010), 'LO', 'x')
  data = written(volume(big))
  with pytest.raises(dicom.DicomError, match='elements in an item'):
    dicom.read_mammogram(data, frame=0)


def nested(depth: int, group: int, element: int) -> bytes:
  start = group.to_bytes(2, 'little') + element.to_bytes(2, 'little')
  return (
    start + b'SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff'
  ) * depth


@pytest.mark.parametrize('depth', [300, 5000, 100_000])
@pytest.mark.parametrize('defined', [False, True])
def test_groups_nested_without_end_are_refused_in_one_line(depth, defined):
  data = written(volume())
  pixels = data.index(b'\xe0\x7f\x10\x00')
  deep = nested(depth, 0x0028, 0x9132)
  if defined:
    size = (len(deep) + 8).to_bytes(4, 'little')
    item_size = len(deep).to_bytes(4, 'little')
    deep = (
      b'\x00\x52\x29\x92SQ\0\0' + size + b'\xfe\xff\x00\xe0' + item_size + deep
    )
  else:
    deep = b'\x00\x52\x29\x92' + nested(depth, 0x0028, 0x9132)[4:]
  with pytest.raises(dicom.DicomError) as caught:
    dicom.read_mammogram(data[:pixels] + deep + data[pixels:], frame=0)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('junk', [b'', b'\0' * 7, b'junk' * 40, bytes(4000)])
def test_groups_of_junk_are_none_or_refused(junk):
  data = written(volume(WindowCenter='9', WindowWidth='8'))
  pixels = data.index(b'\xe0\x7f\x10\x00')
  groups = b'\x00\x52\x29\x92SQ\0\0' + len(junk).to_bytes(4, 'little') + junk
  try:
    image = dicom.read_mammogram(
      data[:pixels] + groups + data[pixels:], frame=1
    )
  except dicom.DicomError:
    return
  assert image.windows == ((9, 8),)
