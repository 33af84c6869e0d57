"""The marker segments of a JPEG, read without decoding it (ITU-T T.81 B)."""

import re
import struct
from collections.abc import Iterator

from rsna_jax.data import codestream

_FILL = re.compile(rb'\xff+')  # bytes, as many as one likes (B.1.1.2)


def segments(
  data: bytes | memoryview,
) -> Iterator[tuple[int, bytes | memoryview, int]]:
  """Yields (marker, content, where the next one starts) up to the scan.

  Ends with SOS (0xDA), or where the segments stop making sense.

  Args:
    data: from SOI on.

  Raises:
    CodestreamError: not a JPEG at all.
  """
  if data[:2] != b'\xff\xd8':
    raise codestream.CodestreamError('the frame does not start like a JPEG')
  position = 2
  while position + 4 <= len(data) and data[position] == 0xFF:
    marker = data[position + 1]
    if marker == 0xFF:
      position = _FILL.match(data, position).end() - 1
      continue
    (length,) = struct.unpack_from('>H', data, position + 2)
    end = position + 2 + length
    if length < 2:
      return
    yield marker, data[position + 4 : end], end
    if marker == 0xDA:
      return
    position = end


def frame_header(data: bytes | memoryview) -> tuple[int, int, int, int, int]:
  """Reads the frame header (T.81 B.2.2).

  Returns:
    marker (0xC0 to 0xCF), bits a sample, rows, columns, components.

  Raises:
    CodestreamError: there is none.
  """
  for marker, content, _ in segments(data):
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      if len(content) < 6:
        break
      return marker, *struct.unpack_from('>BHHB', content)
  raise codestream.CodestreamError('the JPEG has no frame header')
