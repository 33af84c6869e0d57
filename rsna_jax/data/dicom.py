"""Reads mammograms from DICOM files that nobody vouches for.

The header is read without the pixels, checked and bounded; only then are
frames fetched, one at a time. Transfer syntaxes are an allow-list.
"""

import io
import os
import pathlib
import zlib
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom import encaps, filereader, tag, uid

from rsna_jax import errors
from rsna_jax.data import codestream, dicom_header, mammogram

MAX_ELEMENTS = 10_000  # of a header; a mammogram's has some 200
MAX_BYTES = 2 << 30  # of all frames that are returned at once
MAX_INFLATED_BYTES = 512 << 20  # of a deflated file
HEADER_BYTES = 4 << 20  # of a deflated file, that must hold the header
MODALITIES = ('MG', 'DX', 'CR')  # archives file mammograms under all three

_NATIVE = (
  uid.ImplicitVRLittleEndian,
  uid.ExplicitVRLittleEndian,
  uid.ExplicitVRBigEndian,
  uid.DeflatedExplicitVRLittleEndian,
)
_DECODERS = {
  uid.JPEG2000Lossless: codestream.decode_jpeg2000,
  uid.JPEG2000: codestream.decode_jpeg2000,
  uid.JPEGLossless: codestream.decode_jpeg_lossless,
  uid.JPEGLosslessSV1: codestream.decode_jpeg_lossless,
  uid.RLELossless: codestream.decode_rle,
}
TRANSFER_SYNTAXES = (*_NATIVE, *_DECODERS)


class DicomError(errors.InputError):
  """A file is not a DICOM image that can be read as a mammogram."""


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
  with _File(source) as file:
    return file.read(frame)


def read_mammogram(
  source: str | os.PathLike | bytes, frame: int | None = None
) -> mammogram.Mammogram:
  """Reads one frame of a DICOM file with all that its greys need.

  Args:
    source: path or content of the file.
    frame: number of the frame, from 0; a file of one frame needs none.

  Raises:
    DicomError: as in `read_pixels`; also a modality that is no mammogram's,
      or several frames and none named.
    OSError: the file cannot be opened.
  """
  with _File(source) as file:
    modality = str(file.header.get('Modality') or '')
    if modality and modality not in MODALITIES:
      raise file.error(
        f'Modality={modality!r}: no mammogram; give {", ".join(MODALITIES)}'
      )
    if file.frames > 1 and frame is None:
      raise file.error(f'{file.frames} frames: name the one to read')
    pixels = file.read(frame or 0)
    fields = file.parse(dicom_header.fields, file.header)
  return mammogram.Mammogram(pixels=pixels, name=file.name, **fields)


class _File:
  """An open DICOM file whose header was found sound."""

  def __init__(self, source: str | os.PathLike | bytes):
    if isinstance(source, bytes | bytearray | memoryview):
      self.name = '<bytes>'
      self._stream: BinaryIO = io.BytesIO(source)
    else:
      self.name = os.fspath(source)
      self._stream = pathlib.Path(source).open('rb')  # noqa: SIM115
    try:
      self._open()
    except BaseException:
      self._stream.close()
      raise

  def __enter__(self) -> '_File':
    return self

  def __exit__(self, *_) -> None:
    self._stream.close()

  def error(self, message: str) -> DicomError:
    return DicomError(f'{self.name}: {" ".join(message.split())}')

  def parse(self, function, *args, **kwargs):
    """Calls a parser of untrusted bytes, whose faults are the file's."""
    try:
      return function(*args, **kwargs)
    except errors.InputError:
      raise
    except dicom_header.HeaderError as error:
      raise self.error(str(error)) from error
    except Exception as error:
      raise self.error(
        f'damaged DICOM file ({type(error).__name__}: {error}'[:200]
        + '); export it again'
      ) from error

  def read(self, frame: int | None) -> np.ndarray:
    if frame is not None:
      if not 0 <= frame < self.frames:
        raise self.error(f'frame {frame}: the file has 0 to {self.frames - 1}')
      return self._read_frame(frame)
    if self.frames == 1:
      return self._read_frame(0)
    item = self._frame.dtype.itemsize
    size = self.frames * self._frame.rows * self._frame.columns * item
    if size > MAX_BYTES:
      raise self.error(
        f'{self.frames} frames of {size >> 20} MiB; read them one at a time'
      )
    # The first frame is decoded before there is room for all of them.
    first = self._read_frame(0)
    frames = np.empty((self.frames, *first.shape), first.dtype)
    frames[0] = first
    for index in range(1, self.frames):
      frames[index] = self._read_frame(index)
    return frames

  def _open(self) -> None:
    preamble = self._stream.read(132)
    if not preamble:
      raise self.error('empty file; copy it again')
    if preamble[128:] != b'DICM':
      raise self.error('not a DICOM file; give .dcm, .png, .jpg or .pgm')
    meta = self.parse(
      filereader.read_dataset,
      self._stream,
      False,
      True,
      stop_when=lambda at, vr, length: at.group != 2,
    )
    name = str(self.parse(meta.get, 'TransferSyntaxUID') or '')
    self._syntax = uid.UID(name)
    if self._syntax not in TRANSFER_SYNTAXES:
      # An unknown UID is text from outside: no more than its own alphabet.
      shown = ''.join(c for c in name[:64] if c in '.0123456789')
      if self._syntax.name != name:
        shown += f' ({self._syntax.name})'
      raise self.error(
        f'transfer syntax {shown or "missing"} is not read; convert it to '
        'JPEG 2000, JPEG lossless, RLE or uncompressed'
      )
    self._limit = 0
    if self._syntax == uid.DeflatedExplicitVRLittleEndian:
      self._inflate_header()
    self.header = self._read_header()
    self._frame, self.frames = self.parse(dicom_header.frames, self.header)
    self._frame_bytes = (
      self._frame.rows * self._frame.columns * self._frame.dtype.itemsize
    )
    if self._limit:
      self._inflate_pixels()
      self._read_header()
    self._find_pixels()

  def _read_header(self) -> pydicom.Dataset:
    """Reads up to the pixel data, and leaves the stream there."""
    count = 0

    def at_pixels(at: int, vr: str | None, length: int) -> bool:
      nonlocal count
      count += 1
      if count > MAX_ELEMENTS:
        raise dicom_header.HeaderError(
          f'more than {MAX_ELEMENTS} elements before the pixels'
        )
      return at >= 0x7FE00008

    return self.parse(
      filereader.read_dataset,
      self._stream,
      self._syntax.is_implicit_VR,
      self._syntax.is_little_endian,
      stop_when=at_pixels,
      specific_tags=[tag.Tag(word) for word in dicom_header.KEYWORDS],
    )

  def _inflate_header(self) -> None:
    self._packed = self._stream.read()
    self._stream.close()
    self._limit = HEADER_BYTES
    self._stream = io.BytesIO(self._inflated(HEADER_BYTES))

  def _inflate_pixels(self) -> None:
    """Inflates what the header promises, and no more than that."""
    pixels = self.frames * self._frame_bytes
    if pixels > MAX_INFLATED_BYTES:
      raise self.error(
        f'{pixels >> 20} MiB of deflated pixels; store it uncompressed'
      )
    self._stream = io.BytesIO(self._inflated(HEADER_BYTES + pixels + 64))

  def _inflated(self, limit: int) -> bytes:
    return self.parse(
      zlib.decompressobj(-zlib.MAX_WBITS).decompress, self._packed, limit
    )

  def _find_pixels(self) -> None:
    """Reads the header of the pixel data element (PS3.5 7.1)."""
    order = 'little' if self._syntax.is_little_endian else 'big'
    start = self._stream.read(8 if self._syntax.is_implicit_VR else 12)
    group = int.from_bytes(start[:2], order)
    element = int.from_bytes(start[2:4], order)
    if (group, element) in ((0x7FE0, 8), (0x7FE0, 9)):
      raise self.error('floating point pixels; a mammogram has integers')
    if (group, element) != (0x7FE0, 0x10) or len(start) < 8:
      raise self.error('no pixels: the file has no pixel data element')
    self._length = int.from_bytes(start[-4:], order)
    if order == 'big' and self._frame.bits_allocated == 8:
      raise self.error('pixels of 8 bits in big-endian words; convert the file')
    self._offset = self._stream.tell()
    end = self._stream.seek(0, os.SEEK_END)
    if self._syntax in _DECODERS:
      if self._length != 0xFFFFFFFF:
        raise self.error('compressed pixels without fragments; export it again')
      return
    expected = self.frames * self._frame_bytes
    if self._length != 0xFFFFFFFF and self._length > 2 * expected + 4096:
      raise self.error(
        f'pixel data of {self._length} bytes, the header says {expected}'
      )
    have = end - self._offset
    if self._length != 0xFFFFFFFF:
      have = min(have, self._length)
    if have < expected:
      raise self.error(
        f'pixel data is cut short: {have} bytes of {expected}; copy or export '
        'the file again'
      )

  def _read_frame(self, index: int) -> np.ndarray:
    if self._syntax in _NATIVE:
      return self._read_native(index)
    self._stream.seek(self._offset)
    data = self.parse(
      encaps.get_frame,
      self._stream,
      index,
      number_of_frames=self.frames,
      extended_offsets=self._extended_offsets(),
    )
    try:
      return _DECODERS[self._syntax](data, self._frame)
    except codestream.CodestreamError as error:
      of = f'frame {index}: ' if self.frames > 1 else ''
      raise self.error(f'{of}{error}; copy or export the file again') from error

  def _read_native(self, index: int) -> np.ndarray:
    self._stream.seek(self._offset + index * self._frame_bytes)
    data = self._stream.read(self._frame_bytes)
    big = not self._syntax.is_little_endian
    dtype = np.dtype(f'u{self._frame.bits_allocated // 8}')
    values = np.frombuffer(data, dtype.newbyteorder('>' if big else '<'))
    values = values.reshape(self._frame.rows, self._frame.columns)
    # A copy in the machine's own order that owns its memory.
    return codestream.from_container(values.astype(dtype), self._frame)

  def _extended_offsets(self) -> tuple[bytes, bytes] | None:
    offsets = self.header.get('ExtendedOffsetTable')
    lengths = self.header.get('ExtendedOffsetTableLengths')
    if not offsets or not lengths:
      return None
    return offsets, lengths
