"""The low-pass band of the reversible 5-3 wavelet, as JPEG 2000 computes it.

Integer for integer what a decoder of ITU-T T.800 gives at a reduced resolution,
for images that come from elsewhere.
"""

import numpy as np

_STRIP = 32  # output rows at a time: what stays in a core's cache


def low_pass(image: np.ndarray, levels: int) -> np.ndarray:
  """Halves an image `levels` times (ITU-T T.800 F.4.2, F.4.8.1).

  Args:
    image: (rows, cols) integers of at most 16 bits, or int32.
    levels: steps; 0 returns the image.

  Returns:
    (ceil(rows / 2 ** levels), ceil(cols / 2 ** levels)) int16 or int32, as the
    range of the values needs. Sample i stands at pixel 2 ** levels * i, and may
    lie outside the range of the image.
  """
  for _ in range(levels):
    image = _halve(image)
  return image


def _halve(image: np.ndarray) -> np.ndarray:
  rows, cols = image.shape
  # No sum below then leaves 16 bits: 2 * (8191 + 4096) + 2 < 32768.
  narrow = image.dtype.itemsize == 1 or (
    image.dtype.itemsize == 2
    and image.size
    and (image.dtype.kind == 'u' or int(image.min()) > -(1 << 12))
    and int(image.max()) < 1 << 13
  )
  dtype = np.int16 if narrow else np.int32
  out = np.empty((-(-rows // 2), -(-cols // 2)), dtype)
  for start in range(0, len(out), _STRIP):
    stop = min(start + _STRIP, len(out))
    # Rows 2 start - 2 to 2 stop of the image: what these outputs depend on.
    first = max(0, 2 * start - 2)
    strip = image[first : 2 * stop + 1].astype(dtype)
    low = _lift(strip)
    low = low[start - first // 2 :][: stop - start]
    out[start:stop] = _lift(np.ascontiguousarray(low.T)).T
  return out


def _lift(x: np.ndarray) -> np.ndarray:
  """One step along the first axis; both ends are mirrored."""
  n = len(x)
  if n == 1:
    return x
  even, odd = x[0::2], x[1::2]
  # Where the last sample is odd, its right neighbour is its left one mirrored.
  high = np.empty_like(odd)
  inner = len(even) - 1
  np.add(even[:-1], even[1:], out=high[:inner])
  if len(odd) > inner:
    np.add(even[-1], even[-1], out=high[-1])
  high >>= 1
  np.subtract(odd, high, out=high)
  low = np.empty_like(even)
  low[0] = high[0]
  low[0] += high[0]
  np.add(high[:-1], high[1:], out=low[1 : len(high)])
  if len(even) > len(odd):
    np.add(high[-1], high[-1], out=low[-1])
  low += 2
  low >>= 2
  low += even
  return low
