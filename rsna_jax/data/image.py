"""Reads a mammogram of any kind, judged by its content, not by its name."""

import os
import pathlib

from rsna_jax.data import dicom, mammogram, raster


def read(
  source: str | os.PathLike | bytes, frame: int | None = None
) -> mammogram.Mammogram:
  """Reads a DICOM file or a PNG, JPEG or PGM picture.

  Args:
    source: path or content of the file.
    frame: of a DICOM file of several frames.

  Raises:
    dicom.DicomError: not a readable DICOM file, and no picture either.
    raster.RasterError: a picture, and not a readable one.
    OSError: the file cannot be opened.
  """
  if isinstance(source, bytes | bytearray | memoryview):
    start = bytes(source[:16])
  else:
    with pathlib.Path(source).open('rb') as file:
      start = file.read(16)
  # The first 128 bytes of a DICOM file are anyone's, a picture's too.
  if raster.is_raster(start) and not _has_dicom_prefix(source):
    return raster.read_raster(source)
  return dicom.read_mammogram(source, frame)


def _has_dicom_prefix(source: str | os.PathLike | bytes) -> bool:
  if isinstance(source, bytes | bytearray | memoryview):
    return bytes(source[128:132]) == b'DICM'
  with pathlib.Path(source).open('rb') as file:
    return file.read(132)[128:] == b'DICM'
