"""JPEG-LS frames (ITU-T T.87), lossless and near-lossless, by CharLS.

The headers are compared before anything of the size of the image is allocated:
CharLS believes them, and takes minutes and gigabytes where they lie.
"""

import functools
import struct
from typing import Any

import imagecodecs
import numpy as np

from rsna_jax.data import codestream, jpeg_markers, pyramid

_SOF55 = 0xF7
_SOS = 0xDA


class Image(pyramid.Pyramid):
  """One frame. Near-lossless streams, too, have one exact result."""

  def __init__(self, data: bytes, frame: codestream.Frame):
    """Reads the headers.

    Args:
      data: the frame, from SOI to EOI; zeros may follow.
      frame: what the DICOM header says of it.

    Raises:
      CodestreamError: truncated, or not what `frame` says.
    """
    self.shape = frame.rows, frame.columns
    self.dtype = frame.dtype
    self._frame = frame
    self._data = data.rstrip(b'\0')
    bits, rows, columns, components, near = _headers(self._data)
    frame.check(rows, columns, components, bits)
    if bits < 2:
      raise codestream.CodestreamError(f'JPEG-LS with {bits} bits a pixel')
    # A row takes at least one bit: a short stream cannot be a tall image.
    if rows > 8 * len(self._data) or not self._data.endswith(b'\xff\xd9'):
      raise codestream.CodestreamError('the JPEG-LS codestream is cut short')
    self.encoding: dict[str, Any] = {
      'codec': 'jpeg-ls',
      'precision': bits,
      'largest_error': near,
    }

  def level(self, level: int, box: pyramid.Box | None = None) -> np.ndarray:
    """See `Pyramid.level`.

    Raises:
      CodestreamError: the codestream is damaged.
    """
    return self._full.level(level, box)

  @functools.cached_property
  def _full(self) -> pyramid.Array:
    try:
      pixels = imagecodecs.jpegls_decode(self._data)
    except (RuntimeError, ValueError, TypeError) as error:
      raise codestream.CodestreamError(
        f'the JPEG-LS codestream is damaged: {error}'
      ) from error
    if pixels.shape != self.shape or pixels.dtype.kind != 'u':
      raise codestream.CodestreamError(
        f'the codestream decoded to {pixels.dtype} {pixels.shape}'
      )
    stored = self._frame.bits_stored
    if self._frame.signed:
      pixels = codestream.sign_extended(pixels.astype(self.dtype), stored)
    elif int(pixels.max()) >> stored:
      raise codestream.CodestreamError(
        f'pixels of {int(pixels.max())} do not fit BitsStored={stored}: the '
        'JPEG-LS codestream is damaged'
      )
    return pyramid.Array(pixels.astype(self.dtype, copy=False))


def _headers(data: bytes) -> tuple[int, int, int, int, int]:
  """Bits, rows, columns, components, and the largest error (T.87 C.2)."""
  found = None
  for marker, content, _ in jpeg_markers.segments(data):
    if marker == _SOF55 and len(content) >= 6 and found is None:
      found = struct.unpack_from('>BHHB', content)
    elif marker == _SOF55 or 0xC0 <= marker <= 0xCF:
      raise codestream.CodestreamError(
        f'a JPEG with a marker FF{marker:02X}, not JPEG-LS'
      )
    elif marker == _SOS and found is not None and len(content) >= 3:
      near = content[-3]
      return *found, near
  raise codestream.CodestreamError('the JPEG-LS has no frame header')
