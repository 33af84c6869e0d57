"""Damages mammograms on purpose, the same way for the same seed.

What disks, networks and broken exports do to files, and what an attacker
writes by hand: the fuzzing scripts and the tests of every reader take it here.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pydicom
from pydicom import uid

_TAGS = (b'\xe0\x7f\x10\x00', b'\x7f\xe0\x00\x10')  # of the pixel data
_ITEM = b'\xfe\xff\x00\xe0'
_PREFIX = 132  # bytes of a DICOM file before its first element
# Values that a length field should not have: odd, off, huge, undefined.
_LENGTHS = (0, 1, 7, 0x7FFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_SIZES = (0, 1, 63, 4096, 65535)

Damage = Callable[[bytes, np.random.Generator, bytes], bytes]


def damaged(
  data: bytes, kind: str, rng: np.random.Generator, donor: bytes
) -> bytes:
  """A damaged copy of a DICOM file.

  Args:
    data: a sound file.
    kind: one of `KINDS`.
    rng: decides where and how.
    donor: another sound file, whose header or pixels some kinds take.

  Returns:
    The bytes of the file, which differ from `data`.
  """
  plain = None
  if rng.random() < 0.5 and kind not in _PARSED:
    plain = _inflated(data)
  if plain is None:
    found = KINDS[kind](data, rng, donor)
  else:  # Damage from before the file was deflated.
    found = _deflated(KINDS[kind](plain, rng, donor))
  return _bit_flips(data, rng, donor) if found == data else found


def pixel_start(data: bytes) -> int:
  """Offset of the pixel data element; of a deflated file, that of its body."""
  starts = [data.find(tag, _PREFIX) for tag in _TAGS]
  found = [start for start in starts if start > 0]
  return min(found) if found else min(_meta_end(data), len(data) // 2)


def _bit_flips(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  return _flipped(data, rng, pixel_start(data), len(data))


def _header_flips(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  return _flipped(data, rng, _PREFIX, pixel_start(data))


def _flipped(
  data: bytes, rng: np.random.Generator, start: int, stop: int
) -> bytes:
  out = bytearray(data)
  for at in rng.integers(start, stop, rng.choice((1, 2, 8, 64))):
    out[at] ^= 1 << int(rng.integers(8))
  return bytes(out)


def _truncated(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  # As often just before the end as anywhere.
  left = int(rng.integers(1, len(data)))
  return data[: -min(left, 100) if rng.random() < 0.5 else left]


def _cut_within(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  """Pixel data cut short in a file that hides it: lengths and end are right."""
  start = _body(data)
  if data[start : start + 4] != _ITEM:
    return _truncated(data, rng, b'')
  fragment, length = _fragment(data)
  keep = int(rng.integers(length // 8, length)) & ~1
  end = data[fragment + length - 2 : fragment + length]
  kept = data[fragment : fragment + keep - 2]
  if rng.random() < 0.5:  # with an end marker of JPEG or JPEG 2000
    end = b'\xff\xd9'
  head = data[: fragment - 4] + struct.pack('<L', keep)
  return head + kept + end + data[fragment + length :]


def _zeroed(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  start, count = _run(data, rng)
  return data[:start] + bytes(count) + data[start + count :]


def _zero_tail(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  """A copy that was interrupted after its room had been reserved."""
  start = int(rng.integers(pixel_start(data), len(data)))
  return data[:start] + bytes(len(data) - start)


def _repeated(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  start, count = _run(data, rng)
  return data[: start + count] + data[start:]


def _dropped(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  start, count = _run(data, rng)
  return data[:start] + data[start + count :]


def _overwritten(data: bytes, rng: np.random.Generator, donor: bytes) -> bytes:
  """A block of the file holds a block of another file."""
  start, count = _run(data, rng)
  other = int(rng.integers(0, max(1, len(donor) - count)))
  block = donor[other : other + count]
  return data[:start] + block + data[start + len(block) :]


def _run(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
  start = int(rng.integers(pixel_start(data), len(data)))
  count = int(rng.choice((1, 2, 16, 512, 4096)))
  return start, min(count, len(data) - start)


def _wrong_length(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  """A wrong length of the pixel data, of a fragment, or of an element."""
  body = _body(data)
  places = [body - 4]
  if data[body : body + 4] == _ITEM:
    places += [body + 4, _fragment(data)[0] - 4]
  at = int(rng.choice(places))
  (length,) = struct.unpack_from('<L', data, at)
  near = (length + int(rng.integers(-40, 40)) * 2) & 0xFFFFFFFF
  value = near if rng.random() < 0.5 else int(rng.choice(_LENGTHS))
  if rng.random() < 0.3:  # any place in the header, most of them lengths
    at = int(rng.integers(_PREFIX, pixel_start(data) - 4)) & ~1
  return data[:at] + struct.pack('<L', value) + data[at + 4 :]


def _wrong_size(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  ds = _read(data)
  rows, cols = int(ds.Rows), int(ds.Columns)
  pairs = [
    (cols, rows),
    (rows + 1, cols),
    (rows, cols - 1),
    (rows * 2, cols),
    (rows // 2, cols * 2),
    (rows // 2, cols),
    (int(rng.choice(_SIZES)), cols),
    (rows, int(rng.choice(_SIZES))),
  ]
  ds.Rows, ds.Columns = pairs[int(rng.integers(len(pairs)))]
  return _written(ds)


def _wrong_depth(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  """Another depth, sign, or number of samples or frames than the pixels'."""
  ds = _read(data)
  keyword, values = (
    ('BitsStored', (1, 8, 10, 14, 17)),
    ('BitsAllocated', (1, 8, 12, 32)),
    ('HighBit', (0, 7, 15)),
    ('PixelRepresentation', (1, 7)),
    ('SamplesPerPixel', (0, 3, 255)),
    ('NumberOfFrames', (-1, 0, 2, 10**9)),
  )[int(rng.integers(6))]
  ds.add_new(
    keyword,
    'IS' if keyword == 'NumberOfFrames' else 'US',
    int(rng.choice(values)),
  )
  return _written(ds)


def _wrong_codestream(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  """Other dimensions or depth in SIZ, SOF or the segments' table of RLE."""
  body = _body(data)
  packed = data[body : body + 4] == _ITEM
  # 0xFF is never followed by these within the compressed samples.
  siz, *sofs = (
    data.find(marker, body) if packed else -1
    for marker in (b'\xff\x4f\xff\x51', b'\xff\xc3', b'\xff\xf7')
  )
  sof = max(sofs)
  out = bytearray(data)
  if siz > 0:
    at = siz + int(rng.choice((8, 12, 16, 20, 24, 28)))
    struct.pack_into('>L', out, at, int(rng.choice((*_SIZES, 60000))))
    if rng.random() < 0.3:
      out[siz + 42] = int(rng.choice((0, 7, 11, 15, 31, 139)))
  elif sof > 0:
    at = sof + int(rng.choice((5, 7)))
    struct.pack_into('>H', out, at, int(rng.choice((*_SIZES, 300))))
    if rng.random() < 0.3:
      out[sof + 4] = int(rng.choice((0, 2, 8, 12, 16, 17)))
  else:
    start = _fragment(data)[0] if packed else body
    out[start + int(rng.integers(64))] ^= 1 << int(rng.integers(8))
  return bytes(out)


def _wrong_syntax(data: bytes, rng: np.random.Generator, _: bytes) -> bytes:
  """The transfer syntax of other pixels, of the same length as text."""
  old = str(_read(data).file_meta.TransferSyntaxUID).encode()
  names = [name.encode() for name in uid.AllTransferSyntaxes]
  room = len(old) + len(old) % 2
  fitting = [n for n in names if n != old and len(n) + len(n) % 2 == room]
  fitting += [old[:-1] + bytes([48 + int(rng.integers(10))])]
  new = fitting[int(rng.integers(len(fitting)))]
  return data.replace(old.ljust(room, b'\0'), new.ljust(room, b'\0'), 1)


def _swapped_header(
  data: bytes, rng: np.random.Generator, donor: bytes
) -> bytes:
  """The header of another file before these pixels."""
  return donor[: pixel_start(donor)] + data[pixel_start(data) :]


def _other_codestream(
  data: bytes, rng: np.random.Generator, donor: bytes
) -> bytes:
  """This header before the pixels of another file."""
  return data[: pixel_start(data)] + donor[pixel_start(donor) :]


KINDS: dict[str, Damage] = {
  'bit flips': _bit_flips,
  'bit flips in the header': _header_flips,
  'truncated': _truncated,
  'cut within': _cut_within,
  'zeroed run': _zeroed,
  'zeroed tail': _zero_tail,
  'repeated block': _repeated,
  'dropped block': _dropped,
  'block of another file': _overwritten,
  'wrong length': _wrong_length,
  'wrong rows or columns': _wrong_size,
  'wrong depth': _wrong_depth,
  'wrong codestream header': _wrong_codestream,
  'wrong transfer syntax': _wrong_syntax,
  'swapped header': _swapped_header,
  'other codestream': _other_codestream,
}
_PARSED = ('wrong rows or columns', 'wrong depth', 'wrong transfer syntax')


def _body(data: bytes) -> int:
  """Offset of the value of the pixel data."""
  start = pixel_start(data)
  return start + (12 if data[start + 4 : start + 5] == b'O' else 8)


def _fragment(data: bytes) -> tuple[int, int]:
  """Offset and length of the first fragment after the table of offsets."""
  body = _body(data)
  (table,) = struct.unpack_from('<L', data, body + 4)
  at = body + 8 + table
  return at + 8, struct.unpack_from('<L', data, at + 4)[0]


def _meta_end(data: bytes) -> int:
  return _PREFIX + 12 + struct.unpack_from('<L', data, _PREFIX + 8)[0]


def _inflated(data: bytes) -> bytes | None:
  """A deflated file with its body inflated; None for any other file."""
  end = _meta_end(data)
  if uid.DeflatedExplicitVRLittleEndian.encode() not in data[:end]:
    return None
  return data[:end] + zlib.decompress(data[end:], -zlib.MAX_WBITS)


def _deflated(data: bytes) -> bytes:
  end = _meta_end(data) if len(data) > _PREFIX + 12 else len(data)
  compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
  return data[:end] + compressor.compress(data[end:]) + compressor.flush()


def _read(data: bytes) -> pydicom.FileDataset:
  return pydicom.dcmread(io.BytesIO(data))


def _written(ds: pydicom.FileDataset) -> bytes:
  out = io.BytesIO()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # values are wrong on purpose
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
  return out.getvalue()
