"""Every file that pydicom ships, and every transfer syntax that it knows.

Each is either decoded bit for bit like an independent decoder has it, or
refused with the name of what is not read. Near-lossless JPEG-LS is compared
with what GDCM 3.2.6 and pyjpegls 1.5.1 agree on.
"""

import hashlib
import os
import pathlib
import struct
import warnings
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import encaps, filebase, filewriter, pixels, uid
from pydicom.dataset import Dataset

from rsna_jax.data import dicom

FILES = pathlib.Path(pydicom.__file__).parent / 'data' / 'test_files'
DATA = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA')
  or pathlib.Path(__file__).parents[3] / 'shared' / 'data'
)
real = pytest.mark.skipif(
  not (DATA / 'rsna_transcoded').is_dir(),
  reason='no real data at RSNA_JAX_DATA',
)

# What cannot be read, and the words of the refusal that name why.
REFUSED = {
  'JPEG-lossy': 'JPEG Extended',
  'JPGExtended': 'JPEG Extended',
  # Four bytes of its codestream were overwritten.
  'JPEG2000-embedded-sequence-delimiter': 'the header says 1024x256',
  # 128 bytes follow its pixels; that is what a wrong Rows looks like, too.
  'MR_small_padded': 'pixel data of 8320 bytes, the header says 8192',
  'MR_truncated': 'cut short: 8130 bytes of 8192',
  'badVR': 'NumberOfFrames',
  'liver_1frame': 'BitsAllocated=1,',
  'liver_expb_1frame': 'BitsAllocated=1,',
  'rtdose': 'BitsAllocated=32',
  'rtdose_1frame': 'BitsAllocated=32',
  'rtdose_expb': 'BitsAllocated=32',
  'rtdose_expb_1frame': 'BitsAllocated=32',
  'rtdose_rle': 'BitsAllocated=32',
  'rtdose_rle_1frame': 'BitsAllocated=32',
}
# Files of one image: what they have to decode to is in the first one.
SIBLINGS = {
  'MR_small_RLE': 'MR_small',
  'MR_small_bigendian': 'MR_small',
  'MR_small_expb': 'MR_small',
  'MR_small_implicit': 'MR_small',
  'MR_small_jp2klossless': 'MR_small',
  'MR_small_jpeg_ls_lossless': 'MR_small',
}
NEAR_LOSSLESS = {
  'JPEGLSNearLossless_08': '9eb46aa86c342094f826affc35703f71',
  'JPEGLSNearLossless_16': 'f929318278115ce952d85c011f752634',
}
# Refusals of colour; the next words say which.
COLOUR = (
  'SamplesPerPixel=3',
  'PhotometricInterpretation=',
  'BitsAllocated=32',
  '8 bits in big-endian words',
  'is not read',
)


def photometric(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    if file.read(132)[128:] != b'DICM':
      return ''
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    header = pydicom.dcmread(path, stop_before_pixels=True)
  return header.get('PhotometricInterpretation', '')


SHIPPED = {path.stem: path for path in sorted(FILES.glob('*.dcm'))}
KINDS = {name: photometric(path) for name, path in SHIPPED.items()}
GREY = [name for name, kind in KINDS.items() if kind.startswith('MONO')]
COLOURED = [name for name, kind in KINDS.items() if kind and name not in GREY]
REST = [name for name, kind in KINDS.items() if not kind]


def oracle(name: str) -> np.ndarray:
  """Stored values by pydicom, through a decoder that is not ours."""
  ds = pydicom.dcmread(SHIPPED[SIBLINGS.get(name, name)])
  syntax = ds.file_meta.TransferSyntaxUID
  plugin = ''
  if syntax in (uid.JPEG2000, uid.JPEG2000Lossless):
    plugin = 'pillow'
  elif syntax == uid.RLELossless:
    plugin = 'pydicom'
  return pixels.pixel_array(ds, raw=True, decoding_plugin=plugin)


def test_the_package_ships_what_this_suite_is_about():
  assert len(GREY) >= 25
  assert len(COLOURED) >= 25
  assert set(REFUSED) | set(SIBLINGS) | set(NEAR_LOSSLESS) <= set(GREY)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('name', GREY)
def test_a_shipped_greyscale_file_is_exact_or_refused_by_name(name):
  path = SHIPPED[name]
  syntax = (
    pydicom.dcmread(path, stop_before_pixels=True)
    .file_meta['TransferSyntaxUID']
    .value
  )
  readable = syntax in dicom.TRANSFER_SYNTAXES
  if name in REFUSED or not readable:
    expected = REFUSED.get(name) if readable else syntax.name
    with pytest.raises(dicom.DicomError) as caught:
      dicom.read_pixels(path)
    assert expected in str(caught.value)
    return
  read = dicom.read_pixels(path)
  if name in NEAR_LOSSLESS:
    digest = hashlib.sha256(read.tobytes()).hexdigest()[:32]
    assert digest == NEAR_LOSSLESS[name]
    return
  expected = oracle(name)
  assert read.dtype == expected.dtype
  np.testing.assert_array_equal(read, expected)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('name', COLOURED)
def test_a_shipped_colour_file_is_luma_or_refused_by_name(name):
  ds = pydicom.dcmread(SHIPPED[name])
  try:
    read = dicom.read_pixels(SHIPPED[name])
  except dicom.DicomError as error:
    assert any(words in str(error) for words in COLOUR)
    return
  if ds.PhotometricInterpretation == 'YBR_FULL_422':
    expected = pixels.pixel_array(ds, raw=True)[..., 0]
  else:
    rgb = ds.pixel_array
    if ds.PhotometricInterpretation == 'PALETTE COLOR':
      rgb = pixels.apply_color_lut(rgb, ds)
    expected = (rgb >> 8 * (rgb.itemsize - 1)) @ np.array([0.299, 0.587, 0.114])
  assert read.dtype == np.uint8
  np.testing.assert_allclose(read, expected, atol=0.502)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('name', REST)
def test_a_shipped_file_without_an_image_is_refused(name):
  with pytest.raises(dicom.DicomError) as caught:
    dicom.read_pixels(SHIPPED[name])
  words = ('no pixels', 'not a DICOM file', 'transfer syntax missing')
  assert any(each in str(caught.value) for each in words)


IMAGE = (np.add.outer(np.arange(90) ** 2, 3 * np.arange(70)) % 4096).astype(
  np.uint16
)


def rle(image: np.ndarray) -> bytes:
  """An RLE frame of literal runs: PS3.5 G.3 needs nothing else."""
  segments = []
  for plane in (image >> 8, image & 255):
    data = plane.astype(np.uint8).tobytes()
    runs = [data[i : i + 128] for i in range(0, len(data), 128)]
    segment = b''.join(bytes([len(run) - 1]) + run for run in runs)
    segments.append(segment + b'\0' * (len(segment) % 2))
  header = struct.pack('<16L', 2, 64, 64 + len(segments[0]), *[0] * 13)
  return header + b''.join(segments)


def jpeg_lossless(predictor: int) -> bytes:
  return imagecodecs.jpeg8_encode(
    IMAGE, lossless=True, predictor=predictor, bitspersample=12
  )


def jpeg2000() -> bytes:
  return imagecodecs.jpeg2k_encode(
    IMAGE, codecformat='j2k', reversible=True, level=0, bitspersample=12
  )


NATIVE = (
  uid.ImplicitVRLittleEndian,
  uid.ExplicitVRLittleEndian,
  uid.ExplicitVRBigEndian,
  uid.DeflatedExplicitVRLittleEndian,
)
ENCODERS = {
  uid.JPEGLossless: lambda: jpeg_lossless(6),
  uid.JPEGLosslessSV1: lambda: jpeg_lossless(1),
  uid.JPEGLSLossless: lambda: imagecodecs.jpegls_encode(IMAGE),
  uid.JPEGLSNearLossless: lambda: imagecodecs.jpegls_encode(IMAGE),
  uid.JPEG2000Lossless: jpeg2000,
  uid.JPEG2000: jpeg2000,
  uid.HTJ2KLossless: lambda: imagecodecs.htj2k_encode(IMAGE),
  uid.HTJ2KLosslessRPCL: lambda: imagecodecs.htj2k_encode(IMAGE),
  uid.HTJ2K: lambda: imagecodecs.htj2k_encode(IMAGE),
  uid.RLELossless: lambda: rle(IMAGE),
}


def file_of(syntax: uid.UID) -> bytes:
  """IMAGE in a transfer syntax; nonsense where there is no encoder."""
  ds = Dataset()
  ds.SamplesPerPixel = 1
  ds.PhotometricInterpretation = 'MONOCHROME2'
  ds.Rows, ds.Columns = IMAGE.shape
  ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
  ds.PixelRepresentation = 0
  big = syntax == uid.ExplicitVRBigEndian
  if syntax in NATIVE:
    words = IMAGE.astype('>u2' if big else '<u2')
    ds.add_new('PixelData', 'OW', words.tobytes())
  else:
    data = ENCODERS.get(syntax, lambda: bytes(100))()
    ds.add_new('PixelData', 'OB', encaps.encapsulate([data]))
    ds['PixelData'].is_undefined_length = True
  body = filebase.DicomBytesIO()
  body.is_little_endian = not big
  body.is_implicit_VR = syntax == uid.ImplicitVRLittleEndian
  filewriter.write_dataset(body, ds)
  data = body.getvalue()
  if syntax == uid.DeflatedExplicitVRLittleEndian:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = packer.compress(data) + packer.flush()
  name = str(syntax).encode() + b'\0' * (len(syntax) % 2)
  meta = b'\x02\x00\x10\x00UI' + struct.pack('<H', len(name)) + name
  return bytes(128) + b'DICM' + meta + data


@pytest.mark.parametrize('syntax', uid.AllTransferSyntaxes, ids=str)
def test_every_transfer_syntax_is_exact_or_refused_by_name(syntax):
  data = file_of(syntax)
  if syntax in dicom.TRANSFER_SYNTAXES:
    read = dicom.read_pixels(data)
    assert read.dtype == IMAGE.dtype
    np.testing.assert_array_equal(read, IMAGE)
    return
  with pytest.raises(dicom.DicomError) as caught:
    dicom.read_pixels(data)
  assert f'{syntax} ({syntax.name}) is not read' in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['1.2.3.4', '', '1.2.840.10008.1.2.4.999'])
def test_an_unknown_transfer_syntax_is_refused(name):
  with pytest.raises(dicom.DicomError, match='is not read'):
    dicom.read_pixels(file_of(uid.UID(name)))


TRANSCODED = sorted(DATA.glob('rsna_transcoded/*.dcm'))


@real
@pytest.mark.parametrize('copy', TRANSCODED, ids=lambda path: path.stem)
def test_a_transcoded_real_file_has_the_pixels_of_its_original(copy):
  number = copy.stem.split('_')[0]
  (original,) = DATA.glob(f'rsna_dicom/*/*/{number}.dcm')
  syntax = pydicom.dcmread(copy, stop_before_pixels=True).file_meta
  before = pydicom.dcmread(original, stop_before_pixels=True).file_meta
  assert syntax.TransferSyntaxUID != before.TransferSyntaxUID
  np.testing.assert_array_equal(
    dicom.read_pixels(copy), dicom.read_pixels(original)
  )
