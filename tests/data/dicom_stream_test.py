"""What follows the pixels, and how often a header may be read."""

import io

import imagecodecs
import numpy as np
import pytest
import serve_hostile_dicom as hostile
import serve_mammograms as mammograms
from pydicom import uid

from rsna_jax.data import dicom, dicom_stream, header_values, jpeg_markers

PIXELS = b'\xe0\x7f\x10\x00'


def _frames(syntax):
  if syntax == uid.JPEG2000Lossless:
    frame = imagecodecs.jpeg2k_encode(mammograms.grey())
    return hostile.compressed(syntax, frame)
  return mammograms.dicom()


@pytest.mark.parametrize(
  'syntax', [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless]
)
def test_pixel_data_twice_is_two_pictures_in_one_file(syntax):
  data = _frames(syntax)
  np.testing.assert_array_equal(dicom.read_pixels(data), mammograms.grey())
  padding = b'\xfc\xff\xfc\xffOB\0\0\x04\0\0\0' + bytes(4)
  np.testing.assert_array_equal(
    dicom.read_pixels(data + padding), mammograms.grey()
  )
  again = data[data.index(PIXELS, 132) :]
  with pytest.raises(dicom.DicomError, match='pixel data twice') as caught:
    dicom.read_pixels(data + again)
  assert caught.value.about == 'bits'


def test_the_tag_after_the_pixels_is_found_in_either_order():
  stream = io.BytesIO(b'head' + bytes(8) + b'\x12\x34\x56\x78tail')
  assert dicom_stream.tag_after(stream, 4, 8, True) == (0x3412, 0x7856)
  assert dicom_stream.tag_after(stream, 4, 8, False) == (0x1234, 0x5678)
  assert dicom_stream.tag_after(stream, 4, 99, True) is None
  assert dicom_stream.tag_after(stream, 4, 0xFFFFFFFF, True) is None


def test_a_stream_can_be_read_a_bounded_number_of_times():
  stream = dicom_stream.Counted(io.BytesIO(bytes(9)), 3, 'too many')
  for _ in range(3):
    assert stream.read(1) == b'\0'
  with pytest.raises(header_values.HeaderError, match='too many') as caught:
    stream.read(1)
  assert caught.value.about == 'elements'


def test_fill_bytes_before_a_marker_are_passed_over():
  good = imagecodecs.jpeg8_encode(mammograms.grey(), lossless=True)
  filled = good[:2] + b'\xff' * 1_000_000 + good[2:]
  assert jpeg_markers.frame_header(filled) == jpeg_markers.frame_header(good)
