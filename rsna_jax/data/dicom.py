"""Reads mammograms from DICOM files that nobody vouches for."""

import dataclasses
import os

import numpy as np

from rsna_jax.data import dicom_file, dicom_header, mammogram

MAX_BYTES = 2 << 30  # of all frames that are returned at once
MODALITIES = ('MG', 'DX', 'CR')  # archives file mammograms under all three
TRANSFER_SYNTAXES = dicom_file.TRANSFER_SYNTAXES
DicomError = dicom_file.DicomError


def read_pixels(
  source: str | os.PathLike | bytes, frame: int | None = None
) -> np.ndarray:
  """Reads the stored values of a DICOM file.

  Args:
    source: path or content of the file.
    frame: number of the only frame to read, from 0; None: all of them.

  Returns:
    (rows, cols) for one frame, else (frames, rows, cols): uint8, uint16, int8
    or int16, as BitsAllocated and PixelRepresentation say.

  Raises:
    DicomError: not DICOM, no or damaged or absurdly big pixels, a transfer
      syntax outside `TRANSFER_SYNTAXES`, no such frame.
    OSError: the file cannot be opened.
  """
  with dicom_file.File(source) as file:
    if frame is not None or file.frames == 1:
      return file.pixels(frame or 0).level(0)
    size = file.frames * file.frame_bytes
    if size > MAX_BYTES:
      raise file.error(
        f'{file.frames} frames of {size >> 20} MiB; read them one at a time'
      )
    # The first frame is decoded before there is room for all of them.
    first = file.pixels(0).level(0)
    frames = np.empty((file.frames, *first.shape), first.dtype)
    frames[0] = first
    for index in range(1, file.frames):
      frames[index] = file.pixels(index).level(0)
    return frames


def read_mammogram(
  source: str | os.PathLike | bytes,
  frame: int | None = None,
  name: str | None = None,
) -> mammogram.Mammogram:
  """Reads one frame of a DICOM file with all that its greys need.

  Args:
    source: path or content of the file.
    frame: number of the frame, from 0; a file of one frame needs none.
    name: of the file, for messages; default: its path.

  Raises:
    DicomError: as in `read_pixels`; also a modality that is no mammogram's,
      or several frames and none named.
    OSError: the file cannot be opened.
  """
  found = open_mammogram(source, frame, name)
  return dataclasses.replace(found, pixels=found.pixels.level(0))


def open_mammogram(
  source: str | os.PathLike | bytes,
  frame: int | None = None,
  name: str | None = None,
) -> mammogram.Mammogram:
  """As `read_mammogram`, but `pixels` decode when, and as far as, asked for.

  The file is closed; the compressed frame is in memory. Asking for pixels may
  raise DicomError.
  """
  with dicom_file.File(source, name) as file:
    modality = str(file.header.get('Modality') or '')
    if modality and modality not in MODALITIES:
      raise file.error(
        f'Modality={modality!r}: no mammogram; give {", ".join(MODALITIES)}',
        about='modality',
      )
    if file.frames > 1 and frame is None:
      raise file.error(
        f'{file.frames} frames: name the one to read', about='frames'
      )
    pixels = file.pixels(frame or 0)
    fields = file.parse(dicom_header.fields, file.header, frame or 0)
  encoding = {
    'transfer_syntax': str(file.syntax),
    **file.parse(dicom_header.encoding, file.header),
    **pixels.encoding,
  }
  return mammogram.Mammogram(
    pixels=pixels, name=file.name, encoding=encoding, **fields
  )
