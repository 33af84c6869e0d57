import io

import imagecodecs
import numpy as np
import pytest
import volumes
from PIL import Image

from rsna_jax import errors
from rsna_jax.data import breast, dicom, grey, image, mammogram, pictures

TEXT = volumes.letters('DOE JANE', (320, 240), (20, 160), 14)


def made(path, span=None, projections=('',), values=None, **options):
  answer = pictures.picture(str(path), span, projections, values, options)
  return [one['data'] for one in answer]


def loaded(data):
  return np.load(io.BytesIO(data), allow_pickle=False)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
def test_a_png_holds_presentation_values(bits, photometric, tmp_path):
  pixels, inside = volumes.breast()
  pixels[TEXT] = 3000
  if photometric == 'MONOCHROME1':
    pixels = 4095 - pixels
  path = tmp_path / 'a.dcm'
  volumes.write(path, pixels, PhotometricInterpretation=photometric)
  wanted = grey.presentation(image.read(path)) * (2**bits - 1)
  (kept,) = made(path, format=f'png{bits}', keep_labels=True)
  (bare,) = made(path, format=f'png{bits}')
  found = imagecodecs.png_decode(kept)
  assert found.dtype == f'u{bits // 8}'
  np.testing.assert_allclose(found, wanted, atol=0.51)
  found = imagecodecs.png_decode(bare)
  assert (found[TEXT] == 0).all()
  np.testing.assert_allclose(found[inside], wanted[inside], atol=0.51)
  with Image.open(io.BytesIO(bare)) as opened:
    assert not opened.info


def test_an_npy_holds_stored_values_where_nothing_is_rescaled(tmp_path):
  pixels, _ = volumes.breast()
  pixels[TEXT] = 3000
  path = tmp_path / 'a.dcm'
  volumes.write(path, pixels)
  found = loaded(made(path, format='npy', keep_labels=True)[0])
  assert found.dtype == np.uint16
  np.testing.assert_array_equal(found, pixels)
  bare = loaded(made(path, format='npy')[0])
  assert bare.dtype == np.uint16
  np.testing.assert_array_equal(bare, np.where(TEXT, 0, pixels))


def test_an_npy_holds_rescaled_values_and_black_of_monochrome1(tmp_path):
  pixels, _ = volumes.breast()
  pixels[TEXT] = 3000
  pixels = 4095 - pixels
  path = tmp_path / 'a.dcm'
  volumes.write(
    path,
    pixels,
    PhotometricInterpretation='MONOCHROME1',
    RescaleSlope='2',
    RescaleIntercept='-100',
    WindowCenter='5090',
    WindowWidth='6000',
  )
  found = loaded(made(path, format='npy')[0])
  assert found.dtype == np.float32
  np.testing.assert_array_equal(
    found, np.where(TEXT, 2.0 * 4095 - 100, 2.0 * pixels - 100)
  )


def test_modality_values_of_a_look_up_table():
  lut = mammogram.Lut(first=3, values=np.array([5.0, 1.0, 9.0]), bits=16)
  pixels = np.array([[0, 3, 4, 5, 60]], np.uint16)
  found = mammogram.Mammogram(pixels=pixels, modality_lut=lut)
  np.testing.assert_array_equal(
    pictures.modality_values(found, pixels), [[5, 5, 1, 9, 9]]
  )


def volume(path, **more):
  stack = np.stack([volumes.breast(seed=i)[0] for i in range(4)])
  stack[2, TEXT] = 3500
  volumes.write(path, stack, enhanced=True, jpeg2000=True, **more)
  return stack


def test_slices_and_slabs_of_a_compressed_volume(tmp_path):
  stack = volume(tmp_path / 'a.dcm')
  for i in range(4):
    (data,) = made(tmp_path / 'a.dcm', (i, i + 1), format='npy')
    np.testing.assert_array_equal(loaded(data), np.where(TEXT, 0, stack[i]))
  most, mean = made(tmp_path / 'a.dcm', (1, 4), ('max', 'mean'), format='npy')
  wanted = np.where(TEXT, 0, stack)[1:]
  np.testing.assert_array_equal(loaded(most), wanted.max(axis=0))
  assert np.abs(loaded(mean) - wanted.mean(axis=0)).max() <= 0.5


def test_a_label_of_one_frame_goes_from_a_mean_in_which_it_is_faint(tmp_path):
  stack = np.stack([volumes.breast(seed=i)[0] for i in range(4)])
  stack[2, TEXT] = 300
  volumes.write(tmp_path / 'a.dcm', stack)
  (mean,) = made(tmp_path / 'a.dcm', (0, 4), ('mean',), format='npy')
  assert not loaded(mean)[TEXT].any()


def test_the_range_given_is_black_and_white(tmp_path):
  stack = volume(tmp_path / 'a.dcm')
  ranges = [pictures.value_range(str(tmp_path / 'a.dcm'), i) for i in range(4)]
  assert ranges == [(s.min(), s.max()) for s in stack]
  (data,) = made(tmp_path / 'a.dcm', (0, 1), values=(0, 5000), format='png16')
  wanted = stack[0] / 5000 * 65535
  np.testing.assert_allclose(imagecodecs.png_decode(data), wanted, atol=1)


def test_whether_the_range_counts_is_said(tmp_path):
  volume(tmp_path / 'a.dcm')
  path = str(tmp_path / 'a.dcm')
  assert pictures.describe(path, 'full') == {
    'frames': 4,
    'spacing_mm': 1.5,
    'ranged': False,
  }
  assert pictures.describe(path, 'none')['ranged']
  volumes.write(tmp_path / 'b.dcm', volumes.breast()[0])
  assert not pictures.describe(str(tmp_path / 'b.dcm'), 'none')['ranged']


def test_a_file_without_a_breast_is_refused_or_kept_as_it_is(tmp_path):
  pixels = np.where(TEXT, 3000, 0)
  volumes.write(tmp_path / 'a.dcm', pixels)
  with pytest.raises(breast.BreastError, match=r'a\.dcm.*--keep-labels'):
    made(tmp_path / 'a.dcm')
  assert made(tmp_path / 'a.dcm', keep_labels=True)


def test_a_frame_that_is_not_there_is_named(tmp_path):
  volume(tmp_path / 'a.dcm')
  with pytest.raises(dicom.DicomError, match='frame 4'):
    made(tmp_path / 'a.dcm', (2, 6), ('max',))


def test_unknown_options_are_refused():
  for name in ('format', 'window'):
    with pytest.raises(errors.ConfigError, match='tiff'):
      pictures.Options(**{name: 'tiff'})
