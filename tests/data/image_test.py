"""What kind of file it is, is told by content."""

import io

import numpy as np
import pytest
from PIL import Image

from rsna_jax import errors
from rsna_jax.data import dicom, image, raster

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 50)).astype(np.uint8)


def png() -> bytes:
  out = io.BytesIO()
  Image.fromarray(PIXELS).save(out, 'PNG')
  return out.getvalue()


def test_a_picture_is_read_whatever_its_name(tmp_path):
  path = tmp_path / 'picture.dcm'
  path.write_bytes(png())
  for source in (path, str(path), png()):
    np.testing.assert_array_equal(image.read(source).pixels, PIXELS)


def test_the_readers_answer_for_damaged_files(tmp_path):
  with pytest.raises(raster.RasterError):
    image.read(png()[:100])
  # A preamble may look like a picture; the DICOM prefix decides.
  with pytest.raises(dicom.DicomError, match='transfer syntax'):
    image.read(png()[:128].ljust(128, b'\0') + b'DICM')
  for data in (b'', b'MZ', b'%PDF-1.4', bytes(500)):
    with pytest.raises(errors.InputError) as caught:
      image.read(data)
    assert '\n' not in str(caught.value)
  with pytest.raises(FileNotFoundError):
    image.read(tmp_path / 'missing.png')
