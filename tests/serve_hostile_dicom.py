"""A06 to A11, A20, A21 and A26: DICOM files whose structure is hostile."""

import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
import pydicom
import serve_mammograms as mammograms
from pydicom import encaps, uid
from serve_hostile import CANARY, OK, Case, case

_PIXELS = b'\xe0\x7f\x10\x00'
_OTHER_SYNTAXES = {
  'unknown': '1.2.3.4.5',
  'MPEG-2': '1.2.840.10008.1.2.4.100',
  'MPEG-4': '1.2.840.10008.1.2.4.102',
  'HEVC': '1.2.840.10008.1.2.4.107',
  'JPIP': '1.2.840.10008.1.2.4.94',
  'JPIP deflated': '1.2.840.10008.1.2.4.95',
  'JPEG baseline': '1.2.840.10008.1.2.4.50',
  'JPEG extended': '1.2.840.10008.1.2.4.51',
  'JPEG 2000 part 2': '1.2.840.10008.1.2.4.92',
  'RFC 2557': '1.2.840.10008.1.2.6.1',
  'SMPTE': '1.2.840.10008.1.2.7.1',
  'a path': '../../etc/passwd',
  'a text': CANARY,
  'missing': '',
}


def cases() -> Iterator[Case]:
  yield from _cut()
  yield from _syntaxes()
  yield from _lengths()
  yield from _deep()
  yield from _many()
  yield from _fragments()
  yield from _two_pixels()
  data = mammograms.dicom()
  yield case(
    'A26',
    'DICOMDIR',
    lambda: mammograms.written(_directory()),
    'E_DIMS',
    'E_NOT_MAMMO',
    filename='DICOMDIR',
  )
  yield case('A06', 'trailing bytes', data + bytes(5000), OK)


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
  """An element in explicit VR and little-endian, with a length of 4 bytes."""
  head = struct.pack('<HH2s', group, number, vr)
  return head + struct.pack('<HL', 0, len(value)) + value


def before_pixels(extra: bytes) -> bytes:
  """A sound file with elements before its pixels."""
  data = mammograms.dicom()
  start = data.index(_PIXELS, 132)
  return data[:start] + extra + data[start:]


def compressed(
  syntax: str, frame: bytes, pixels: np.ndarray | None = None, **elements
) -> bytes:
  """A file of one compressed frame, whatever that is."""
  return mammograms.written(
    _encapsulated(encaps.encapsulate([frame]), syntax, pixels, **elements)
  )


def _encapsulated(
  value: bytes, syntax: str, pixels: np.ndarray | None = None, **elements
) -> pydicom.Dataset:
  found = mammograms.dataset(pixels, **elements)
  found.file_meta.TransferSyntaxUID = uid.UID(syntax)
  found.PixelData = value
  found['PixelData'].VR = 'OB'
  found['PixelData'].is_undefined_length = True
  return found


def _cut() -> Iterator[Case]:
  data = mammograms.dicom()
  start = data.index(_PIXELS, 132)
  for name, size in (
    ('in the header', 400),
    ('before the pixels', start),
    ("in the pixels' header", start + 6),
    ('after half the pixels', (start + len(data)) // 2),
    ('before the last byte', len(data) - 1),
  ):
    yield case('A06', f'cut {name}', data[:size], 'E_DAMAGED', 'E_DIMS')
  grey = mammograms.grey()
  for name, syntax, encode in (
    ('JPEG 2000', uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode),
    (
      'JPEG lossless',
      uid.JPEGLosslessSV1,
      lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1),
    ),
    ('JPEG-LS', uid.JPEGLSLossless, imagecodecs.jpegls_encode),
  ):
    frame = encode(grey)
    yield case('A06', f'{name}, whole', compressed(syntax, frame), OK)
    half = compressed(syntax, frame[: len(frame) // 2])
    yield case('A06', f'{name}, half', half, 'E_DAMAGED')
    zeros = frame[: len(frame) // 2] + bytes(len(frame) // 2)
    yield case('A06', f'{name}, zeros', compressed(syntax, zeros), 'E_DAMAGED')


def zeros_deflated(blocks: int) -> bytes:
  """A raw deflate stream of `blocks` times 16 MiB of zeros, 16 KiB each."""
  compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
  one = compressor.compress(bytes(1 << 24))
  one += compressor.flush(zlib.Z_FULL_FLUSH)
  return one * blocks + compressor.flush()


def _syntaxes() -> Iterator[Case]:
  deflated = uid.DeflatedExplicitVRLittleEndian
  found = mammograms.dataset()
  found.file_meta.TransferSyntaxUID = deflated
  yield case('A07', 'deflated', lambda: mammograms.written(found), 'E_TS')

  def bomb():
    data = mammograms.written(found)
    end = 144 + struct.unpack_from('<L', data, 140)[0]
    return data[:end] + zeros_deflated(128)

  yield case('A07', 'deflated, 2 GiB of zeros', bomb, 'E_TS')
  for name, syntax in _OTHER_SYNTAXES.items():
    other = mammograms.dataset()
    other.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    data = mammograms.written(other)
    old = b'UI\x12\x001.2.840.10008.1.2\0'
    text = syntax.encode() + b'\0' * (len(syntax) % 2)
    new = b'UI' + struct.pack('<H', len(text)) + text
    assert data.count(old) == 1
    yield case('A08', f'syntax {name}', data.replace(old, new), 'E_TS')
  old = b'UI\x14\x001.2.840.10008.1.2.1\0'
  new = b'UI\xff\xff' + b'1' * 65535
  data = mammograms.dicom().replace(old, new, 1)
  yield case('A08', 'syntax of 65535 digits', data, 'E_TS', 'E_DAMAGED')


def _lengths() -> Iterator[Case]:
  for name, length in (
    ('0xFFFFFFFE', 0xFFFFFFFE),
    ('0x7FFFFFFF', 0x7FFFFFFF),
    ('of a gigabyte', 1 << 30),
    ('odd', 7),
  ):
    extra = element(0x0099, 0x1010, b'OB', b'')[:-4] + struct.pack('<L', length)
    answers = ('E_DAMAGED', 'E_DIMS')
    yield case('A09', f'length {name}', before_pixels(extra), *answers)
  data = mammograms.dicom()
  at = data.index(_PIXELS, 132) + 8
  for length in (0, 0x7FFFFFFE, 0xFFFFFFFE, 0xFFFFFFFF):
    changed = data[:at] + struct.pack('<L', length) + data[at + 4 :]
    # Of the pixels, what the header promises is there.
    answers = ('E_DAMAGED',) if not length else ('E_DAMAGED', 'E_DIMS', OK)
    yield case('A09', f'pixels of length {length:#x}', changed, *answers)


def _deep() -> Iterator[Case]:
  # An item of undefined length that holds a sequence of undefined length.
  sequence = struct.pack('<HH2sHL', 0x0040, 0x0275, b'SQ', 0, 0xFFFFFFFF)
  item = struct.pack('<HHL', 0xFFFE, 0xE000, 0xFFFFFFFF)
  ends = struct.pack('<HHLHHL', 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
  answers = ('E_DAMAGED', 'E_LIMITS')
  for depth in (5_000, 200_000):
    nested = (sequence + item) * depth
    yield case('A10', f'{depth} deep', before_pixels(nested), *answers)
    nested += ends * depth
    yield case('A10', f'{depth} deep, closed', before_pixels(nested), *answers)
  shared = struct.pack('<HH2sHL', 0x5200, 0x9229, b'SQ', 0, 0xFFFFFFFF)
  nested = shared + item + (sequence + item) * 2_000 + ends * 2_001
  yield case('A10', 'groups 2000 deep', before_pixels(nested), *answers)
  open_end = sequence + item
  yield case('A10', 'sequence without end', before_pixels(open_end), *answers)
  other = struct.pack('<HH2sHL', 0x0040, 0x0275, b'SQ', 0, 99) + b'x' * 99
  yield case(
    'A10', 'sequence without items', before_pixels(other), OK, *answers
  )


def _many() -> Iterator[Case]:
  def elements(count):
    return before_pixels(
      b''.join(
        struct.pack('<HH2sH', 0x0011 + 2 * (i >> 16), i & 0xFFFF, b'US', 2)
        + b'\0\0'
        for i in range(count)
      )
    )

  def creators():
    return before_pixels(
      b''.join(
        struct.pack('<HH2sH2s', 0x0011 + 2 * (i % 400), 0x10, b'LO', 2, b'A ')
        for i in range(100_000)
      )
    )

  def within(count):
    inner = struct.pack('<HH2sH2s', 0x0011, 0x1010, b'US', 2, b'\0\0') * count
    items = struct.pack('<HHL', 0xFFFE, 0xE000, len(inner)) + inner
    return before_pixels(element(0x0040, 0x0275, b'SQ', items))

  def items(count):
    empty = struct.pack('<HHL', 0xFFFE, 0xE000, 0)
    open_sequence = element(0x0040, 0x0275, b'SQ', b'')[:-4] + b'\xff' * 4
    end = struct.pack('<HHL', 0xFFFE, 0xE0DD, 0)
    return before_pixels(open_sequence + empty * count + end)

  yield case('A11', '10^6 elements', lambda: elements(10**6), 'E_LIMITS')
  yield case('A11', '10^5 creators', creators, 'E_LIMITS')
  yield case('A11', '10^6 in an item', lambda: within(10**6), OK, 'E_LIMITS')
  yield case('A11', '10^6 items', lambda: items(10**6), 'E_LIMITS')


def _fragments() -> Iterator[Case]:
  frame = imagecodecs.jpeg2k_encode(mammograms.grey())
  frame += b'\0' * (len(frame) % 2)
  item = struct.pack('<HHL', 0xFFFE, 0xE000, len(frame)) + frame
  table = struct.pack('<HHL', 0xFFFE, 0xE000, 0)
  end = struct.pack('<HHL', 0xFFFE, 0xE0DD, 0)

  def file(value):
    data = mammograms.written(_encapsulated(table + item, uid.JPEG2000Lossless))
    at = data.index(_PIXELS, 132) + 12
    return data[:at] + value

  broken = ('E_DAMAGED',)
  yield case('A20', 'whole', file(table + item + end), OK)
  yield case('A20', 'no end', file(table + item), OK, *broken)
  yield case('A20', 'nothing', file(b''), *broken)
  yield case('A20', 'no fragment', file(table + end), *broken)
  yield case('A20', 'no table', file(item + end), *broken)
  one = struct.pack('<HHL', 0xFFFE, 0xE000, 1) + b'\xff'
  yield case('A20', 'fragment of one byte', file(table + one + end), *broken)
  odd = struct.pack('<HHL', 0xFFFE, 0xE000, len(frame) - 1) + frame[:-1]
  yield case('A20', 'odd fragment', file(table + odd + end), OK, *broken)
  for name, offsets in (
    ('beyond the end', (1 << 31,)),
    ('many', tuple(range(99))),
    ('two', (0, 8)),
  ):
    value = struct.pack(f'<{len(offsets)}L', *offsets)
    wrong = struct.pack('<HHL', 0xFFFE, 0xE000, len(value)) + value
    yield case('A20', f'offsets {name}', file(wrong + item + end), OK, *broken)
  huge = struct.pack('<HHL', 0xFFFE, 0xE000, 0xFFFFFFFE)
  data = file(table + huge + frame)
  yield case('A20', 'fragment of 4 GiB', data, OK, *broken)
  yield case('A20', 'table of 4 GiB', file(huge + frame), *broken)
  pieces = b''.join(
    struct.pack('<HHL', 0xFFFE, 0xE000, 2) + frame[i : i + 2]
    for i in range(0, len(frame), 2)
  )
  yield case('A20', 'fragments of 2 bytes', file(table + pieces + end), OK)
  many = (struct.pack('<HHL', 0xFFFE, 0xE000, 0)) * 100_000
  yield case(
    'A20', '10^5 empty fragments', file(table + many + end), *broken, 'E_LIMITS'
  )
  junk = b'\x12\x34' * 99
  yield case('A20', 'no items', file(junk), *broken)


def _two_pixels() -> Iterator[Case]:
  data = mammograms.dicom()
  start = data.index(_PIXELS, 132)
  second = data[start:]
  yield case('A21', 'two pixel data elements', data + second, 'E_BITS')
  for name, number in (('float', 8), ('double', 9)):
    value = struct.pack('<HH', 0x7FE0, number) + data[start + 4 :]
    yield case('A21', f'{name} pixels', data[:start] + value, 'E_BITS')
    yield case(
      'A21', f'{name} pixels before', data[:start] + value + second, 'E_BITS'
    )
  frame = imagecodecs.jpeg2k_encode(mammograms.grey())
  packed = compressed(uid.JPEG2000Lossless, frame)
  twice = packed + packed[packed.index(_PIXELS, 132) :]
  yield case('A21', 'two compressed elements', twice, 'E_BITS')
  inside = struct.pack('<HHL', 0xFFFE, 0xE000, len(second)) + second
  alone = data[:start] + element(0x0088, 0x0200, b'SQ', inside)
  yield case('A21', 'pixels in an icon alone', alone, 'E_DAMAGED', 'E_DIMS')


def _directory() -> pydicom.Dataset:
  found = pydicom.Dataset()
  found.file_meta = mammograms.dataset().file_meta
  found.file_meta.MediaStorageSOPClassUID = '1.2.840.10008.1.3.10'
  found.SOPClassUID = '1.2.840.10008.1.3.10'
  record = pydicom.Dataset()
  record.DirectoryRecordType = 'IMAGE'
  record.add_new(0x00041500, 'LO', '..\\..\\ETC\\PASSWD')
  found.DirectoryRecordSequence = [record]
  return found
