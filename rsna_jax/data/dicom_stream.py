"""The bytes of a DICOM file around its pixels, read without trust in them."""

import struct
from typing import BinaryIO

from rsna_jax.data import header_values

_ITEM = (0xFFFE, 0xE000)
_END = (0xFFFE, 0xE0DD)


class Counted:
  """A stream that can be read a bounded number of times.

  Elements within sequences are not shown to pydicom's `stop_when`, but they
  are read.
  """

  def __init__(self, stream: BinaryIO, reads: int, message: str):
    """Reads from where the stream is.

    Args:
      stream: of the file.
      reads: how often at the most.
      message: of the error.
    """
    self._stream = stream
    self._left = reads
    self._message = message
    self.seek, self.tell = stream.seek, stream.tell

  def read(self, size: int = -1) -> bytes:
    self._left -= 1
    if self._left < 0:
      raise header_values.HeaderError(self._message, about='elements')
    return self._stream.read(size)


def tag_after(
  stream: BinaryIO, start: int, length: int, little_endian: bool
) -> tuple[int, int] | None:
  """The tag of the element that follows the pixel data.

  Args:
    stream: of the file; it is left anywhere.
    start: of the value of the pixel data.
    length: of the value; 0xFFFFFFFF for fragments.
    little_endian: the order of bytes.

  Returns:
    Group and element; None where the file ends or fragments make no sense.
  """
  form = '<HH' if little_endian else '>HH'
  if length == 0xFFFFFFFF:
    stream.seek(start)
    while True:
      head = stream.read(8)
      if len(head) < 8:
        return None
      *tag, size = struct.unpack('<HHL', head)
      if tuple(tag) == _END:
        break
      if tuple(tag) != _ITEM or size == 0xFFFFFFFF:
        return None
      stream.seek(size, 1)
  else:
    stream.seek(start + length)
  head = stream.read(4)
  return struct.unpack(form, head) if len(head) == 4 else None
