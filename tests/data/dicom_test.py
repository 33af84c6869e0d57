"""DICOM reading against pydicom, the written arrays, real and hostile files."""

import io
import os
import pathlib
import struct
import time
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import encaps, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from rsna_jax.data import dicom

DATA = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA')
  or pathlib.Path(__file__).parents[3] / 'shared' / 'data'
)
real = pytest.mark.skipif(
  not (DATA / 'rsna_dicom').is_dir(), reason='no real data at RSNA_JAX_DATA'
)
ROWS, COLUMNS = 97, 61


def image(bits=12, signed=False, rows=ROWS, columns=COLUMNS) -> np.ndarray:
  rng = np.random.default_rng(bits)
  low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
  dtype = np.dtype(f'{"i" if signed else "u"}{1 if bits <= 8 else 2}')
  return rng.integers(low, high, (rows, columns)).astype(dtype)


def dataset(pixels, bits=12, **elements) -> Dataset:
  ds = Dataset()
  ds.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
  ds.SOPInstanceUID = '1.2.3'
  ds.SamplesPerPixel = 1
  ds.PhotometricInterpretation = 'MONOCHROME2'
  ds.Rows, ds.Columns = pixels.shape[-2:]
  if pixels.ndim == 3:
    ds.NumberOfFrames = len(pixels)
  ds.BitsAllocated = 8 * pixels.itemsize
  ds.BitsStored = bits
  ds.HighBit = bits - 1
  ds.PixelRepresentation = int(pixels.dtype.kind == 'i')
  ds.PixelData = pixels.tobytes() + b'\0' * (pixels.nbytes % 2)
  for keyword, value in elements.items():
    setattr(ds, keyword, value)
  return ds


def written(ds, syntax=uid.ExplicitVRLittleEndian) -> bytes:
  meta = FileMetaDataset()
  meta.TransferSyntaxUID = uid.UID(syntax)
  meta.MediaStorageSOPClassUID = ds.SOPClassUID
  meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
  ds.file_meta = meta
  if meta.TransferSyntaxUID.is_compressed and 'PixelData' in ds:
    ds['PixelData'].VR = 'OB'
    ds['PixelData'].is_undefined_length = True
  out = io.BytesIO()
  pydicom.dcmwrite(
    out,
    ds,
    enforce_file_format=True,
    implicit_vr=meta.TransferSyntaxUID.is_implicit_VR,
    little_endian=meta.TransferSyntaxUID.is_little_endian,
  )
  return out.getvalue()


def jpeg_lossless(frame, bits=12, predictor=1) -> bytes:
  return imagecodecs.jpeg8_encode(
    frame, lossless=True, predictor=predictor, bitspersample=bits
  )


def jpeg2000(frame) -> bytes:
  ds = dataset(frame, bits=12)
  ds.file_meta = FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  ds.compress(uid.JPEG2000Lossless, encoding_plugin='pylibjpeg')
  return next(encaps.generate_frames(ds.PixelData, number_of_frames=1))


def encapsulated(frames, syntax, pixels, bits=12, **elements) -> bytes:
  ds = dataset(pixels, bits, **elements)
  ds.PixelData = encaps.encapsulate(frames)
  return written(ds, syntax)


def rle(pixels, bits) -> bytes:
  ds = dataset(pixels, bits)
  ds.file_meta = FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  ds.compress(uid.RLELossless)
  return written(ds, uid.RLELossless)


def jp2_wrapped(stream: bytes) -> bytes:
  def box(kind, data):
    return struct.pack('>L4s', 8 + len(data), kind) + data

  header = box(b'ihdr', struct.pack('>LLHBBBB', ROWS, COLUMNS, 1, 15, 7, 0, 0))
  return (
    box(b'jP  ', b'\r\n\x87\n')
    + box(b'ftyp', b'jp2 \0\0\0\0jp2 ')
    + box(b'jp2h', header + box(b'colr', b'\1\0\0\0\0\0\x11'))
    + box(b'jp2c', stream)
  )


@pytest.mark.parametrize(
  'syntax',
  [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
  ],
)
@pytest.mark.parametrize('signed', [False, True])
def test_uncompressed_pixels_are_those_written(syntax, signed):
  pixels = image(12, signed)
  ds = dataset(pixels)
  if syntax == uid.ExplicitVRBigEndian:
    ds.PixelData = pixels.byteswap().tobytes()
  read = dicom.read_pixels(written(ds, syntax))
  assert read.dtype == pixels.dtype
  np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize('bits', [8, 12, 16])
def test_compressed_pixels_are_those_written(bits):
  pixels = image(bits)
  for syntax, frame in (
    (uid.JPEGLosslessSV1, jpeg_lossless(pixels, bits)),
    (uid.JPEGLossless, jpeg_lossless(pixels, bits, predictor=6)),
  ):
    read = dicom.read_pixels(encapsulated([frame], syntax, pixels, bits))
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)
  np.testing.assert_array_equal(dicom.read_pixels(rle(pixels, bits)), pixels)


@pytest.mark.parametrize('syntax', [uid.JPEG2000Lossless, uid.JPEG2000])
@pytest.mark.parametrize('wrap', [bytes, jp2_wrapped])
def test_jpeg2000_is_read_bare_and_in_a_jp2_wrapper(syntax, wrap):
  pixels = image(12)
  data = encapsulated([wrap(jpeg2000(pixels))], syntax, pixels)
  np.testing.assert_array_equal(dicom.read_pixels(data), pixels)


def test_jpeg2000_of_signed_pixels_agrees_with_pydicom():
  pixels = image(12, signed=True)
  signed = encapsulated([jpeg2000(pixels)], uid.JPEG2000Lossless, pixels)
  np.testing.assert_array_equal(dicom.read_pixels(signed), pixels)
  # A codestream that says unsigned under a header that says signed.
  stored = (pixels & 0xFFF).astype(np.uint16)
  mixed = encapsulated(
    [jpeg2000(stored)], uid.JPEG2000Lossless, stored, PixelRepresentation=1
  )
  reference = pydicom.dcmread(io.BytesIO(mixed)).pixel_array
  np.testing.assert_array_equal(dicom.read_pixels(mixed), reference)
  np.testing.assert_array_equal(dicom.read_pixels(mixed), pixels)


def test_differences_coded_modulo_the_precision_are_read():
  pixels = image(12)
  # A stream of 16 bits whose first prediction is 2 ** 15, relabelled as one of
  # 12 bits, whose first prediction is 2 ** 11: right modulo 4096 alone.
  turns = np.random.default_rng(0).integers(0, 8, pixels.shape)
  coded = (pixels + (1 << 15) - (1 << 11) + 4096 * turns).astype(np.uint16)
  frame = bytearray(jpeg_lossless(coded, 16))
  frame[frame.index(b'\xff\xc3') + 4] = 12
  data = encapsulated([bytes(frame)], uid.JPEGLosslessSV1, pixels)
  np.testing.assert_array_equal(dicom.read_pixels(data), pixels)


def test_bits_above_those_stored_are_cleared_or_repeat_the_sign():
  pixels = image(12)
  overlaid = dataset(pixels | np.uint16(0x8000))
  np.testing.assert_array_equal(dicom.read_pixels(written(overlaid)), pixels)
  signed = image(12, signed=True)
  cut = dataset((signed & 0xFFF).astype(np.uint16), PixelRepresentation=1)
  np.testing.assert_array_equal(dicom.read_pixels(written(cut)), signed)


def test_samples_in_the_upper_bits_are_shifted_down():
  pixels = image(12)
  shifted = dataset(pixels << 4 | np.uint16(3), HighBit=15)
  for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian):
    read = dicom.read_pixels(written(shifted, syntax))
    np.testing.assert_array_equal(read, pixels)
  packed = encapsulated([jpeg_lossless(pixels)], SV1, pixels, HighBit=15)
  with pytest.raises(dicom.DicomError, match='HighBit=15'):
    dicom.read_pixels(packed)


def test_colour_becomes_luma_with_a_warning():
  rgb = np.stack([image(8), image(8) // 2, image(8) // 3], axis=-1)
  ds = dataset(
    rgb[..., 0],
    8,
    SamplesPerPixel=3,
    PhotometricInterpretation='RGB',
    PlanarConfiguration=0,
    PixelData=rgb.tobytes(),
    WindowCenter='7',
    WindowWidth='3',
  )
  read = dicom.read_mammogram(written(ds))
  luma = rgb @ np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(read.pixels, luma, atol=0.502)
  assert read.photometric == ''
  assert 'BT.601' in read.warnings[0]
  short = written(ds)[: -ROWS * COLUMNS]
  with pytest.raises(dicom.DicomError, match='cut short'):
    dicom.read_mammogram(short)


def test_a_frame_is_shown_as_its_functional_groups_say():
  pixels = np.stack([image(12)] * 2)
  frames = []
  for center in ('100', '200'):
    window = Dataset()
    window.WindowCenter, window.WindowWidth = center, '50'
    group = Dataset()
    group.FrameVOILUTSequence = Sequence([window])
    frames.append(group)
  ds = dataset(pixels, PerFrameFunctionalGroupsSequence=Sequence(frames))
  read = dicom.read_mammogram(written(ds), frame=1)
  assert read.windows == ((200, 50),)
  assert read.encoding['bits_stored'] == 12


@pytest.mark.parametrize('kind', ['native', 'jpeg', 'rle', 'deflated'])
def test_frames_are_read_together_or_one_at_a_time(kind, tmp_path):
  pixels = np.stack([image(12) ^ np.uint16(i) for i in range(4)])
  if kind == 'native':
    data = written(dataset(pixels))
  elif kind == 'deflated':
    data = written(dataset(pixels), uid.DeflatedExplicitVRLittleEndian)
  elif kind == 'rle':
    data = rle(pixels, 12)
  else:
    frames = [jpeg_lossless(frame) for frame in pixels]
    data = encapsulated(frames, uid.JPEGLosslessSV1, pixels)
  path = tmp_path / 'volume.dcm'
  path.write_bytes(data)
  np.testing.assert_array_equal(dicom.read_pixels(path), pixels)
  for index in range(4):
    np.testing.assert_array_equal(
      dicom.read_pixels(str(path), frame=index), pixels[index]
    )
  for index in (4, -1):
    with pytest.raises(dicom.DicomError, match=f'frame {index}'):
      dicom.read_pixels(path, frame=index)
  with pytest.raises(dicom.DicomError, match='4 frames'):
    dicom.read_mammogram(path)
  shown = dicom.read_mammogram(path, frame=2)
  np.testing.assert_array_equal(shown.pixels, pixels[2])


def test_one_frame_of_a_volume_does_not_hold_the_volume(tmp_path):
  pixels = np.zeros((40, 500, 500), np.uint16)
  path = tmp_path / 'volume.dcm'
  path.write_bytes(written(dataset(pixels)))
  tracemalloc.start()
  dicom.read_pixels(path, frame=30)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 6 * pixels[0].nbytes


def test_extended_offset_table_is_honoured():
  pixels = np.stack([image(12), image(12) ^ np.uint16(5)])
  frames = [jpeg_lossless(frame) for frame in pixels]
  ds = dataset(pixels)
  data, offsets, lengths = encaps.encapsulate_extended(frames)
  ds.PixelData = data
  ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = offsets, lengths
  data = written(ds, uid.JPEGLosslessSV1)
  np.testing.assert_array_equal(dicom.read_pixels(data), pixels)


def test_attributes_are_the_allowed_ones_and_only_when_present():
  ds = dataset(
    image(),
    Modality='MG',
    PatientID='10006',
    PatientName='Doe^Jane',
    PatientAge='061Y',
    InstanceNumber=462822612,
    ImageLaterality='L',
    ViewPosition='MLO',
    BreastImplantPresent='NO',
  )
  assert dicom.read_mammogram(written(ds)).attributes == {
    'patient_id': 10006,
    'image_id': 462822612,
    'laterality': 'L',
    'view': 'MLO',
    'age': 61.0,
    'implant': 0,
  }
  assert dicom.read_mammogram(written(dataset(image()))).attributes == {}
  ds = dataset(image(), PatientID='A/7', Laterality='R', PatientAge='006M')
  assert dicom.read_mammogram(written(ds)).attributes == {
    'patient_id': 'A/7',
    'laterality': 'R',
    'age': 0.5,
  }


def test_grey_fields_of_the_header_arrive():
  item = Dataset()
  item.LUTDescriptor = [3, 5, 12]
  item.add_new('LUTData', 'OW', struct.pack('<3H', 1, 2, 4095))
  ds = dataset(
    image(12, signed=True),
    PhotometricInterpretation='MONOCHROME1',
    WindowCenter=['100', '7'],
    WindowWidth=['50', '8'],
    VOILUTFunction='SIGMOID',
    RescaleSlope='2',
    RescaleIntercept='-5',
    PixelPaddingValue=-2000,
    PixelPaddingRangeLimit=-2048,
    PresentationLUTShape='INVERSE',
    VOILUTSequence=Sequence([item]),
  )
  for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian):
    read = dicom.read_mammogram(written(ds, syntax))
    assert read.photometric == 'MONOCHROME1'
    assert read.windows == ((100, 50), (7, 8))
    assert read.voi_function == 'SIGMOID'
    assert (read.rescale_slope, read.rescale_intercept) == (2, -5)
    assert read.padding == (-2048, -2000)
    assert read.presentation_lut_shape == 'INVERSE'
    assert (read.bits_stored, read.signed) == (12, True)
    assert read.voi_luts[0].first == 5
    assert read.voi_luts[0].bits == 12
    np.testing.assert_array_equal(read.voi_luts[0].values, [1, 2, 4095])


def test_negative_padding_written_unsigned_is_understood():
  ds = dataset(image(12, signed=True))
  ds.add_new('PixelPaddingValue', 'US', 65536 - 2000)
  assert dicom.read_mammogram(written(ds)).padding == (-2000, -2000)


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_unusable_grey_values_count_as_absent():
  item = Dataset()
  item.LUTDescriptor = [300, 0, 12]
  item.add_new('LUTData', 'US', [1, 2, 3])
  ds = dataset(image(), VOILUTSequence=Sequence([item]))
  ds.add_new('WindowCenter', 'DS', '10')
  ds.add_new('WindowWidth', 'DS', 'nan')
  ds.add_new('RescaleSlope', 'DS', 'inf')
  read = dicom.read_mammogram(written(ds))
  assert read.windows == ()
  assert read.voi_luts == ()
  assert read.rescale_slope == 1


def bad(ds_or_bytes, syntax=uid.ExplicitVRLittleEndian):
  if isinstance(ds_or_bytes, bytes):
    return ds_or_bytes
  return written(ds_or_bytes, syntax)


def without(ds, *keywords):
  for keyword in keywords:
    delattr(ds, keyword)
  return ds


def siz_of(rows, columns, tile=None) -> bytes:
  stream = bytearray(jpeg2000(image()))
  struct.pack_into('>LL', stream, 8, columns, rows)
  struct.pack_into('>LL', stream, 24, *(tile or (columns, rows)))
  return bytes(stream)


def sof_of(rows, columns) -> bytes:
  stream = bytearray(jpeg_lossless(image()))
  struct.pack_into('>HH', stream, stream.index(b'\xff\xc3') + 5, rows, columns)
  return bytes(stream)


def deep(depth: int) -> bytes:
  sequence = (
    b'\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff'
  )
  whole = written(without(dataset(image()), 'PixelData'))
  return whole + sequence * depth


def deflated_bomb() -> bytes:
  compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
  body = b''.join(compressor.compress(bytes(1 << 20)) for _ in range(64))
  plain = written(dataset(image()), uid.DeflatedExplicitVRLittleEndian)
  length = 128 + 4 + 12 + plain[140]
  return plain[:length] + body + compressor.flush()


def deflated_pixels() -> bytes:
  """A header of 3 x 3 before 64 MiB of pixel data."""
  plain = written(dataset(image(), Rows=3, Columns=3))
  start = 128 + 4 + 12 + plain[140]
  head = plain[start : plain.index(b'\xe0\x7f\x10\x00')]
  head += b'\xe0\x7f\x10\x00OW\0\0' + struct.pack('<L', 64 << 20)
  compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
  body = compressor.compress(head)
  body += b''.join(compressor.compress(bytes(1 << 20)) for _ in range(64))
  meta = written(dataset(image()), uid.DeflatedExplicitVRLittleEndian)
  meta = meta[: 128 + 4 + 12 + meta[140]]
  return meta + body + compressor.flush()


J2K = uid.JPEG2000Lossless
SV1 = uid.JPEGLosslessSV1
HOSTILE = {
  'empty': (lambda: b'', 'empty file'),
  'one byte': (lambda: b'D', 'not a DICOM'),
  'text': (lambda: b'<html>' * 100, 'not a DICOM'),
  'prefix alone': (lambda: bytes(128) + b'DICM', 'transfer syntax missing'),
  'no pixels': (
    lambda: bad(without(dataset(image()), 'PixelData')),
    'no pixels',
  ),
  'no image': (
    lambda: bad(without(dataset(image()), 'PixelData', 'Rows', 'Columns')),
    'no pixels',
  ),
  'no rows': (lambda: bad(without(dataset(image()), 'Rows')), 'Rows'),
  'rows 0': (lambda: bad(dataset(image(), Rows=0)), 'Rows=0'),
  'rows 65535': (
    lambda: bad(dataset(image(), Rows=65535, Columns=65535)),
    'Rows=65535',
  ),
  'many rows': (lambda: bad(dataset(image(), Rows=65535)), 'cut short'),
  'frames': (
    lambda: bad(dataset(image(), NumberOfFrames=10**9)),
    'NumberOfFrames=1000000000',
  ),
  'frames -1': (lambda: bad(dataset(image(), NumberOfFrames=-1)), 'Frames=-1'),
  'missing frames': (
    lambda: bad(dataset(image(), NumberOfFrames=3)),
    'cut short',
  ),
  'colour': (lambda: bad(dataset(image(), SamplesPerPixel=3)), 'Samples'),
  'palette': (
    lambda: bad(dataset(image(), PhotometricInterpretation='PALETTE COLOR')),
    'RedPalette',
  ),
  '12 allocated': (lambda: bad(dataset(image(), BitsAllocated=12)), 'Bits'),
  '17 stored': (lambda: bad(dataset(image(), BitsStored=17)), 'BitsStored=17'),
  'high bit': (lambda: bad(dataset(image(), HighBit=10)), 'HighBit=10'),
  'sign 7': (lambda: bad(dataset(image(), PixelRepresentation=7)), 'tion=7'),
  'short': (lambda: bad(dataset(image()))[:-100], 'cut short'),
  'syntax': (
    lambda: encapsulated([bytes(20)], uid.MPEG2MPML, image()),
    'MPEG2',
  ),
  'baseline': (
    lambda: encapsulated([bytes(20)], uid.JPEGBaseline8Bit, image()),
    'JPEG Baseline',
  ),
  'half a header': (lambda: bad(dataset(image()))[:200], ''),
  'deep': (lambda: deep(5000), ''),
  'a million elements': (
    lambda: (
      written(dataset(image()))[: 128 + 4 + 12 + 200] + bytes(8) * 1_000_000
    ),
    '',
  ),
  'deflated bomb': (deflated_bomb, ''),
  'deflated pixels': (deflated_pixels, 'pixel data of 67108864 bytes'),
  'siz 60000': (
    lambda: encapsulated([siz_of(60000, 60000)], J2K, image()),
    '60000x60000',
  ),
  'wrapped siz': (
    lambda: encapsulated([jp2_wrapped(siz_of(60000, 60000))], J2K, image()),
    '60000x60000',
  ),
  'tiles': (
    lambda: encapsulated([siz_of(ROWS, COLUMNS, (1, 1))], J2K, image()),
    'tiles',
  ),
  'cut j2k': (
    lambda: encapsulated([jpeg2000(image())[:-900]], J2K, image()),
    'cut short',
  ),
  'cut jp2': (
    lambda: encapsulated([jp2_wrapped(jpeg2000(image()))[:-900]], J2K, image()),
    'cut short',
  ),
  'cut j2k with an end': (
    lambda: encapsulated(
      [jpeg2000(image())[:-900] + b'\xff\xd9'], J2K, image()
    ),
    'cut short',
  ),
  'j2k rubbish': (
    lambda: encapsulated([bytes(range(200))], J2K, image()),
    'no JPEG 2000',
  ),
  'cut file': (
    lambda: encapsulated([jpeg2000(image())], J2K, image())[:-900],
    '',
  ),
  'sof 65500': (
    lambda: encapsulated([sof_of(65500, 65500)], SV1, image()),
    '65500x65500',
  ),
  'bits of sof': (
    lambda: encapsulated(
      [sof_of(7000, 7000)], SV1, image(), Rows=7000, Columns=7000
    ),
    'cut short',
  ),
  'cut jpeg': (
    lambda: encapsulated([jpeg_lossless(image())[:-900]], SV1, image()),
    'cut short',
  ),
  'jpeg rubbish': (
    lambda: encapsulated([bytes(range(200))], SV1, image()),
    'JPEG',
  ),
  'lossy jpeg': (
    lambda: encapsulated(
      [imagecodecs.jpeg8_encode(image(8))], SV1, image(8), 8
    ),
    'SOF0',
  ),
  'jpeg bits': (
    lambda: encapsulated([jpeg_lossless(image(16), 16)], SV1, image(16), 12),
    'BitsStored=12',
  ),
  'rle cut': (
    lambda: encapsulated(
      [
        next(
          encaps.generate_frames(
            pydicom.dcmread(io.BytesIO(rle(image(), 12))).PixelData,
            number_of_frames=1,
          )
        )[:-3000]
      ],
      uid.RLELossless,
      image(),
    ),
    'RLE',
  ),
  'rle overrun': (
    lambda: encapsulated(
      [struct.pack('<16L', 2, 64, 90000, *[0] * 13) + bytes(500)],
      uid.RLELossless,
      image(),
    ),
    'RLE',
  ),
  'rle of gigabytes': (
    lambda: encapsulated(
      [struct.pack('<16L', 2, 64, 90, *[0] * 13) + b'\x81\0' * 50],
      uid.RLELossless,
      image(),
      Rows=7000,
      Columns=7000,
    ),
    'RLE segment is cut short',
  ),
  'rle 255 segments': (
    lambda: encapsulated(
      [struct.pack('<16L', 255, *[64] * 15) + bytes(500)],
      uid.RLELossless,
      image(),
    ),
    'RLE of 255',
  ),
  'rle bomb': (
    lambda: encapsulated(
      [struct.pack('<16L', 2, 64, 70, *[0] * 13) + b'\x81\0' * 500_000],
      uid.RLELossless,
      image(),
    ),
    'RLE',
  ),
  'no fragments': (lambda: encapsulated([b'\0\0'], SV1, image()), ''),
}


@pytest.mark.parametrize('case', HOSTILE)
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_a_hostile_file_is_refused_in_one_line_at_little_cost(case, tmp_path):
  make, message = HOSTILE[case]
  path = tmp_path / 'bad.dcm'
  path.write_bytes(make())
  tracemalloc.start()
  start = time.process_time()
  with pytest.raises(dicom.DicomError) as caught:
    dicom.read_mammogram(path)
  seconds = time.process_time() - start
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  text = str(caught.value)
  assert text.startswith(f'{path}: ')
  assert message in text
  assert '\n' not in text
  assert len(text) < len(str(path)) + 300
  assert peak < 64 << 20
  assert seconds < 5


def test_another_modality_is_refused_and_a_missing_one_is_not():
  with pytest.raises(dicom.DicomError, match="Modality='CT'"):
    dicom.read_mammogram(written(dataset(image(), Modality='CT')))
  dicom.read_mammogram(written(dataset(image(), Modality='MG')))


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_mutated_files_are_read_or_refused_and_nothing_else():
  good = encapsulated([jpeg2000(image())], J2K, image())
  rng = np.random.default_rng(0)
  for _ in range(150):
    mutant = bytearray(good)
    for at in rng.integers(132, 900, 2):
      mutant[at] = rng.integers(256)
    try:
      read = dicom.read_mammogram(bytes(mutant))
    except dicom.DicomError as error:
      assert '\n' not in str(error)
    else:
      assert read.pixels.shape == (ROWS, COLUMNS)


@real
def test_real_files_agree_with_pydicom():
  path = sorted(DATA.glob('rsna_dicom/train_images/10011/*.dcm'))[0]
  read = dicom.read_mammogram(path)
  reference = pydicom.dcmread(path)
  np.testing.assert_array_equal(read.pixels, reference.pixel_array)
  assert read.attributes == {
    'patient_id': 10011,
    'image_id': int(path.stem),
    'laterality': reference.ImageLaterality,
  }


@real
def test_transcoded_real_files_have_the_pixels_of_their_originals():
  copies = sorted(DATA.glob('rsna_transcoded/541722628_*.dcm'))
  assert copies
  original = dicom.read_pixels(
    DATA / 'rsna_dicom/train_images/10011/541722628.dcm'
  )
  for copy in copies:
    np.testing.assert_array_equal(dicom.read_pixels(copy), original)


def test_elements_nested_in_sequences_are_counted():
  # An open-length sequence of one-item sequences, of a private group.
  item = b'\xfe\xff\x00\xe0\xff\xff\xff\xff' + (
    b'\x09\x00\x10\x10LO\x02\x00ab' * 50 + b'\xfe\xff\x0d\xe0\x00\x00\x00\x00'
  )
  sequence = (
    b'\x09\x00\x20\x10SQ\x00\x00\xff\xff\xff\xff'
    + item * 6000
    + b'\xfe\xff\xdd\xe0\x00\x00\x00\x00'
  )
  data = written(dataset(image()))
  at = data.index(b'\x28\x00\x02\x00')  # SamplesPerPixel
  with pytest.raises(dicom.DicomError, match='more than 10000 elements'):
    dicom.read_pixels(data[:at] + sequence + data[at:])


def test_padding_beyond_the_bits_stored_is_still_padding():
  pixels = image()
  pixels[:20] = 0xFFFF
  found = dicom.read_mammogram(
    written(dataset(pixels, PixelPaddingValue=0xFFFF))
  )
  assert found.padding == (4095, 4095)
  assert (found.pixels[:20] == 4095).all()


@pytest.mark.parametrize('shape', [(1, 5), (5, 1)])
def test_one_odd_row_of_bytes_may_be_padded(shape):
  pixels = np.arange(5, dtype=np.uint8).reshape(shape)
  data = written(dataset(pixels, 8))
  np.testing.assert_array_equal(dicom.read_pixels(data, 0), pixels)
