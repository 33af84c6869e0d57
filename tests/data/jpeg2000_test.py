"""JPEG 2000 at levels and in parts against the image itself."""

import imagecodecs
import numpy as np
import openjpeg
import pytest

from rsna_jax.data import codestream, jpeg2000, openjp2, pyramid


def _frame(image, signed=False):
  return codestream.Frame(
    rows=image.shape[0],
    columns=image.shape[1],
    bits_allocated=16,
    bits_stored=16,
    signed=signed,
  )


def _image(shape=(150, 101), seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(100, 60000, shape).astype(np.uint16)


def _encode(image, **options):
  options = {'resolutions': 6, 'codecformat': 'j2k'} | options
  return imagecodecs.jpeg2k_encode(image, level=0, reversible=True, **options)


@pytest.mark.parametrize('codecformat', ['j2k', 'jp2'])
@pytest.mark.parametrize('resolutions', [1, 3, 6])
def test_levels_and_parts_are_those_of_the_image(codecformat, resolutions):
  image = _image()
  data = _encode(image, codecformat=codecformat, resolutions=resolutions)
  found = jpeg2000.Image(data, _frame(image))
  expected = pyramid.Array(image)
  for level in range(6):
    whole = np.clip(expected.level(level), 0, 65535)
    np.testing.assert_array_equal(np.clip(found.level(level), 0, 65535), whole)
    rows, cols = whole.shape
    box = (rows // 3, cols // 4, rows, max(cols // 2, cols // 4 + 1))
    np.testing.assert_array_equal(
      np.clip(found.level(level, box), 0, 65535),
      whole[box[0] : box[2], box[1] : box[3]],
    )


def test_without_openjpegs_own_interface_the_result_is_the_same(monkeypatch):
  image = _image()
  data = _encode(image)
  fast = jpeg2000.Image(data, _frame(image))
  expected = [fast.level(level) for level in range(4)]
  monkeypatch.setattr(openjp2, 'library', lambda: None)
  slow = jpeg2000.Image(data, _frame(image))
  for level, one in enumerate(expected):
    np.testing.assert_array_equal(np.clip(slow.level(level), 0, 65535), one)


def test_the_exported_library_is_found():
  # Without it every JPEG 2000 file is decoded in full, right but slow.
  assert openjp2.library() is not None


def test_a_full_decode_equals_the_python_interface():
  image = _image((64, 80))
  stream = _encode(image)
  np.testing.assert_array_equal(
    openjp2.decode(stream), openjpeg.decode(stream, j2k_format=0)
  )


def test_encoding_is_told():
  image = _image()
  found = jpeg2000.Image(_encode(image, resolutions=3), _frame(image))
  assert found.encoding == {
    'codec': 'jpeg2000',
    'precision': 16,
    'tiles': 1,
    'levels': 2,
    'layers': 1,
    'transform': '5-3',
  }


@pytest.mark.parametrize('level', [0, 1, 3])
def test_a_stream_cut_short_is_refused(level):
  image = _image()
  data = _encode(image)
  with pytest.raises(codestream.CodestreamError, match='cut short'):
    jpeg2000.Image(data[: len(data) // 2], _frame(image))
  # Cut, and made to look whole: the length in the tile-part is a lie.
  cut = bytearray(data[: len(data) // 2] + b'\xff\xd9')
  at = cut.index(b'\xff\x90')
  cut[at + 6 : at + 10] = (len(cut) - 2 - at).to_bytes(4, 'big')
  found = jpeg2000.Image(bytes(cut), _frame(image))
  if level == 0:
    with pytest.raises(codestream.CodestreamError, match='damaged'):
      found.level(level)


def test_other_dimensions_than_the_header_are_refused():
  image = _image()
  with pytest.raises(codestream.CodestreamError, match='150x101'):
    jpeg2000.Image(_encode(image), _frame(image[:-1]))
