"""The low-pass band of the reversible 5-3 wavelet, as JPEG 2000 computes it.

Integer for integer what a decoder of ITU-T T.800 gives at a reduced resolution,
for images that come from elsewhere.
"""

import numpy as np

_STRIP = 64  # output rows at a time: few enough for a cache


def low_pass(image: np.ndarray, levels: int) -> np.ndarray:
  """Halves an image `levels` times; see `halved`."""
  for _ in range(levels):
    image = halved(image)
  return image


def halved(image: np.ndarray) -> np.ndarray:
  """One step of the low-pass band (ITU-T T.800 F.4.2, F.4.8.1).

  Args:
    image: (rows, cols) integers of at most 16 bits, or int32.

  Returns:
    (ceil(rows / 2), ceil(cols / 2)) int16 or int32, as the range of the values
    needs. Sample i stands at pixel 2 * i, and may lie outside the range of the
    image.
  """
  dtype = low_dtype(image)
  if dtype == np.int16 and image.dtype == np.uint16:
    image = image.view(np.int16)
  rows, cols = image.shape
  out = np.empty((-(-rows // 2), -(-cols // 2)), dtype)
  # An even number of columns, so that pairs of them are numbers of 32 bits.
  room = np.empty((_STRIP, 2 * out.shape[1]), dtype)
  for start in range(0, len(out), _STRIP):
    stop = min(start + _STRIP, len(out))
    # Rows 2 start - 2 to 2 stop of the image: what these outputs depend on.
    first = max(0, 2 * start - 2)
    strip = image[first : 2 * stop + 1].astype(dtype, copy=False)
    low = room[: stop - start]
    low[:, :cols] = _low(strip[0::2], strip[1::2], 0)[start - first // 2 :][
      : stop - start
    ]
    even, odd = _pairs(low)
    out[start:stop] = _low(even, odd[:, : cols // 2], 1)
  return out


def low_dtype(image: np.ndarray) -> np.dtype:
  """int16 where no sum of a step leaves it, else int32."""
  # 2 * (8191 + 4096) + 2 < 32768.
  narrow = image.dtype.itemsize == 1 or (
    image.dtype.itemsize == 2
    and image.size
    and int(image.max()) < 1 << 13
    and (image.dtype.kind == 'u' or int(image.min()) > -(1 << 12))
  )
  return np.dtype(np.int16 if narrow else np.int32)


def _pairs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Even and odd columns, each in one piece, as int32."""
  if x.dtype == np.int32:
    return np.ascontiguousarray(x[:, 0::2]), np.ascontiguousarray(x[:, 1::2])
  pairs = x.view('<i4')
  return (pairs << 16) >> 16, pairs >> 16


def _low(even: np.ndarray, odd: np.ndarray, axis: int) -> np.ndarray:
  """The low band of samples along an axis; both ends are mirrored.

  Args:
    even: samples 0, 2, 4, ...
    odd: samples 1, 3, 5, ...; as many, or one less.
    axis: along which they follow each other.
  """
  n, m = even.shape[axis], odd.shape[axis]
  if not m:
    return even

  def at(x: np.ndarray, start: int | None, stop: int | None) -> np.ndarray:
    return x[start:stop] if axis == 0 else x[:, start:stop]

  high = np.empty_like(odd)
  np.add(at(even, None, n - 1), at(even, 1, None), out=at(high, None, n - 1))
  if m == n:
    np.add(at(even, -1, None), at(even, -1, None), out=at(high, -1, None))
  high >>= 1
  np.subtract(odd, high, out=high)
  low = np.empty_like(even)
  np.add(at(high, None, 1), at(high, None, 1), out=at(low, None, 1))
  np.add(at(high, None, -1), at(high, 1, None), out=at(low, 1, m))
  if n > m:
    np.add(at(high, -1, None), at(high, -1, None), out=at(low, -1, None))
  low += 2
  low >>= 2
  low += even
  return low
