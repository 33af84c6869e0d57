"""Compressed frames of a DICOM file: headers compared first, then decoded.

A few kilobytes can claim gigabytes, and the decoders below return grey for a
stream that was cut short; so dimensions, lengths and end markers are checked
here, before anything of the size of the image is allocated.
"""

import dataclasses
import struct

import imagecodecs
import numpy as np
import openjpeg

MAX_TILES = 4096
_START = b'\xff\x4f\xff\x51'  # SOC and SIZ of JPEG 2000


class CodestreamError(ValueError):
  """A frame is damaged, or is not what the DICOM header says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
  """What the DICOM header says of every frame."""

  rows: int
  columns: int
  bits_allocated: int
  bits_stored: int
  signed: bool

  @property
  def dtype(self) -> np.dtype:
    kind = 'i' if self.signed else 'u'
    return np.dtype(f'{kind}{self.bits_allocated // 8}')

  def check(self, rows: int, columns: int, components: int, bits: int) -> None:
    """Raises CodestreamError where a codestream's header says otherwise."""
    if (rows, columns) != (self.rows, self.columns):
      raise CodestreamError(
        f'the codestream is {rows}x{columns} pixels, the header says '
        f'{self.rows}x{self.columns}'
      )
    if components != 1:
      raise CodestreamError(
        f'the codestream has {components} components, a mammogram has 1'
      )
    if not 1 <= bits <= self.bits_allocated:
      raise CodestreamError(
        f'the codestream has {bits} bits a pixel, the header allots '
        f'{self.bits_allocated}'
      )


def decode_jpeg2000(data: bytes, frame: Frame) -> np.ndarray:
  """Decodes a JPEG 2000 codestream, bare or wrapped in JP2 boxes.

  Returns:
    (rows, columns) of `frame.dtype`.

  Raises:
    CodestreamError: truncated, damaged, or not what `frame` says.
  """
  stream = _unwrap(data)
  bits, signed = _check_siz(stream, frame)
  stream = _check_tile_parts(stream)
  try:
    pixels = openjpeg.decode(stream, j2k_format=0)
  except (RuntimeError, ValueError, TypeError) as error:
    raise CodestreamError(
      f'the JPEG 2000 codestream is damaged: {error}'
    ) from (error)
  if pixels.shape != (frame.rows, frame.columns):
    raise CodestreamError(f'the codestream decoded to {pixels.shape}')
  if signed != frame.signed:
    # The samples are right modulo 2 ** bits; the DICOM header has the say.
    pixels = pixels.astype(np.int32) & ((1 << bits) - 1)
    if frame.signed:
      pixels = pixels - ((pixels >> (bits - 1)) << bits)
  return pixels.astype(frame.dtype, copy=False)


def decode_jpeg_lossless(data: bytes, frame: Frame) -> np.ndarray:
  """Decodes a JPEG lossless frame (ITU-T T.81 process 14, any predictor).

  Returns:
    (rows, columns) of `frame.dtype`.

  Raises:
    CodestreamError: truncated, damaged, or not what `frame` says.
  """
  data = data.rstrip(b'\0')
  marker, bits, rows, columns, components = jpeg_header(data)
  if marker != 0xC3:
    raise CodestreamError(f'JPEG of type SOF{marker - 0xC0}, not lossless')
  frame.check(rows, columns, components, bits)
  if bits < 2:
    raise CodestreamError(f'JPEG lossless with {bits} bits a pixel')
  # A sample takes at least one bit, so a short stream cannot be a big image.
  if rows * columns > 8 * len(data) or not data.endswith(b'\xff\xd9'):
    raise CodestreamError('the JPEG codestream is cut short')
  try:
    pixels = imagecodecs.jpeg8_decode(data)
  except (RuntimeError, ValueError, TypeError) as error:
    raise CodestreamError(f'the JPEG codestream is damaged: {error}') from error
  if pixels.shape != (rows, columns):
    raise CodestreamError(f'the codestream decoded to {pixels.shape}')
  if bits < 8 * pixels.itemsize and int(pixels.max()) >> bits:
    # Some scanners code differences modulo 2 ** bits, not 2 ** 16.
    pixels = pixels & pixels.dtype.type((1 << bits) - 1)
  if not frame.signed and int(pixels.max()) >> frame.bits_stored:
    raise CodestreamError(
      f'pixels of {int(pixels.max())} do not fit BitsStored='
      f'{frame.bits_stored}: the JPEG codestream is damaged'
    )
  if frame.signed:
    return sign_extended(pixels.astype(frame.dtype), frame.bits_stored)
  return pixels.astype(frame.dtype, copy=False)


def decode_rle(data: bytes, frame: Frame) -> np.ndarray:
  """Decodes a DICOM RLE frame (PS3.5 annex G).

  Returns:
    (rows, columns) of `frame.dtype`.

  Raises:
    CodestreamError: truncated, damaged, or not what `frame` says.
  """
  size = frame.rows * frame.columns
  planes = frame.bits_allocated // 8
  if len(data) < 64:
    raise CodestreamError('the RLE frame is cut short')
  count, *offsets = struct.unpack('<16L', data[:64])
  if count != planes:
    raise CodestreamError(f'RLE of {count} segments, {planes} were expected')
  ends = [*offsets[1:planes], len(data)]
  segments = list(zip(offsets, ends, strict=False))
  for start, end in segments:
    # Two bytes of PackBits are 128 bytes of image at the most.
    if not 64 <= start < end <= len(data) or 64 * (end - start) < size:
      raise CodestreamError('an RLE segment is cut short')
  pixels = np.empty((size, planes), np.uint8)
  for plane, (start, end) in enumerate(segments):
    try:
      decoded = _unpack_bits(data[start:end], size)
    except (RuntimeError, ValueError, TypeError) as error:
      raise CodestreamError(f'an RLE segment is damaged: {error}') from error
    # The most significant byte comes first.
    pixels[:, planes - 1 - plane] = decoded
  values = pixels.view(f'<u{planes}').reshape(frame.rows, frame.columns)
  return from_container(values, frame)


def from_container(values: np.ndarray, frame: Frame) -> np.ndarray:
  """The pixels of unsigned containers, whatever their unused bits hold.

  Args:
    values: (...) unsigned integers of `frame.bits_allocated`.
    frame: the header.

  Returns:
    (...) of `frame.dtype`.
  """
  if frame.signed:
    return sign_extended(values.astype(frame.dtype), frame.bits_stored)
  values = values.astype(frame.dtype, copy=False)
  if values.size and int(values.max()) >> frame.bits_stored:
    # Old files keep overlays in the unused high bits.
    return values & frame.dtype.type((1 << frame.bits_stored) - 1)
  return values


def sign_extended(values: np.ndarray, bits: int) -> np.ndarray:
  """Signed integers whose bits above `bits` repeat the sign."""
  shift = 8 * values.itemsize - bits
  return (values << shift) >> shift if shift else values


def jpeg_header(data: bytes) -> tuple[int, int, int, int, int]:
  """Reads the frame header of a JPEG without decoding it.

  Returns:
    marker (0xC0 to 0xCF), bits a sample, rows, columns, components.

  Raises:
    CodestreamError: there is none.
  """
  if data[:2] != b'\xff\xd8':
    raise CodestreamError('the frame does not start like a JPEG')
  position = 2
  while position + 4 <= len(data) and data[position] == 0xFF:
    marker = data[position + 1]
    if marker == 0xFF:  # a fill byte
      position += 1
      continue
    (length,) = struct.unpack_from('>H', data, position + 2)
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      if position + 10 > len(data):
        break
      bits, rows, columns, components = struct.unpack_from(
        '>BHHB', data, position + 4
      )
      return marker, bits, rows, columns, components
    if marker == 0xDA or length < 2:
      break
    position += 2 + length
  raise CodestreamError('the JPEG has no frame header')


def _unpack_bits(segment: bytes, size: int) -> np.ndarray:
  """`size` bytes of a PackBits segment, which never grows past that."""
  room = np.empty(size + 128, np.uint8)
  try:
    decoded = imagecodecs.packbits_decode(segment, out=room)
  except RuntimeError:
    # A zero that pads the segment to an even length looks like a cut run.
    if not segment.endswith(b'\0'):
      raise
    decoded = imagecodecs.packbits_decode(segment[:-1], out=room)
  if len(decoded) < size:
    raise ValueError(f'{len(decoded)} of {size} bytes')
  return decoded[:size]


def _unwrap(data: bytes) -> bytes:
  """The contiguous codestream of a frame, which RSNA's files wrap in JP2."""
  start = data.find(_START)
  if start <= 0:
    if start < 0:
      raise CodestreamError('the frame holds no JPEG 2000 codestream')
    return data
  position = 0
  while position + 8 <= len(data):
    length, kind = struct.unpack_from('>L4s', data, position)
    header = 8
    if length == 1 and position + 16 <= len(data):
      (length,) = struct.unpack_from('>Q', data, position + 8)
      header = 16
    if kind == b'jp2c':
      # A length of 0 means: to the end.
      end = position + length if length else len(data)
      if end > len(data):
        raise CodestreamError('the JPEG 2000 codestream is cut short')
      return data[position + header : end]
    if length < header:
      break
    position += length
  return data[start:]


def _check_siz(stream: bytes, frame: Frame) -> tuple[int, bool]:
  """Precision and sign of the samples (ITU-T T.800 A.5.1)."""
  if stream[:4] != _START or len(stream) < 45:
    raise CodestreamError('the JPEG 2000 codestream has no SIZ header')
  x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = (
    struct.unpack_from('>8LH', stream, 8)
  )
  depth, step_x, step_y = stream[42:45]
  bits = (depth & 0x7F) + 1
  frame.check(y1 - y0, x1 - x0, components, bits)
  if (step_x, step_y) != (1, 1) or not tile_x or not tile_y:
    raise CodestreamError('the JPEG 2000 SIZ header is damaged')
  across = -(-(x1 - tile_x0) // tile_x)
  down = -(-(y1 - tile_y0) // tile_y)
  if across * down > MAX_TILES:
    raise CodestreamError(
      f'the codestream has {across * down} tiles, at most {MAX_TILES} are read'
    )
  return bits, depth > 0x7F


def _check_tile_parts(stream: bytes) -> bytes:
  """The stream up to its end marker, every tile-part having its length."""
  position = 2
  while position + 4 <= len(stream) and stream[position] == 0xFF:
    marker = stream[position + 1]
    if marker == 0xD9:
      return stream[: position + 2]
    (length,) = struct.unpack_from('>H', stream, position + 2)
    if marker == 0x90 and position + 12 <= len(stream):  # SOT
      (part,) = struct.unpack_from('>L', stream, position + 6)
      if part == 0:  # up to the end of the codestream
        end = stream.rstrip(b'\0')
        if end.endswith(b'\xff\xd9') and len(end) >= position + 16:
          return end
        break
      length = part - 2
    if length < 2:
      break
    position += 2 + length
  if stream[position : position + 2] == b'\xff\xd9':
    return stream[: position + 2]
  raise CodestreamError('the JPEG 2000 codestream is cut short')
