"""Standard images: geometry, greys, formats, and real mammograms."""

import functools
import io
import os
import pathlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from rsna_jax import errors
from rsna_jax.data import (
  codestream,
  dicom,
  grey,
  jpeg2000,
  jpeg_lossless,
  mammogram,
  preprocess,
)

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


def shares(rows: int, start: float, end: float, n: int) -> np.ndarray:
  """(n, rows): the share of each pixel in the mean of an output pixel."""
  edges = start + np.arange(n + 1)[:, None] * (end - start) / n
  pixel = np.arange(rows)[None]
  overlap = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
  return np.clip(overlap, 0, None) * n / (end - start)


def test_pixels_are_the_window_of_area_means_of_the_crop():
  values = pixels()
  original = image(values, windows=((1500, 2500),))
  found = preprocess.standardise(original, Spec(size=(512, 320), bits=16))
  top, left, bottom, right = found.box
  height = round((bottom - top) / found.to_original[1, 1])
  width = round((right - left) / found.to_original[0, 0])
  means = (
    shares(values.shape[0], top, bottom, height)
    @ values.astype(np.float64)
    @ shares(values.shape[1], left, right, width).T
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
  # Mixed with padding, the skin would be black by two pixels.
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


def psnr(one: np.ndarray, other: np.ndarray) -> float:
  error = np.mean((one.astype(np.float64) - other) ** 2)
  return float(10 * np.log10(255**2 / max(error, 1e-9)))


def smooth(rows=2000, cols=1500, noise=25, seed=1) -> np.ndarray:
  """A breast of 12 bits with detector noise, on air of 0."""
  rng = np.random.default_rng(seed)
  y = (np.arange(rows)[:, None] - rows / 2) / (0.4 * rows)
  x = np.arange(cols)[None] / (0.6 * cols)
  depth = np.clip(1 - y**2 - x**2, 0, None)
  tissue = 900 + 1800 * np.sqrt(depth) + 200 * np.sin(9 * x) * np.cos(7 * y)
  tissue += rng.normal(0, noise, (rows, cols))
  return np.where(depth > 0, tissue, 0).clip(0, 4095).astype(np.uint16)


@functools.cache
def encoded(codec: str) -> mammogram.Mammogram:
  values = smooth()
  frame = codestream.Frame(
    rows=values.shape[0],
    columns=values.shape[1],
    bits_allocated=16,
    bits_stored=12,
    signed=False,
  )
  if codec == 'jpeg2000':
    data = imagecodecs.jpeg2k_encode(
      values, level=0, codecformat='j2k', reversible=True, resolutions=6
    )
    return image(jpeg2000.Image(data, frame), padding=(0, 0))
  data = imagecodecs.jpeg8_encode(
    values, lossless=True, predictor=1, bitspersample=12
  )
  return image(jpeg_lossless.Image(data, frame), padding=(0, 0))


@pytest.mark.parametrize('quality', preprocess.spec_lib.QUALITIES)
@pytest.mark.parametrize('size', [(512, 256), (1024, 512), (200, 90)])
def test_the_codec_cannot_be_told_from_the_result(quality, size):
  values = smooth()
  spec = Spec(size=size, quality=quality)
  found = [
    preprocess.standardise(mammogram_, spec)
    for mammogram_ in (
      image(values, padding=(0, 0)),
      encoded('jpeg2000'),
      encoded('jpeg lossless'),
    )
  ]
  for other in found[1:]:
    assert other.box == found[0].box
    np.testing.assert_array_equal(other.pixels, found[0].pixels)


@pytest.mark.parametrize('mirrored', [False, True])
def test_less_decoding_changes_little_and_shifts_nothing(mirrored):
  values = smooth()
  if mirrored:
    values = np.ascontiguousarray(values[:, ::-1])
  for size in [(512, 256), (300, 150), (128, 64)]:
    exact, fine, fast = (
      preprocess.standardise(image(values), Spec(size=size, quality=quality))
      for quality in ('exact', 'fine', 'fast')
    )
    assert psnr(fast.pixels, exact.pixels) > 45
    assert psnr(fine.pixels, exact.pixels) > 45
    # Uncorrected, the phase of the levels would shift by 0.2 to 0.5 pixels.
    difference = fast.pixels - exact.pixels.astype(float)
    for slope in np.gradient(exact.pixels.astype(float)):
      assert abs((difference * slope).sum() / (slope**2).sum()) < 0.08


def test_a_range_without_a_window_is_that_of_the_result():
  values = smooth()
  values[1000, 400] = 4095  # one hot pixel must not darken the rest
  found = preprocess.standardise(image(values, windows=()), Spec())
  assert found.pixels.max() == 255
  assert np.percentile(found.pixels, 99) > 200


def test_raw_images_are_refused_unless_they_are_wanted():
  raw = image(smooth(), presentation_intent='FOR PROCESSING')
  with pytest.raises(preprocess.PreprocessError, match='--for-processing'):
    preprocess.standardise(raw, Spec())
  preprocess.standardise(raw, Spec(for_processing='accept'))


@pytest.mark.parametrize('shape', [(1600, 1280), (1999, 1501), (12000, 3000)])
def test_a_mirrored_image_gives_the_same_standard_image(shape):
  # The chest wall reaches the end of the image, and so does the crop.
  values = smooth(*shape, noise=0)
  found = preprocess.standardise(image(values), Spec())
  turned = preprocess.standardise(
    image(np.ascontiguousarray(values[:, ::-1])), Spec()
  )
  assert (found.flipped, turned.flipped) == (False, True)
  assert found.box[1] == 0
  assert turned.box[3] == shape[1]
  assert psnr(found.pixels, turned.pixels) > 34
  # Most of the breast is there, in the longest of images, too.
  assert (found.pixels > 40).mean() > 0.2
