"""Sound made-up mammograms, as pictures and as DICOM files to be spoilt."""

import functools
import io

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid

from rsna_jax.data import phantom_image

SHAPE = (320, 256)


@functools.cache
def grey(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
  """(rows, cols) uint8 of a phantom, chest on the left, air of 0."""
  rng = np.random.default_rng(seed)
  picture = phantom_image.render(
    phantom_image.Anatomy(density=2 + seed % 3),
    view='MLO' if seed % 2 else 'CC',
    shape=shape,
    rng=rng,
  )
  values = np.where(picture.breast, 0.1 + 0.85 * picture.values, 0)
  pixels = np.rint(values * 255).clip(0, 255).astype(np.uint8)
  pixels.setflags(write=False)
  return pixels


def picture(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
  """The bytes of a file of one of Pillow's formats."""
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


def dataset(pixels: np.ndarray | None = None, **elements) -> pydicom.Dataset:
  """A presentation mammogram as pydicom has it, uncompressed.

  Args:
    pixels: (rows, cols) uint8 or uint16; default: `grey()`.
    elements: further ones by keyword; None takes one away.
  """
  pixels = grey() if pixels is None else pixels
  bits = 8 * pixels.itemsize
  found = pydicom.Dataset()
  found.file_meta = pydicom.dataset.FileMetaDataset()
  found.file_meta.MediaStorageSOPClassUID = '1.2.840.10008.5.1.4.1.1.1.2'
  found.file_meta.MediaStorageSOPInstanceUID = '2.25.1'
  found.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  found.SOPClassUID = '1.2.840.10008.5.1.4.1.1.1.2'
  found.SOPInstanceUID = '2.25.1'
  found.Modality = 'MG'
  found.ImageLaterality = 'L'
  found.ViewPosition = 'CC'
  found.PatientAge = '061Y'
  found.SamplesPerPixel = 1
  found.PhotometricInterpretation = 'MONOCHROME2'
  found.Rows, found.Columns = pixels.shape
  found.BitsAllocated = found.BitsStored = bits
  found.HighBit = bits - 1
  found.PixelRepresentation = 0
  found.PixelData = pixels.astype(f'<u{bits // 8}').tobytes()
  found['PixelData'].VR = 'OW' if bits == 16 else 'OB'
  for keyword, value in elements.items():
    if value is None:
      delattr(found, keyword)
    else:
      setattr(found, keyword, value)
  return found


def written(found: pydicom.Dataset) -> bytes:
  """The bytes of the file; values may be wrong on purpose."""
  out = io.BytesIO()
  syntax = found.file_meta.TransferSyntaxUID
  with pydicom.config.disable_value_validation():
    pydicom.dcmwrite(
      out,
      found,
      enforce_file_format=True,
      implicit_vr=syntax == uid.ImplicitVRLittleEndian,
      little_endian=syntax != uid.ExplicitVRBigEndian,
    )
  return out.getvalue()


def dicom(pixels: np.ndarray | None = None, **elements) -> bytes:
  """The bytes of `dataset`."""
  return written(dataset(pixels, **elements))
