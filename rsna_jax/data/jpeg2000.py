"""JPEG 2000 frames: headers compared first, then decoded as far as needed.

A few kilobytes can claim gigabytes; so dimensions, lengths and end markers are
checked here, before anything of the size of the image is allocated.
"""

import functools
import struct
from typing import Any

import imagecodecs
import numpy as np

from rsna_jax.data import codestream, openjp2, pyramid

MAX_TILES = 4096
_PADDED = 4096  # bytes of the end in which the end marker has to be
_START = b'\xff\x4f\xff\x51'  # SOC and SIZ
_TRANSFORMS = ('9-7', '5-3')


class Image(pyramid.Pyramid):
  """One frame: a codestream, bare or wrapped in JP2 boxes."""

  def __init__(self, data: bytes, frame: codestream.Frame):
    """Reads the headers.

    Args:
      data: the frame.
      frame: what the DICOM header says of it.

    Raises:
      CodestreamError: truncated, damaged, or not what `frame` says.
    """
    self.shape = frame.rows, frame.columns
    self.dtype = frame.dtype
    stream = _unwrap(data)
    self._bits, self._signed, self._plain, tiles = _check_siz(stream, frame)
    self._stream = _check_tile_parts(stream)
    self._frame = frame
    self.encoding: dict[str, Any] = {
      'codec': 'jpeg2000',
      'precision': self._bits,
      'tiles': tiles,
      **_coding_style(stream),
    }
    self._levels = self.encoding.get('levels', 0)
    if signed_otherwise := self._signed != frame.signed:
      self._levels = 0
    self._plain &= not signed_otherwise and openjp2.library() is not None

  def level(self, level: int, box: pyramid.Box | None = None) -> np.ndarray:
    """See `Pyramid.level`.

    Raises:
      CodestreamError: the codestream is damaged.
    """
    if not self._plain:
      return self._whole.level(level, box)
    # Below its own levels, and where a tile has fewer, it is as other codecs.
    if level > self._levels:
      return self._full.level(level, box)
    try:
      dtype = np.dtype(np.int32) if level else self.dtype
      found = openjp2.decode(self._stream, level, box, dtype)
    except openjp2.OpenJpegError as error:
      if level:
        return self._full.level(level, box)
      raise codestream.CodestreamError(
        f'the JPEG 2000 codestream is damaged: {error}'
      ) from error
    if box is None:
      box = (0, 0, *self.level_shape(level))
    if found.shape != (box[2] - box[0], box[3] - box[1]):
      raise codestream.CodestreamError(
        f'the codestream decoded to {found.shape}'
      )
    return found

  @functools.cached_property
  def _full(self) -> pyramid.Array:
    return pyramid.Array(self.level(0))

  @functools.cached_property
  def _whole(self) -> pyramid.Array:
    """All of it, decoded without OpenJPEG's own interface."""
    try:
      pixels = imagecodecs.jpeg2k_decode(bytes(self._stream))
    except (RuntimeError, ValueError, TypeError) as error:
      raise codestream.CodestreamError(
        f'the JPEG 2000 codestream is damaged: {error}'
      ) from error
    if pixels.shape != self.shape:
      raise codestream.CodestreamError(
        f'the codestream decoded to {pixels.shape}'
      )
    if self._signed != self._frame.signed:
      # Right modulo 2 ** bits; the DICOM header has the say.
      pixels = pixels.astype(np.int32) & ((1 << self._bits) - 1)
      if self._frame.signed:
        pixels = pixels - ((pixels >> (self._bits - 1)) << self._bits)
    return pyramid.Array(pixels.astype(self.dtype, copy=False))


def _unwrap(data: bytes) -> memoryview:
  """The contiguous codestream of a frame, which RSNA's files wrap in JP2."""
  start = data.find(_START)
  if start <= 0:
    if start < 0:
      raise codestream.CodestreamError(
        'the frame holds no JPEG 2000 codestream'
      )
    return memoryview(data)
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
        raise codestream.CodestreamError(
          'the JPEG 2000 codestream is cut short'
        )
      return memoryview(data)[position + header : end]
    if length < header:
      break
    position += length
  return memoryview(data)[start:]


def _check_siz(
  stream: memoryview, frame: codestream.Frame
) -> tuple[int, bool, bool, int]:
  """Bits, sign, whether at the grid's origin, tiles (ITU-T T.800 A.5.1)."""
  if stream[:4] != _START or len(stream) < 45:
    raise codestream.CodestreamError(
      'the JPEG 2000 codestream has no SIZ header'
    )
  x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = (
    struct.unpack_from('>8LH', stream, 8)
  )
  depth, step_x, step_y = stream[42:45]
  bits = (depth & 0x7F) + 1
  frame.check(y1 - y0, x1 - x0, components, bits)
  if (step_x, step_y) != (1, 1) or not tile_x or not tile_y:
    raise codestream.CodestreamError(
      'the JPEG 2000 SIZ header is damaged', about='codestream'
    )
  tiles = -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y)
  if tiles > MAX_TILES:
    raise codestream.CodestreamError(
      f'the codestream has {tiles} tiles, at most {MAX_TILES} are read',
      about='codestream',
    )
  return bits, depth > 0x7F, (x0, y0) == (0, 0), tiles


def _coding_style(stream: memoryview) -> dict[str, Any]:
  """Levels, transform and layers of the COD marker (ITU-T T.800 A.6.1)."""
  position = 2
  while position + 4 <= len(stream) and stream[position] == 0xFF:
    marker = stream[position + 1]
    (length,) = struct.unpack_from('>H', stream, position + 2)
    if marker == 0x90 or length < 2:
      break
    if marker == 0x52 and position + 14 <= len(stream):
      layers = struct.unpack_from('>H', stream, position + 6)[0]
      levels, transform = stream[position + 9], stream[position + 13]
      return {
        'levels': min(levels, 32),
        'layers': layers,
        'transform': _TRANSFORMS[transform & 1],
      }
    position += 2 + length
  return {}


def _check_tile_parts(stream: memoryview) -> memoryview:
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
        tail = bytes(stream[-_PADDED:])
        end = len(stream) - len(tail) + len(tail.rstrip(b'\0'))
        if stream[end - 2 : end] == b'\xff\xd9' and end >= position + 16:
          return stream[:end]
        break
      length = part - 2
    if length < 2:
      break
    position += 2 + length
  if stream[position : position + 2] == b'\xff\xd9':
    return stream[: position + 2]
  raise codestream.CodestreamError('the JPEG 2000 codestream is cut short')
