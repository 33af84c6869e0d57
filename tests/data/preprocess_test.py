"""Standard images: geometry, greys, formats, and real mammograms."""

import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from rsna_jax import errors
from rsna_jax.data import dicom, grey, mammogram, preprocess

DATA = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA')
  or pathlib.Path(__file__).parents[3] / 'shared' / 'data'
)
real = pytest.mark.skipif(
  not (DATA / 'rsna_dicom').is_dir(), reason='no real data at RSNA_JAX_DATA'
)
Spec = preprocess.Spec


def pixels(rows=1200, cols=900, height=700, width=420, top=200) -> np.ndarray:
  """12-bit half ellipse at the left edge: 1000 to 3000 on 0."""
  rng = np.random.default_rng(0)
  y = np.arange(rows)[:, None] + 0.5 - top - height / 2
  x = np.arange(cols)[None] + 0.5
  inside = (2 * y / height) ** 2 + (x / width) ** 2 < 1
  texture = rng.integers(1000, 3000, (rows, cols))
  return np.where(inside, texture, 0).astype(np.uint16)


def image(values, **fields) -> mammogram.Mammogram:
  fields = {
    'photometric': 'MONOCHROME2',
    'windows': ((2048, 4096),),
    'bits_stored': 12,
    **fields,
  }
  return mammogram.Mammogram(pixels=values, name='a.dcm', **fields)


@pytest.mark.parametrize('size', [(512, 256), (300, 300), (256, 120)])
@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('dot', [(300, 60), (520, 250), (840, 30)])
def test_a_dot_is_mapped_back_to_where_it_was(size, mirrored, dot):
  values = pixels() // 8
  y, x = dot
  values[y - 4 : y + 5, x - 4 : x + 5] = 4095
  if mirrored:
    values = values[:, ::-1].copy()
    x = values.shape[1] - 1 - x
  found = preprocess.standardise(image(values), Spec(size=size, bits=16))
  assert found.flipped == mirrored
  assert found.original_shape == values.shape
  bright = np.where(found.pixels > 0.6 * found.pixels.max(), found.pixels, 0)
  weights = bright.astype(np.float64)
  ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
  centre = [np.average(xs, weights=weights), np.average(ys, weights=weights), 1]
  back = found.to_original @ centre
  step = abs(found.to_original[0, 0])
  np.testing.assert_allclose(back, [x + 0.5, y + 0.5], atol=0.35 * step)


def test_corners_of_the_box_are_those_of_the_map():
  found = preprocess.standardise(image(pixels()[:, ::-1]), Spec())
  top, left, bottom, right = found.box
  used = np.flatnonzero(found.pixels.any(axis=1))
  # Padded above and below alike, and never at the chest wall.
  assert abs(used[0] - (511 - used[-1])) <= 8
  assert found.pixels[:, 0].any()
  inverse = np.linalg.inv(np.vstack([found.to_original, [0, 0, 1]]))
  chest_top = inverse @ [right, top, 1]
  assert chest_top[0] == pytest.approx(0)
  nipple_bottom = inverse @ [left, bottom, 1]
  assert max(nipple_bottom[0] / 256, 1 - 2 * chest_top[1] / 512) == (
    pytest.approx(1, abs=0.01)
  )
  x_scale, y_scale = -found.to_original[0, 0], found.to_original[1, 1]
  assert x_scale == pytest.approx(y_scale, rel=0.01)


def shares(rows: int, n: int) -> np.ndarray:
  """(n, rows): the share of each pixel in the mean of an output pixel."""
  edges = np.arange(n + 1)[:, None] * rows / n
  pixel = np.arange(rows)[None]
  overlap = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
  return np.clip(overlap, 0, None) * n / rows


def test_pixels_are_the_window_of_area_means_of_the_crop():
  values = pixels()
  original = image(values, windows=((1500, 2500),))
  found = preprocess.standardise(original, Spec(size=(512, 320), bits=16))
  top, left, bottom, right = found.box
  height = round((bottom - top) / found.to_original[1, 1])
  width = round((right - left) / found.to_original[0, 0])
  means = (
    shares(bottom - top, height)
    @ values[top:bottom, left:right].astype(np.float64)
    @ shares(right - left, width).T
  )
  expected = np.clip((means - 1499.5) / 2499 + 0.5, 0, 1) * 65535
  offset = (512 - height) // 2
  result = found.pixels[offset : offset + height, :width]
  inner = np.s_[height // 3 : -height // 3, : width // 2]
  np.testing.assert_allclose(result[inner], expected[inner], atol=1.5)


def test_both_polarities_give_one_image():
  values = pixels()
  plain = preprocess.standardise(image(values), Spec(bits=16))
  inverted = preprocess.standardise(
    image(4095 - values, photometric='MONOCHROME1'), Spec(bits=16)
  )
  assert inverted.inverted
  assert not plain.inverted
  difference = inverted.pixels.astype(int) - plain.pixels
  assert abs(difference).max() <= 2
  exported = mammogram.Mammogram(pixels=(values >> 4).astype(np.uint8))
  negative = mammogram.Mammogram(pixels=255 - exported.pixels)
  positive = preprocess.standardise(exported, Spec())
  negative = preprocess.standardise(negative, Spec())
  assert (positive.inverted, negative.inverted) == (False, True)
  assert abs(positive.pixels.astype(int) - negative.pixels).max() <= 1


def test_labels_in_the_box_and_outside_are_black():
  values = pixels()
  values[210:240, 330:410] = 4000  # in the corner of the box
  values[20:60, 600:700] = 4095
  values[:, 700:712] = 1500
  found = preprocess.standardise(image(values), Spec(bits=16))
  clean = preprocess.standardise(image(pixels()), Spec(bits=16))
  assert found.box == clean.box
  np.testing.assert_array_equal(found.pixels, clean.pixels)


def test_padding_is_black_and_does_not_darken_the_skin():
  values = pixels().astype(np.int16)
  values[values == 0] = -3000
  found = preprocess.standardise(
    image(values, padding=(-3000, -3000), signed=True), Spec(bits=16)
  )
  plain = preprocess.standardise(image(pixels()), Spec(bits=16))
  assert found.box == plain.box
  # Without the shares of padding, the skin would be black by two pixels.
  assert (abs(found.pixels.astype(int) - plain.pixels) > 700).mean() < 0.001
  assert found.pixels.min() == 0


def test_window_and_bits_of_the_spec_count():
  values = pixels()
  original = image(values, windows=((1500, 900),), voi_function='SIGMOID')
  results = {
    window: preprocess.standardise(original, Spec(window=window)).pixels
    for window in grey.WINDOWS
  }
  assert results['full'].dtype == np.uint8
  assert not np.array_equal(results['full'], results['linear'])
  assert not np.array_equal(results['linear'], results['none'])
  deep = preprocess.standardise(original, Spec(bits=16)).pixels
  assert deep.dtype == np.uint16
  assert abs(deep / 257 - results['full']).max() <= 0.51


@pytest.mark.parametrize('shape', [(63, 500), (500, 63), (3000, 300), (1, 1)])
def test_a_picture_that_is_no_mammograms_size_is_refused(shape):
  with pytest.raises(preprocess.PreprocessError) as caught:
    preprocess.standardise(image(np.ones(shape, np.uint8)), Spec())
  assert str(caught.value).startswith(f'a.dcm: {shape[0]}x{shape[1]} pixels')


def test_a_blank_picture_is_refused_by_name():
  for value in (0, 7, 4095):
    with pytest.raises(preprocess.PreprocessError, match=r'^a\.dcm: no breast'):
      preprocess.standardise(image(np.full((300, 200), value)), Spec())


def test_a_small_picture_is_enlarged():
  found = preprocess.standardise(image(pixels()[::8, ::8]), Spec())
  assert found.pixels.shape == (512, 256)
  assert np.flatnonzero(found.pixels.any(axis=1)).size > 350


def test_names_and_json_of_specs():
  assert Spec().name() == '512x256'
  spec = Spec(size=(1024, 512), bits=16, window='linear')
  assert spec.name() == '1024x512_16bit_linear'
  assert Spec.from_json(spec.to_json()) == spec
  assert hash(Spec(size=[512, 256])) == hash(Spec())
  for value, message in (
    ({'size': [5, 5]}, 'size'),
    ({'size': [512]}, 'size'),
    ({'size': 7}, 'size'),
    ({'bits': 12}, 'bits=12'),
    ({'window': 'x'}, "window='x'"),
    ({'colour': 1}, 'colour'),
    ({'version': 999}, 'version 999'),
  ):
    with pytest.raises(preprocess.PreprocessError, match=message):
      Spec.from_json(value)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_png_is_lossless_and_read_alike_by_others(dtype):
  rng = np.random.default_rng(0)
  values = rng.integers(0, np.iinfo(dtype).max + 1, (61, 37)).astype(dtype)
  data = preprocess.encode_png(values[:, ::-1])
  read = preprocess.decode_png(data)
  assert read.dtype == dtype
  np.testing.assert_array_equal(read, values[:, ::-1])
  with Image.open(io.BytesIO(data)) as pillow:
    np.testing.assert_array_equal(np.asarray(pillow), values[:, ::-1])
  for damaged in (data[:-30], data[:20], b''):
    with pytest.raises(errors.DataError, match='damaged PNG'):
      preprocess.decode_png(damaged)
  for wrong in (values[None], values.astype(np.float32)):
    with pytest.raises(ValueError, match='greyscale'):
      preprocess.encode_png(wrong)


@real
@pytest.mark.parametrize('name', ['10006/462822612', '10011/1031443799'])
def test_real_mammograms_come_out_bright_on_black_at_the_left(name):
  read = dicom.read_mammogram(DATA / f'rsna_dicom/train_images/{name}.dcm')
  found = preprocess.standardise(read, Spec())
  columns = found.pixels.mean(axis=0)
  assert columns[:60].mean() > 3 * columns[-60:].mean()
  # Neither grey bar nor label: the box ends where the breast does.
  left, right = found.box[1], found.box[3]
  assert right - left < 0.6 * read.pixels.shape[1]
  assert found.inverted == (read.photometric == 'MONOCHROME1')
  assert found.flipped == (read.attributes['laterality'] == 'R')
  assert (found.pixels == 0).mean() > 0.2
