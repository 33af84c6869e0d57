"""JPEG lossless frames (ITU-T T.81 process 14), checked before and after.

The decoders return grey for a stream that was cut short; so lengths, the end
marker, and the range of the values are compared with the headers here.
"""

import functools
from typing import Any

import imagecodecs
import numpy as np

from rsna_jax.data import codestream, fused, jpeg_markers, pyramid

_PADDED = 4096  # bytes of the end in which the end marker has to be


class Image(pyramid.Pyramid):
  """One frame."""

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
    self._frame = frame
    # Zeros pad a frame to an even length; a copy without them would cost more.
    tail = data[-_PADDED:]
    stop = len(data) - len(tail) + len(tail.rstrip(b'\0'))
    self._data = memoryview(data)[:stop]
    marker, bits, rows, columns, components = jpeg_markers.frame_header(
      self._data
    )
    if marker != 0xC3:
      raise codestream.CodestreamError(
        f'JPEG of type SOF{marker - 0xC0}, not lossless'
      )
    frame.check(rows, columns, components, bits)
    if bits < 2:
      raise codestream.CodestreamError(
        f'JPEG lossless with {bits} bits a pixel'
      )
    # A sample takes at least one bit: a short stream cannot be a big image.
    if rows * columns > 8 * stop or self._data[-2:] != b'\xff\xd9':
      raise codestream.CodestreamError('the JPEG codestream is cut short')
    self._bits = bits
    self.encoding: dict[str, Any] = {
      'codec': 'jpeg lossless',
      'precision': bits,
      'predictor': _predictor(self._data),
    }

  def level(self, level: int, box: pyramid.Box | None = None) -> np.ndarray:
    """See `Pyramid.level`.

    Raises:
      CodestreamError: the codestream is damaged.
    """
    if level and self._half is not None:
      return self._half.level(level - 1, box)
    return self._full.level(level, box)

  @functools.cached_property
  def _half(self) -> pyramid.Array | None:
    """The first level, where the fused decoder takes the stream."""
    if self._frame.signed or '_full' in self.__dict__:
      return None
    found = fused.decode(self._data, self._bits, self.shape, halve=True)
    if found is None:
      return None
    half, used = found
    self._check_range(used)
    return pyramid.Array(half)

  @functools.cached_property
  def _full(self) -> pyramid.Array:
    if not self._frame.signed:
      found = fused.decode(self._data, self._bits, self.shape, halve=False)
      if found is not None:
        pixels, used = found
        self._check_range(used)
        return pyramid.Array(pixels.astype(self.dtype, copy=False))
    return pyramid.Array(self._decode())

  def _decode(self) -> np.ndarray:
    try:
      pixels = imagecodecs.jpeg8_decode(self._data)
    except (RuntimeError, ValueError, TypeError) as error:
      raise codestream.CodestreamError(
        f'the JPEG codestream is damaged: {error}'
      ) from error
    if pixels.shape != self.shape:
      raise codestream.CodestreamError(
        f'the codestream decoded to {pixels.shape}'
      )
    bits = self._bits
    largest = int(pixels.max())
    if largest >> bits:
      # Some scanners code differences modulo 2 ** bits, not 2 ** 16.
      pixels = pixels & pixels.dtype.type((1 << bits) - 1)
      largest = int(pixels.max())
    if self._frame.signed:
      return codestream.sign_extended(
        pixels.astype(self.dtype), self._frame.bits_stored
      )
    self._check_range(largest)
    return pixels.astype(self.dtype, copy=False)

  def _check_range(self, largest: int) -> None:
    if largest >> self._frame.bits_stored:
      raise codestream.CodestreamError(
        f'pixels of {largest} do not fit BitsStored={self._frame.bits_stored}: '
        'the JPEG codestream is damaged'
      )


def _predictor(data: bytes | memoryview) -> int:
  for marker, content, _ in jpeg_markers.segments(data):
    if marker == 0xDA and len(content) == 6:
      return content[3]
  return 0
