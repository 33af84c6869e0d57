"""Reads a mammogram of any kind, judged by its content, not by its name."""

import dataclasses
import os
import pathlib

from rsna_jax.data import dicom, mammogram, pyramid, raster


def read(
  source: str | os.PathLike | bytes,
  frame: int | None = None,
  name: str | None = None,
) -> mammogram.Mammogram:
  """Reads a DICOM file or a PNG, JPEG or PGM picture.

  Args:
    source: path or content of the file.
    frame: of a DICOM file of several frames.
    name: of the file, for messages; default: its path.

  Raises:
    dicom.DicomError: not a readable DICOM file, and no picture either.
    raster.RasterError: a picture, and not a readable one.
    OSError: the file cannot be opened.
  """
  found = open_mammogram(source, frame, name)
  return dataclasses.replace(found, pixels=pyramid.of(found.pixels).level(0))


def open_mammogram(
  source: str | os.PathLike | bytes,
  frame: int | None = None,
  name: str | None = None,
) -> mammogram.Mammogram:
  """As `read`, but a DICOM file's pixels decode as far as they are asked for.

  Asking them may raise DicomError.
  """
  # The first 128 bytes of a DICOM file are anyone's, a picture's too.
  start = _start(source)
  if raster.is_raster(start[:16]) and start[128:] != b'DICM':
    return raster.read_raster(source, name)
  return dicom.open_mammogram(source, frame, name)


def _start(source: str | os.PathLike | bytes) -> bytes:
  if isinstance(source, bytes | bytearray | memoryview):
    return bytes(source[:132])
  with pathlib.Path(source).open('rb') as file:
    return file.read(132)
