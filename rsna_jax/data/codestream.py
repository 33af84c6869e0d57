"""What every frame of a DICOM file has to be, and the one codec of DICOM's own.

JPEG 2000 and JPEG lossless have modules beside this one.
"""

import dataclasses
import struct

import imagecodecs
import numpy as np

from rsna_jax import errors


class CodestreamError(errors.Told):
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
        f'{self.rows}x{self.columns}',
        about='codestream',
      )
    if components != 1:
      raise CodestreamError(
        f'the codestream has {components} components, a mammogram has 1',
        about='codestream',
      )
    if not 1 <= bits <= self.bits_allocated:
      raise CodestreamError(
        f'the codestream has {bits} bits a pixel, the header allots '
        f'{self.bits_allocated}',
        about='codestream',
      )


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
