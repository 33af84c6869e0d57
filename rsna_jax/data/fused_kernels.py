"""The loops of `data/fused.py`, compiled by numba on first use and kept.

The next bits of the stream index a table whose entries hold the sum of all
that fits: one or two differences with their code lengths, or a run of zeros.
"""

import numba
import numpy as np

_BITS = 12  # of the stream that index the table
_MOST = 12  # pixels that an entry may hold

_jit = numba.njit(cache=True, nogil=True, boundscheck=False)


def unstuffed(packed: np.ndarray) -> tuple[np.ndarray, int] | None:
  """Takes the zeros out that follow each FF of a scan (T.81 F.1.2.3).

  Args:
    packed: (N,) uint8.

  Returns:
    (M,) uint32, the bytes as they lie in memory, with zeros behind; and the
    number of bytes. None where the scan holds a marker.
  """
  marks = np.flatnonzero(packed == 255)
  if len(marks) and (marks[-1] + 1 >= len(packed) or packed[marks + 1].any()):
    return None
  plain = np.empty((len(packed) + 12) // 4 * 4, np.uint8)
  length = len(packed) - len(marks)
  plain[length:] = 0
  _without(packed, marks, plain)
  return plain.view(np.uint32), length


@_jit
def _without(packed, marks, plain):
  start = 0
  at = 0
  for mark in marks:
    n = mark + 1 - start
    plain[at : at + n] = packed[start : mark + 1]
    at += n
    start = mark + 2
  plain[at : at + len(packed) - start] = packed[start:]


@_jit
def table(
  counts: np.ndarray, symbols: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
  """Decoding tables of a Huffman table (T.81 C).

  Args:
    counts: (16,) int64, codes of each length.
    symbols: (N,) int64, categories from 0 to 16 in order of their codes.

  Returns:
    (2 ** 16,) int32, category * 32 + length of the code that 16 bits begin
    with, 0 for none; and (2 ** _BITS,) int64, see `_entries`. None for a table
    that is not a prefix code.
  """
  codes = np.zeros(1 << 16, np.int32)
  code = 0
  k = 0
  for length in range(1, 17):
    for _ in range(counts[length - 1]):
      first = code << (16 - length)
      last = first + (1 << (16 - length))
      if last > 1 << 16:
        return None
      codes[first:last] = symbols[k] * 32 + length
      code += 1
      k += 1
    code <<= 1
  return codes, _entries(codes)


@_jit
def _entries(codes: np.ndarray) -> np.ndarray:
  """What each run of _BITS bits decodes to, as far as it is complete.

  An entry is bits used + 64 * pixels + 2 ** 16 * (first difference + 2 ** 16)
  + 2 ** 34 * (second difference + 2 ** 16); of a run of more than two zeros,
  the differences are 0. An entry of 0 needs more bits.
  """
  entries = np.zeros(1 << _BITS, np.int64)
  for index in range(1 << _BITS):
    used = 0
    pixels = 0
    differences = np.zeros(2, np.int64)
    zeros = True
    while pixels < _MOST and (pixels < 2 or zeros):
      rest = (index << used) & ((1 << _BITS) - 1)
      code = codes[rest << (16 - _BITS)]
      length = code & 31
      category = code >> 5
      if code == 0 or category == 16 or used + length + category > _BITS:
        break
      value = 0
      if category:
        if pixels >= 2:
          break
        zeros = False
        value = (rest >> (_BITS - length - category)) & ((1 << category) - 1)
        if not value >> (category - 1):
          value += 1 - (1 << category)
      if pixels < 2:
        differences[pixels] = value
      pixels += 1
      used += length + category
    if pixels:
      entries[index] = (
        used
        + 64 * pixels
        + ((differences[0] + 65536) << 16)
        + ((differences[1] + 65536) << 34)
      )
  return entries


@_jit
def _swapped(word):
  """Big-endian, on a machine that is not."""
  word = np.uint64(word)
  high = (word & np.uint64(0xFF)) << np.uint64(24)
  high |= (word & np.uint64(0xFF00)) << np.uint64(8)
  low = (word >> np.uint64(8)) & np.uint64(0xFF00)
  return high | low | (word >> np.uint64(24))


@_jit
def _row(words, end, state, codes, entries, first, row, columns):
  """Decodes a row; state is the bit window, bits in it, and the next word.

  Values are not yet taken modulo 2 ** 16. Returns whether all was well.
  """
  window = state[0]
  bits = np.int64(state[1])
  word = np.int64(state[2])
  left = np.int64(first)
  i = 0
  # Entries may write two pixels, or a run, where one is left: row has room.
  while i < columns:
    if bits < 32:
      if word >= end:
        return False
      window |= _swapped(words[word]) << np.uint64(32 - bits)
      word += 1
      bits += 32
    entry = entries[window >> np.uint64(64 - _BITS)]
    pixels = (entry >> 6) & 1023
    if entry != 0 and i + pixels <= columns:
      used = entry & 63
      a = left + ((entry >> 16) & 0x3FFFF) - 65536
      left = a + (entry >> 34) - 65536
      row[i] = a
      row[i + 1] = left
      if pixels > 2:
        for j in range(2, pixels):
          row[i + j] = left
      i += pixels
    else:
      code = np.int64(codes[window >> np.uint64(48)])
      if code == 0:
        return False
      length = code & 31
      category = code >> 5
      used = length
      if category == 16:
        left += 32768
      elif category:
        used += category
        value = np.int64(
          (window << np.uint64(length)) >> np.uint64(64 - category)
        )
        if not value >> (category - 1):
          value += 1 - (np.int64(1) << category)
        left += value
      row[i] = left
      i += 1
    window <<= np.uint64(used)
    bits -= used
  state[0] = window
  state[1] = np.uint64(bits)
  state[2] = np.uint64(word)
  return True


@_jit
def _masked(row, columns, mask, used):
  for j in range(columns):
    value = row[j] & mask
    row[j] = value
    used |= value
  return used


@_jit
def decode_full(words, length_bits, codes, entries, bits, pixels):
  """Decodes a scan of predictor 1.

  Args:
    words: (N,) uint32, see `unstuffed`.
    length_bits: of the scan.
    codes: see `table`.
    entries: see `table`.
    bits: of a pixel.
    pixels: (rows, columns) uint16 to fill.

  Returns:
    The bitwise or of all pixels, and how many bits were left over; these are
    negative where the scan was cut short or damaged.
  """
  rows, columns = pixels.shape
  state = np.zeros(3, np.uint64)
  row = np.zeros(columns + _MOST, np.int32)
  mask = np.int32((1 << bits) - 1)
  used = np.int32(0)
  first = np.int64(1) << (bits - 1)
  for y in range(rows):
    if not _row(words, len(words), state, codes, entries, first, row, columns):
      return used, -1
    used = _masked(row, columns, mask, used)
    first = np.int64(row[0])
    pixels[y] = row[:columns]
  return used, _left(length_bits, state)


@_jit
def _left(length_bits, state):
  return length_bits - (np.int64(state[2]) * 32 - np.int64(state[1]))


@_jit
def decode_half(words, length_bits, codes, entries, bits, columns, rows, low):
  """As `decode_full`, but keeps the first level of the pyramid alone.

  Args:
    words: see `decode_full`.
    length_bits: see `decode_full`.
    codes: see `table`.
    entries: see `table`.
    bits: of a pixel.
    columns: of the image.
    rows: of the image.
    low: (ceil(rows / 2), ceil(columns / 2)) int16 or int32 to fill.

  Returns:
    See `decode_full`.
  """
  state = np.zeros(3, np.uint64)
  here = np.zeros(columns + _MOST, np.int32)
  odd = np.zeros(columns + _MOST, np.int32)
  following = np.zeros(columns + _MOST, np.int32)
  high = np.zeros(columns, np.int32)
  before = np.zeros(columns, np.int32)
  smooth = np.zeros(columns, np.int32)
  mask = np.int32((1 << bits) - 1)
  used = np.int32(0)
  first = np.int64(1) << (bits - 1)
  for y in range(rows):
    row = here if y == 0 else (odd if y % 2 else following)
    if not _row(words, len(words), state, codes, entries, first, row, columns):
      return used, -1
    used = _masked(row, columns, mask, used)
    first = np.int64(row[0])
    if y == 0 or (y % 2 and y < rows - 1):
      continue
    # Above this row, or with it at the lower end, a row of output is complete.
    if y % 2:
      for j in range(columns):
        high[j] = odd[j] - here[j]
    else:
      for j in range(columns):
        high[j] = odd[j] - ((here[j] + following[j]) >> 1)
    if y <= 2:
      before[:] = high
    for j in range(columns):
      smooth[j] = here[j] + ((before[j] + high[j] + 2) >> 2)
    _lift(smooth, columns, low[(y - 1) // 2])
    before, high = high, before
    here, following = following, here
  if rows % 2:
    if rows > 1:
      for j in range(columns):
        smooth[j] = here[j] + ((2 * before[j] + 2) >> 2)
    else:
      smooth[:] = here[:columns]
    _lift(smooth, columns, low[rows // 2])
  return used, _left(length_bits, state)


@_jit
def _lift(x, n, low):
  """The low band of one row (ITU-T T.800 F.4.8.1)."""
  if n == 1:
    low[0] = x[0]
    return
  last = (n - 1) // 2  # of the pairs that have a right neighbour
  before = x[1] - ((x[0] + x[2 if n > 2 else 0]) >> 1)
  for j in range(last):
    high = x[2 * j + 1] - ((x[2 * j] + x[2 * j + 2]) >> 1)
    low[j] = x[2 * j] + ((before + high + 2) >> 2)
    before = high
  if n % 2:
    low[last] = x[n - 1] + ((2 * before + 2) >> 2)
  else:
    high = x[n - 1] - x[n - 2]
    if n == 2:
      before = high
    low[last] = x[n - 2] + ((before + high + 2) >> 2)


@_jit
def halve(image, low):
  """As `wavelet.halved`, row by row.

  Args:
    image: (rows, columns) integers.
    low: (ceil(rows / 2), ceil(columns / 2)) int16 or int32 to fill.
  """
  rows, columns = image.shape
  high = np.zeros(columns, np.int32)
  before = np.zeros(columns, np.int32)
  smooth = np.zeros(columns, np.int32)
  for i in range(low.shape[0]):
    here = image[2 * i]
    if 2 * i + 1 < rows:
      odd = image[2 * i + 1]
      # The last row is mirrored where nothing follows it.
      following = image[2 * i + 2] if 2 * i + 2 < rows else here
      for j in range(columns):
        mean = (np.int32(here[j]) + np.int32(following[j])) >> 1
        high[j] = np.int32(odd[j]) - mean
      if i == 0:
        before[:] = high
    else:
      high[:] = before
    for j in range(columns):
      smooth[j] = np.int32(here[j]) + ((before[j] + high[j] + 2) >> 2)
    _lift(smooth, columns, low[i])
    before, high = high, before
