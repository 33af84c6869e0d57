"""A JPEG lossless decoder that halves the image while it decodes.

It takes what screening mammograms are made of (one component, predictor 1, no
point transform, no restarts) and declines the rest, which libjpeg-turbo then
decodes. Nothing of the image's full size is written where the first level of
the pyramid is asked for. It needs numba, that is the extra `fast`; without it,
or with RSNA_JAX_NUMBA=0, everything is declined.
"""

import functools
import os
from types import ModuleType

import numpy as np

from rsna_jax.data import jpeg_markers, wavelet

SMALL = 1 << 20  # pixels


@functools.cache
def _kernels() -> ModuleType | None:
  if os.environ.get('RSNA_JAX_NUMBA', '1') == '0':
    return None
  try:
    from rsna_jax.data import fused_kernels
  except ImportError:
    return None
  return fused_kernels


def available() -> bool:
  """Whether numba is there, and not switched off."""
  return _kernels() is not None


def halved(image: np.ndarray) -> np.ndarray:
  """`wavelet.halved`, by numba where it is there."""
  # To load numba takes longer than to halve a small picture.
  if image.size < SMALL:
    return wavelet.halved(image)
  kernels = _kernels()
  if kernels is None or min(image.shape) < 2:
    return wavelet.halved(image)
  low = np.empty(
    tuple(-(-n // 2) for n in image.shape), wavelet.low_dtype(image)
  )
  kernels.halve(image, low)
  return low


def decode(
  data: bytes | memoryview,
  bits: int,
  shape: tuple[int, int],
  *,
  halve: bool,
) -> tuple[np.ndarray, int] | None:
  """Decodes a JPEG lossless stream.

  Args:
    data: from SOI to EOI.
    bits: precision in the frame header.
    shape: rows and columns in the frame header.
    halve: whether the first level of the pyramid is wanted, not the image.

  Returns:
    the image, (rows, cols) uint16, or its first level, (ceil(rows / 2),
    ceil(cols / 2)) int16 or int32, with the bitwise or of all pixels; None
    for a stream that is not for this decoder, or not whole.
  """
  kernels = _kernels()
  if kernels is None:
    return None
  found = _scan(data)
  if found is None:
    return None
  counts, symbols, start = found
  if max(symbols, default=0) > 16:
    return None
  packed = np.frombuffer(data, np.uint8)[start : len(data) - 2]
  plain = kernels.unstuffed(packed)
  if plain is None:
    return None
  words, length = plain
  table = kernels.table(np.array(counts, np.int64), np.array(symbols, np.int64))
  if table is None:
    return None
  rows, columns = shape
  if halve:
    low = np.empty(
      (-(-rows // 2), -(-columns // 2)), np.int16 if bits <= 13 else np.int32
    )
    used, left = kernels.decode_half(
      words, 8 * length, *table, bits, columns, rows, low
    )
    pixels = low
  else:
    pixels = np.empty(shape, np.uint16)
    used, left = kernels.decode_full(words, 8 * length, *table, bits, pixels)
  # Whole bytes of ones may pad the last word, and nothing may be missing.
  return (pixels, int(used)) if 0 <= left < 32 else None


def _scan(data: bytes | memoryview) -> tuple[list[int], list[int], int] | None:
  """Huffman table and start of the scan of a stream that is taken."""
  tables: dict[int, tuple[list[int], list[int]]] = {}
  for marker, content, end in jpeg_markers.segments(data):
    if marker == 0xDD and any(content):  # restart intervals
      return None
    if marker == 0xC4:
      while len(content) >= 17:
        counts = list(content[1:17])
        size = sum(counts)
        if len(content) < 17 + size:
          return None
        tables[content[0]] = counts, list(content[17 : 17 + size])
        content = content[17 + size :]
    if marker == 0xDA:
      # One component, its table, predictor 1, no point transform.
      if len(content) != 6 or content[0] != 1 or content[3:] != b'\1\0\0':
        return None
      found = tables.get(content[2] >> 4)
      return (*found, end) if found else None
  return None
