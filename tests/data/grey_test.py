"""The grey chain against pydicom's and against the standard's formulas."""

import math

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from rsna_jax.data import grey, mammogram, pyramid

PIXELS = np.random.default_rng(0).integers(0, 4096, (40, 30)).astype(np.uint16)


def image(pixels=PIXELS, **fields) -> mammogram.Mammogram:
  fields = {'photometric': 'MONOCHROME2', 'bits_stored': 12, **fields}
  return mammogram.Mammogram(pixels=pixels, **fields)


def reference(pixels=PIXELS, **elements) -> np.ndarray:
  """pydicom's presentation values, from 0 to 1."""
  ds = Dataset()
  ds.file_meta = FileMetaDataset()
  ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  ds.PhotometricInterpretation = 'MONOCHROME2'
  ds.BitsStored, ds.BitsAllocated, ds.PixelRepresentation = 12, 16, 0
  for keyword, value in elements.items():
    setattr(ds, keyword, value)
  slope = float(ds.get('RescaleSlope', 1))
  low = float(ds.get('RescaleIntercept', 0))
  high = low + slope * 4095
  out = apply_voi_lut(apply_modality_lut(pixels, ds), ds).astype(np.float64)
  return (out - low) / (high - low)


# pydicom's sigmoid overflows to its limit, as it should.
@pytest.mark.filterwarnings('ignore:overflow')
@pytest.mark.parametrize('function', ['LINEAR', 'LINEAR_EXACT', 'SIGMOID'])
@pytest.mark.parametrize('slope, intercept', [(1, 0), (0.5, -300)])
@pytest.mark.parametrize('window', [(1800.31, 1091.97), (2048, 4096), (900, 2)])
def test_windows_agree_with_pydicom(function, slope, intercept, window):
  expected = reference(
    WindowCenter=window[0],
    WindowWidth=window[1],
    VOILUTFunction=function,
    RescaleSlope=slope,
    RescaleIntercept=intercept,
  )
  shown = grey.presentation(
    image(
      windows=(window, (1, 1)),
      voi_function=function,
      rescale_slope=slope,
      rescale_intercept=intercept,
    )
  )
  assert shown.dtype == np.float32
  np.testing.assert_allclose(shown, expected, atol=2e-4)


@pytest.mark.parametrize('function', ['LINEAR', 'LINEAR_EXACT', 'SIGMOID'])
def test_windows_are_the_formulas_of_the_standard(function):
  c, w = 1000.0, 400.0

  def formula(x):
    if function == 'SIGMOID':
      return 1 / (1 + math.exp(-4 * (x - c) / w))
    if function == 'LINEAR_EXACT':
      if x <= c - w / 2:
        return 0.0
      return 1.0 if x > c + w / 2 else (x - c) / w + 0.5
    if x <= c - 0.5 - (w - 1) / 2:
      return 0.0
    if x > c - 0.5 + (w - 1) / 2:
      return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5

  values = np.arange(600, 1500, dtype=np.uint16).reshape(30, 30)
  shown = grey.presentation(
    image(values, windows=((c, w),), voi_function=function)
  )
  expected = np.vectorize(formula)(values.astype(float))
  np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_a_width_of_one_is_a_step():
  values = np.array([[998, 999, 1000, 1001]], np.uint16)
  shown = grey.presentation(image(values, windows=((1000, 1),)))
  np.testing.assert_array_equal(shown, [[0, 0, 1, 1]])


def lut(first, values, bits):
  item = Dataset()
  item.LUTDescriptor = [len(values), first, bits]
  item.LUTData = [int(v) for v in values]
  ours = mammogram.Lut(
    first=first, values=np.asarray(values, np.float64), bits=bits
  )
  return item, ours


def test_voi_lut_comes_before_the_window_and_agrees_with_pydicom():
  values = np.sort(np.random.default_rng(1).integers(0, 4096, 900))
  item, ours = lut(700, values, 12)
  expected = reference(VOILUTSequence=Sequence([item]))
  full = image(voi_luts=(ours,), windows=((5, 10),))
  np.testing.assert_allclose(grey.presentation(full), expected, atol=1e-6)
  linear = grey.presentation(full, 'linear')
  np.testing.assert_allclose(linear, np.clip((PIXELS - 4.5) / 9 + 0.5, 0, 1))


def test_modality_lut_takes_the_place_of_the_slope():
  values = np.random.default_rng(2).integers(0, 65536, 4096)
  item, ours = lut(0, values, 16)
  item.ModalityLUTType = 'US'
  ds = Dataset()
  ds.ModalityLUTSequence = Sequence([item])
  out = apply_modality_lut(PIXELS, ds).astype(float)
  shown = grey.presentation(image(modality_lut=ours, rescale_slope=9.0), 'none')
  expected = (out - out.min()) / (out.max() - out.min())
  np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_values_between_two_entries_of_a_lut_are_interpolated():
  _, ours = lut(10, [0, 100, 300], 8)
  show = grey.curve(image(voi_luts=(ours,)))
  values = np.array([[9.0, 10.5, 11.25, 99.0]], np.float32)
  expected = np.clip(np.array([[0, 50, 150, 300]]) / 255, 0, 1)
  np.testing.assert_allclose(show(values), expected, atol=1e-6)


def test_window_option_linear_ignores_the_named_function():
  sigmoid = image(windows=((2000, 500),), voi_function='SIGMOID')
  linear = image(windows=((2000, 500),))
  np.testing.assert_array_equal(
    grey.presentation(sigmoid, 'linear'), grey.presentation(linear, 'full')
  )
  assert not np.allclose(
    grey.presentation(sigmoid), grey.presentation(linear), atol=0.01
  )


def test_window_option_none_takes_the_range_without_padding():
  pixels = PIXELS.copy()
  pixels[:3] = 65000
  shown = grey.presentation(
    image(pixels, padding=(65000, 65000), windows=((5, 10),)), 'none'
  )
  rest = PIXELS[3:].astype(np.float64)
  expected = (rest - rest.min()) / (rest.max() - rest.min())
  np.testing.assert_allclose(shown[3:], expected, atol=1e-6)
  assert not shown[:3].any()
  with pytest.raises(ValueError, match='choose full, linear, none'):
    grey.presentation(image(), 'all')


@pytest.mark.parametrize(
  'window', [(2000, 0), (2000, math.nan), (math.inf, 10), (0, -5)]
)
def test_an_unusable_window_counts_as_none(window):
  shown = grey.presentation(image(windows=(window,)))
  np.testing.assert_array_equal(shown, grey.presentation(image(), 'none'))
  assert np.isfinite(shown).all()


def test_the_range_is_that_of_the_pixels_that_are_named():
  show = grey.curve(image(), pixels=np.array([[1000, 2000]], np.int32))
  np.testing.assert_allclose(
    show(np.array([500, 1000, 1250, 2000, 3000])), [0, 0, 0.25, 1, 1]
  )
  windowed = grey.curve(image(windows=((2000, 500),)), pixels=PIXELS[:1])
  np.testing.assert_array_equal(
    windowed(PIXELS), grey.presentation(image(windows=((2000, 500),)))
  )


class Counted(pyramid.Array):
  """A pyramid that notes what it was asked for."""

  def __init__(self, pixels):
    super().__init__(pixels)
    self.asked = []

  def level(self, level, box=None):
    self.asked.append(level)
    return super().level(level, box)


def test_the_range_of_a_pyramid_is_that_of_its_thumbnail():
  pixels = np.full((1000, 700), 300, np.uint16)
  pixels[:, 350:] = 900
  counted = Counted(pixels)
  show = grey.curve(image(counted))
  assert counted.asked == [3]
  # A low-pass band overshoots a step by some 15 per cent at most.
  np.testing.assert_allclose(show(np.array([300, 900])), [0, 1], atol=0.16)
  counted.asked.clear()
  grey.curve(image(counted, windows=((2000, 500),)))
  assert not counted.asked
  counted.asked.clear()
  shown = grey.presentation(image(counted))
  np.testing.assert_array_equal(shown, grey.presentation(image(pixels)))


def test_monochrome1_is_inverted_after_the_window():
  fields = {'windows': ((1200, 500),), 'voi_function': 'SIGMOID'}
  plain = grey.presentation(image(**fields))
  for inverted in (
    image(**{**fields, 'photometric': 'MONOCHROME1'}),
    image(**fields, presentation_lut_shape='INVERSE'),
    image(
      **{**fields, 'photometric': 'MONOCHROME1'},
      presentation_lut_shape='INVERSE',
    ),
  ):
    np.testing.assert_allclose(grey.presentation(inverted), 1 - plain)


def test_padding_is_black_after_the_inversion():
  pixels = PIXELS.astype(np.int16)
  pixels[0], pixels[1], pixels[2] = -2000, -1990, -1980
  shown = grey.presentation(
    image(pixels, photometric='MONOCHROME1', padding=(-2000, -1990))
  )
  assert not shown[:2].any()
  assert shown[2].min() == 1


def test_a_constant_or_empty_image_is_black():
  flat = np.full((20, 20), 7, np.uint8)
  assert not grey.presentation(image(flat)).any()
  assert not grey.presentation(image(flat, padding=(7, 7))).any()
  assert not grey.presentation(image(flat, photometric='')).any()


def picture(breast=0.5) -> np.ndarray:
  """A textured half disc on black, filling that much of the picture."""
  rows = np.arange(300)[:, None] - 150
  cols = np.arange(200)[None]
  radius = math.sqrt(2 * breast * 300 * 200 / math.pi)
  inside = rows**2 + cols**2 < radius**2
  noise = np.random.default_rng(3).normal(120, 25, inside.shape)
  return np.where(inside, np.clip(noise, 20, 255), 0).astype(np.uint8)


@pytest.mark.parametrize('breast', [0.1, 0.4, 0.6])
def test_polarity_of_a_picture_is_told_by_its_content(breast):
  bright = picture(breast)
  assert not grey.looks_inverted(bright)
  assert grey.looks_inverted(255 - bright)
  shown = grey.presentation(image(bright, photometric=''))
  again = grey.presentation(image(255 - bright, photometric=''))
  np.testing.assert_allclose(shown, again, atol=1e-6)
  assert shown[:, -10:].max() == 0
