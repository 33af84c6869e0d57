"""An open DICOM file: its header is checked before a pixel is fetched.

Transfer syntaxes are an allow-list, and frames are fetched one at a time.
"""

import io
import os
import pathlib
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom import encaps, filereader, tag, uid

from rsna_jax import errors
from rsna_jax.data import (
  codestream,
  colour,
  dicom_header,
  dicom_stream,
  jpeg2000,
  jpeg_lossless,
  jpeg_ls,
  pyramid,
)

MAX_ELEMENTS = 10_000  # of a header; a mammogram's has some 200
MAX_INFLATED_BYTES = 512 << 20  # of a deflated file
_TOO_MANY = f'more than {MAX_ELEMENTS} elements before the pixels'
HEADER_BYTES = 4 << 20  # of a deflated file, that must hold the header

# Float, double, and what a mammogram has: integers.
_PIXEL_TAGS = ((0x7FE0, 8), (0x7FE0, 9), (0x7FE0, 0x10))
_NATIVE = (
  uid.ImplicitVRLittleEndian,
  uid.ExplicitVRLittleEndian,
  uid.ExplicitVRBigEndian,
  uid.DeflatedExplicitVRLittleEndian,
)
_CODECS: dict[str, Callable[[bytes, codestream.Frame], pyramid.Pyramid]] = {
  uid.JPEG2000Lossless: jpeg2000.Image,
  uid.JPEG2000: jpeg2000.Image,
  uid.HTJ2KLossless: jpeg2000.Image,
  uid.HTJ2KLosslessRPCL: jpeg2000.Image,
  uid.HTJ2K: jpeg2000.Image,
  uid.JPEGLossless: jpeg_lossless.Image,
  uid.JPEGLosslessSV1: jpeg_lossless.Image,
  uid.JPEGLSLossless: jpeg_ls.Image,
  uid.JPEGLSNearLossless: jpeg_ls.Image,
  uid.RLELossless: lambda data, frame: pyramid.Array(
    codestream.decode_rle(data, frame)
  ),
}
TRANSFER_SYNTAXES = (*_NATIVE, *_CODECS)


class DicomError(errors.InputError):
  """A file is not a DICOM image that can be read as a mammogram."""


class _Pixels(pyramid.Pyramid):
  """A frame whose faults are told with the name of its file."""

  def __init__(
    self,
    frame: Callable[[], pyramid.Pyramid],
    error: Callable[[str, str], DicomError],
  ):
    self._error = error
    self._frame = self._try(frame)
    self.shape, self.dtype = self._frame.shape, self._frame.dtype
    self.encoding: dict[str, Any] = getattr(self._frame, 'encoding', {})
    self._thumbnail: np.ndarray | None = None

  def level(self, level: int, box: pyramid.Box | None = None) -> np.ndarray:
    # Several look for things in the thumbnail; it is small enough to keep.
    small = box is None and level == pyramid.thumbnail_level(self.shape) > 0
    if small and self._thumbnail is not None:
      return self._thumbnail
    found = self._try(lambda: self._frame.level(level, box))
    if small:
      self._thumbnail = found
    return found

  def _try(self, function: Callable[[], Any]) -> Any:
    try:
      return function()
    except codestream.CodestreamError as error:
      raise self._error(
        f'{error}; copy or export the file again', error.about
      ) from error


class File:
  """An open DICOM file whose header was found sound."""

  def __init__(
    self, source: str | os.PathLike | bytes, name: str | None = None
  ):
    if isinstance(source, bytes | bytearray | memoryview):
      self.name = name or '<bytes>'
      self._stream: BinaryIO = io.BytesIO(source)
    else:
      self.name = name or os.fspath(source)
      self._stream = pathlib.Path(source).open('rb')  # noqa: SIM115
    try:
      self._open()
    except BaseException:
      self._stream.close()
      raise

  def __enter__(self) -> 'File':
    return self

  def __exit__(self, *_) -> None:
    self._stream.close()

  def error(self, message: str, about: str = '') -> DicomError:
    return DicomError(f'{self.name}: {" ".join(message.split())}', about)

  def parse(self, function, *args, **kwargs):
    """Calls a parser of untrusted bytes, whose faults are the file's."""
    try:
      return function(*args, **kwargs)
    except errors.InputError:
      raise
    except dicom_header.HeaderError as error:
      raise self.error(str(error), error.about) from error
    except Exception as error:
      raise self.error(
        f'damaged DICOM file ({type(error).__name__}: {error}'[:200]
        + '); export it again'
      ) from error

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
    self.syntax = uid.UID(name)
    if self.syntax not in TRANSFER_SYNTAXES:
      # An unknown UID is text from outside: no more than its own alphabet.
      shown = ''.join(c for c in name[:64] if c in '.0123456789')
      if self.syntax.name != name:
        shown += f' ({self.syntax.name})'
      raise self.error(
        f'transfer syntax {shown or "missing"} is not read; convert it to '
        'JPEG 2000, JPEG lossless, JPEG-LS, RLE or uncompressed',
        about='syntax',
      )
    self._limit = 0
    if self.syntax == uid.DeflatedExplicitVRLittleEndian:
      self._inflate_header()
    self.header = self._read_header()
    self._frame, self.frames = self.parse(
      dicom_header.frames, self.header, checked=True
    )
    self._layout = self.parse(
      colour.layout, self.header, native=self.syntax in _NATIVE
    )
    self.frame_bytes = colour.frame_bytes(self._frame, self._layout)
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
        raise dicom_header.HeaderError(_TOO_MANY, about='elements')
      return at >= 0x7FE00008

    return self.parse(
      filereader.read_dataset,
      # Elements within sequences count as well.
      dicom_stream.Counted(self._stream, 20 * MAX_ELEMENTS, _TOO_MANY),
      self.syntax.is_implicit_VR,
      self.syntax.is_little_endian,
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
    pixels = self.frames * self.frame_bytes
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
    order = 'little' if self.syntax.is_little_endian else 'big'
    start = self._stream.read(8 if self.syntax.is_implicit_VR else 12)
    group = int.from_bytes(start[:2], order)
    element = int.from_bytes(start[2:4], order)
    if (group, element) in _PIXEL_TAGS[:2]:
      raise self.error(
        'floating point pixels; a mammogram has integers', about='bits'
      )
    if (group, element) != _PIXEL_TAGS[2] or len(start) < 8:
      raise self.error('no pixels: the file has no pixel data element')
    self._length = int.from_bytes(start[-4:], order)
    if order == 'big' and self._frame.bits_allocated == 8:
      raise self.error('pixels of 8 bits in big-endian words; convert the file')
    self._offset = self._stream.tell()
    after = dicom_stream.tag_after(
      self._stream, self._offset, self._length, self.syntax.is_little_endian
    )
    if after in _PIXEL_TAGS:
      raise self.error('pixel data twice; export the file again', about='bits')
    end = self._stream.seek(0, os.SEEK_END)
    if self.syntax in _CODECS:
      if self._length != 0xFFFFFFFF:
        raise self.error('compressed pixels without fragments; export it again')
      return
    expected = self.frames * self.frame_bytes
    # Some writers pad; by a row or a column it is another image.
    spare = self.frame_bytes // max(self._frame.rows, self._frame.columns)
    spare = max(spare, 2)  # the byte that makes the length even
    if expected + spare <= self._length != 0xFFFFFFFF:
      raise self.error(
        f'pixel data of {self._length} bytes, the header says {expected}: Rows '
        'or Columns are wrong; export the file again',
        about='size',
      )
    have = end - self._offset
    if self._length != 0xFFFFFFFF:
      have = min(have, self._length)
    if have < expected:
      raise self.error(
        f'pixel data is cut short: {have} bytes of {expected}; copy or export '
        'the file again',
        about='short',
      )

  def pixels(self, frame: int) -> _Pixels:
    """The pixels of a frame, still compressed where they are."""
    if not 0 <= frame < self.frames:
      raise self.error(f'frame {frame}: the file has 0 to {self.frames - 1}')
    of = f'frame {frame}: ' if self.frames > 1 else ''
    return _Pixels(
      lambda: self._frame_pyramid(frame),
      lambda text, about: self.error(of + text, about),
    )

  def _frame_pyramid(self, index: int) -> pyramid.Pyramid:
    if self.syntax in _NATIVE:
      return pyramid.Array(self._read_native(index))
    self._stream.seek(self._offset)
    data = self.parse(
      encaps.get_frame,
      self._stream,
      index,
      number_of_frames=self.frames,
      extended_offsets=self._extended_offsets(),
    )
    if self._layout.samples > 1:
      if self.syntax != uid.RLELossless:
        raise codestream.CodestreamError(
          f'{self._layout.photometric} in {self.syntax.name} is not read'
        )
      return pyramid.Array(colour.rle(data, self._frame, self._layout))
    found = _CODECS[self.syntax](data, self._frame)
    if self._layout.palette is None:
      return found
    return pyramid.Array(colour.looked_up(found.level(0), self._layout))

  def _read_native(self, index: int) -> np.ndarray:
    self._stream.seek(self._offset + index * self.frame_bytes)
    data = self._stream.read(self.frame_bytes)
    big = not self.syntax.is_little_endian
    return colour.native(data, self._frame, self._layout, big)

  def _extended_offsets(self) -> tuple[bytes, bytes] | None:
    offsets = self.header.get('ExtendedOffsetTable')
    lengths = self.header.get('ExtendedOffsetTableLengths')
    if not offsets or not lengths:
      return None
    return offsets, lengths
