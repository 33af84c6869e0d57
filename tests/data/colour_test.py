"""Colour, palettes and high bits against pydicom and BT.601 in float64."""

import os
import struct

import numpy as np
import pydicom
import pytest
from pydicom import encaps, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_color_lut, pixel_array

from rsna_jax.data import codestream, colour, dicom_header, grey, mammogram

FILES = os.path.join(os.path.dirname(pydicom.__file__), 'data', 'test_files')
RGB = np.random.default_rng(0).integers(0, 256, (21, 18, 3)).astype(np.uint8)
WEIGHTS = np.array([0.299, 0.587, 0.114])


def header(pixels=RGB, **elements) -> Dataset:
  ds = Dataset()
  ds.file_meta = FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  ds.set_original_encoding(False, True, 'iso8859')
  ds.SamplesPerPixel = 3
  ds.PhotometricInterpretation = 'RGB'
  ds.PlanarConfiguration = 0
  ds.Rows, ds.Columns = pixels.shape[:2]
  ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
  ds.HighBit = ds.BitsStored - 1
  ds.PixelRepresentation = 0
  ds.PixelData = pixels.tobytes()
  for keyword, value in elements.items():
    setattr(ds, keyword, value)
  return ds


def decoded(ds: Dataset, native=True, big=False) -> np.ndarray:
  layout = colour.layout(ds, native)
  frame, _ = dicom_header.frames(ds, checked=True)
  if native:
    size = colour.frame_bytes(frame, layout)
    return colour.native(ds.PixelData[:size], frame, layout, big)
  data = next(encaps.generate_frames(ds.PixelData, number_of_frames=1))
  return colour.rle(data, frame, layout)


def luma(rgb: np.ndarray) -> np.ndarray:
  return rgb.astype(np.float64) @ WEIGHTS


def close(read: np.ndarray, reference: np.ndarray) -> None:
  """Within the rounding to eight bits, and of weights to sixteen."""
  assert read.dtype == np.uint8
  np.testing.assert_allclose(read, reference, atol=0.502)


@pytest.mark.parametrize('planar', [0, 1])
def test_rgb_becomes_the_luma_of_bt601(planar):
  data = RGB if planar == 0 else np.moveaxis(RGB, -1, 0)
  ds = header(PlanarConfiguration=planar, PixelData=data.tobytes())
  close(decoded(ds), luma(RGB))


def test_grey_that_is_stored_as_rgb_stays_exactly_what_it_is():
  values = np.arange(256, dtype=np.uint8).reshape(16, 16)
  read = decoded(header(np.stack([values] * 3, axis=-1)))
  np.testing.assert_array_equal(read, values)


def test_colour_of_sixteen_bits_keeps_the_upper_eight():
  wide = RGB.astype(np.uint16) * 257
  close(decoded(header(wide)), luma(RGB))
  ds = header(wide, PixelData=wide.astype('>u2').tobytes())
  close(decoded(ds, big=True), luma(RGB))


def test_the_y_of_ybr_is_the_luma():
  # PS3.3 C.7.6.3.1.2: Y, Cb and Cr of the same RGB values.
  y = luma(RGB)
  cb = -0.1687 * RGB[..., 0] - 0.3313 * RGB[..., 1] + 0.5 * RGB[..., 2] + 128
  cr = 0.5 * RGB[..., 0] - 0.4187 * RGB[..., 1] - 0.0813 * RGB[..., 2] + 128
  ybr = np.rint(np.stack([y, cb, cr], -1)).clip(0, 255).astype(np.uint8)
  ds = header(ybr, PhotometricInterpretation='YBR_FULL')
  close(decoded(ds), luma(RGB))


@pytest.mark.parametrize(
  'name', ['examples_rgb_color', 'SC_rgb_small_odd', 'SC_rgb_jpeg_dcmd']
)
def test_rgb_files_of_pydicom_agree_with_its_pixels(name):
  ds = pydicom.dcmread(os.path.join(FILES, f'{name}.dcm'))
  close(decoded(ds), luma(ds.pixel_array))


def test_subsampled_colour_agrees_with_pydicom():
  ds = pydicom.dcmread(os.path.join(FILES, 'SC_ybr_full_422_uncompressed.dcm'))
  ybr = pixel_array(ds, raw=True)
  np.testing.assert_array_equal(decoded(ds), ybr[..., 0])


@pytest.mark.parametrize(
  'name', ['SC_rgb_rle', 'SC_rgb_rle_16bit', 'SC_rgb_rle_2frame']
)
def test_rle_colour_agrees_with_pydicom(name):
  ds = pydicom.dcmread(os.path.join(FILES, f'{name}.dcm'))
  pixels = ds.pixel_array
  if pixels.ndim == 4:
    pixels = pixels[0]
    ds.PixelData = encaps.encapsulate(
      [next(encaps.generate_frames(ds.PixelData, number_of_frames=2))]
    )
  pixels = pixels >> (8 * (pixels.itemsize - 1))
  close(decoded(ds, native=False), luma(pixels))


def test_a_palette_agrees_with_pydicom():
  ds = pydicom.dcmread(os.path.join(FILES, 'examples_palette.dcm'))
  rgb = apply_color_lut(ds.pixel_array, ds)
  assert rgb.dtype == np.uint16
  close(decoded(ds), luma(rgb >> 8))


@pytest.mark.parametrize('bits, wide', [(8, False), (8, True), (16, True)])
def test_a_palette_starts_where_it_says_and_its_ends_go_on(bits, wide):
  indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
  rng = np.random.default_rng(bits)
  tables = rng.integers(0, 2**bits, (3, 100))
  ds = header(
    indices, SamplesPerPixel=1, PhotometricInterpretation='PALETTE COLOR'
  )
  for channel, entries in zip(('Red', 'Green', 'Blue'), tables, strict=True):
    name = f'{channel}PaletteColorLookupTable'
    setattr(ds, f'{name}Descriptor', [100, 50, bits])
    data = struct.pack(f'<100{"H" if wide else "B"}', *entries.tolist())
    setattr(ds, f'{name}Data', data)
  at = np.clip(indices.astype(int) - 50, 0, 99)
  close(decoded(ds), luma(tables.T[at] >> (bits - 8)))


@pytest.mark.parametrize('signed', [False, True])
@pytest.mark.parametrize('big', [False, True])
def test_samples_in_the_upper_bits_are_shifted_down(signed, big):
  pixels = np.random.default_rng(1).integers(0, 4096, (21, 18))
  stored = (pixels << 4 | 5).astype('>u2' if big else '<u2')
  ds = header(
    stored,
    SamplesPerPixel=1,
    PhotometricInterpretation='MONOCHROME2',
    BitsStored=12,
    HighBit=15,
    PixelRepresentation=int(signed),
  )
  if signed:
    pixels = pixels - ((pixels >> 11) << 12)
  read = decoded(ds, big=big)
  assert read.dtype == (np.int16 if signed else np.uint16)
  np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(
  'elements, message',
  [
    ({'PhotometricInterpretation': 'HSV'}, "'HSV'"),
    ({'PhotometricInterpretation': 'YBR_PARTIAL_420'}, 'YBR_PARTIAL_4'),
    ({'PhotometricInterpretation': 'YBR_RCT'}, "'YBR_RCT'"),
    ({'SamplesPerPixel': 1}, 'SamplesPerPixel=1'),
    ({'SamplesPerPixel': 4}, 'SamplesPerPixel=4'),
    ({'PhotometricInterpretation': 'MONOCHROME2'}, 'SamplesPerPixel=3'),
    ({'PlanarConfiguration': 2}, 'PlanarConfiguration=2'),
    ({'PixelRepresentation': 1}, 'PixelRepresentation=1'),
    ({'BitsStored': 6, 'HighBit': 5}, 'BitsStored=6'),
    ({'BitsStored': 6}, 'HighBit=7'),
    ({'HighBit': 8}, 'HighBit=8'),
    ({'HighBit': 6}, 'HighBit=6'),
    (
      {'PhotometricInterpretation': 'YBR_FULL_422', 'Columns': 17},
      'Columns=17',
    ),
    (
      {'PhotometricInterpretation': 'PALETTE COLOR', 'SamplesPerPixel': 1},
      'RedPalette',
    ),
  ],
)
def test_other_samples_are_refused_by_name(elements, message):
  with pytest.raises(dicom_header.HeaderError, match=message):
    colour.layout(header(**elements), native=True)


def test_a_shift_of_compressed_pixels_is_refused():
  ds = header(
    RGB.astype(np.uint16),
    SamplesPerPixel=1,
    PhotometricInterpretation='MONOCHROME2',
    BitsStored=12,
  )
  assert colour.layout(ds, native=True).shift == 4
  with pytest.raises(dicom_header.HeaderError, match='HighBit=15'):
    colour.layout(ds, native=False)


@pytest.mark.parametrize(
  'data, message',
  [
    (b'', 'cut short'),
    (struct.pack('<16L', 1, 64, *[0] * 14) + bytes(300), '1 segments'),
    (
      struct.pack('<16L', 3, 64, 70, 10**6, *[0] * 12) + bytes(300),
      'RLE segment',
    ),
    (struct.pack('<16L', 3, 90, 80, 70, *[0] * 12) + bytes(300), 'RLE segment'),
  ],
)
def test_damaged_rle_colour_is_refused(data, message):
  ds = header()
  frame, _ = dicom_header.frames(ds, checked=True)
  with pytest.raises(codestream.CodestreamError, match=message):
    colour.rle(data, frame, colour.layout(ds, native=False))


def test_luma_is_shown_as_it_is_with_a_warning():
  read = decoded(header())
  fields = dicom_header.fields(header(WindowCenter='5', WindowWidth='3'))
  assert fields['warnings'] == (
    'PhotometricInterpretation=RGB: reduced to luma (ITU-R BT.601)',
  )
  assert fields['photometric'] == ''
  image = mammogram.Mammogram(pixels=read, **fields)
  shown = grey.curve(image)(read)
  np.testing.assert_allclose(shown, read / 255.0, atol=1e-6)
