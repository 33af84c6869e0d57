"""A16 to A18: compressed frames that lie about their size, or never end."""

import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np
import serve_mammograms as mammograms
from pydicom import uid
from serve_hostile import OK, Case, case
from serve_hostile_dicom import compressed

_DAMAGED = ('E_DAMAGED', 'E_CODESTREAM')


def cases() -> Iterator[Case]:
  yield from _jpeg2000()
  yield from _jpeg_lossless()
  yield from _jpeg_ls()
  yield from _rle()
  # A codec's bytes under the name of another.
  grey = mammograms.grey()
  frames = {
    uid.JPEG2000Lossless: imagecodecs.jpeg2k_encode(grey),
    uid.JPEGLosslessSV1: _lossless(grey),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode(grey),
    uid.RLELossless: rle(grey),
  }
  for syntax in frames:
    for other, frame in frames.items():
      if syntax != other:
        name = f'{other.name} in {syntax.name}'
        yield case('A16', name, compressed(syntax, frame), *_DAMAGED)


def siz(data: bytes, **fields: int) -> bytes:
  """A JPEG 2000 codestream whose SIZ says something else."""
  places = {
    name: (8 + 4 * i, '>L')
    for i, name in enumerate(('x1', 'y1', 'x0', 'y0', 'tx', 'ty', 'tx0', 'ty0'))
  } | {
    'components': (40, '>H'),
    'depth': (42, 'B'),
    'step_x': (43, 'B'),
    'step_y': (44, 'B'),
  }
  out = bytearray(data)
  for name, value in fields.items():
    at, form = places[name]
    struct.pack_into(form, out, at, value)
  return bytes(out)


def _jpeg2000() -> Iterator[Case]:
  good = imagecodecs.jpeg2k_encode(mammograms.grey(), codecformat='j2k')
  syntax = uid.JPEG2000Lossless
  for name, fields in (
    ('60000 squared', {'x1': 60000, 'y1': 60000}),
    ('2^32 - 1 squared', {'x1': 2**32 - 1, 'y1': 2**32 - 1}),
    ('10^6 tiles', {'tx': 1, 'ty': 1}),
    ('tiles of 0', {'tx': 0, 'ty': 0}),
    ('offset beyond size', {'x0': 2**31, 'y0': 2**31}),
    ('tile offset', {'tx0': 2**31, 'ty0': 2**31}),
    ('no component', {'components': 0}),
    ('16384 components', {'components': 16384}),
    ('38 bits', {'depth': 37}),
    ('steps of 0', {'step_x': 0, 'step_y': 0}),
    ('steps of 255', {'step_x': 255, 'step_y': 255}),
  ):
    frame = siz(good, **fields)
    answers = ('E_CODESTREAM',)
    if name == 'tile offset':
      answers = _DAMAGED
    yield case('A16', f'JPEG 2000 {name}', compressed(syntax, frame), *answers)
  yield case('A16', 'no codestream', compressed(syntax, bytes(99)), *_DAMAGED)
  yield case('A16', 'SIZ alone', compressed(syntax, good[:60]), *_DAMAGED)
  box = struct.pack('>L4s', 8, b'jp2c') + good
  yield case('A16', 'box of 8 bytes', compressed(syntax, box), OK, *_DAMAGED)
  box = struct.pack('>L4sQ', 1, b'jp2c', 2**63) + good
  yield case('A16', 'box of 2^63 bytes', compressed(syntax, box), *_DAMAGED)
  boxes = struct.pack('>L4s', 8, b'free') * 100_000 + box
  yield case('A16', '10^5 boxes', compressed(syntax, boxes), *_DAMAGED)

  def agreed():
    # 49 megapixels in both headers, and the bytes of a small image.
    frame = siz(good, x1=7000, y1=7000, tx=7000, ty=7000)
    return compressed(syntax, frame, Rows=7000, Columns=7000)

  yield case('A16', 'size agreed upon', agreed, *_DAMAGED, 'E_NOT_MAMMO')

  def tiles():
    frame = siz(good, x1=7000, y1=7000, tx=120, ty=120)
    return compressed(syntax, frame, Rows=7000, Columns=7000)

  yield case('A16', '3481 tiles agreed upon', tiles, *_DAMAGED, 'E_NOT_MAMMO')
  cod = good.index(b'\xff\x52')
  for name, at, value in (
    ('255 levels', cod + 9, 255),
    ('code blocks of 2^257', cod + 10, 255),
    ('65535 layers', cod + 6, 255),
    ('progression 99', cod + 5, 99),
  ):
    frame = bytearray(good)
    frame[at] = value
    frame = compressed(syntax, bytes(frame))
    yield case('A16', f'JPEG 2000 {name}', frame, *_DAMAGED, 'E_NOT_MAMMO', OK)


def _lossless(pixels: np.ndarray) -> bytes:
  return imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1)


def sof(data: bytes, marker: int, rows: int, columns: int) -> bytes:
  """A JPEG whose frame header has another size."""
  at = data.index(bytes((0xFF, marker)))
  return data[: at + 5] + struct.pack('>HH', rows, columns) + data[at + 9 :]


def _jpeg_lossless() -> Iterator[Case]:
  good = _lossless(mammograms.grey())
  syntax = uid.JPEGLosslessSV1
  for rows, columns in ((65500, 65500), (0, 256), (320, 0), (321, 256)):
    frame = sof(good, 0xC3, rows, columns)
    name = f'JPEG lossless {rows}x{columns}'
    yield case('A17', name, compressed(syntax, frame), 'E_CODESTREAM')
  frame = sof(good, 0xC3, 65500, 65500)
  agreed = compressed(syntax, frame, Rows=65500, Columns=65500)
  yield case('A17', 'size agreed upon', agreed, 'E_DIMS')

  def big():
    frame = sof(good, 0xC3, 7000, 7000)
    return compressed(syntax, frame, Rows=7000, Columns=7000)

  yield case('A17', '49 megapixels agreed upon', big, *_DAMAGED)
  baseline = mammograms.picture(mammograms.grey(), 'JPEG')
  data = compressed(syntax, baseline)
  yield case('A17', 'baseline for lossless', data, *_DAMAGED)
  yield case('A17', 'no scan', compressed(syntax, good[:40]), *_DAMAGED)
  at = good.index(b'\xff\xc3')
  twice = good[:at] + good[at : at + 13] + good[at:]
  yield case(
    'A17', 'two frame headers', compressed(syntax, twice), *_DAMAGED, OK
  )
  table = good.index(b'\xff\xc4')
  frame = good[: table + 5] + b'\xff' * 16 + good[table + 21 :]
  yield case('A17', 'full Huffman table', compressed(syntax, frame), *_DAMAGED)
  fills = good[:2] + b'\xff' * 2_000_000 + good[2:]
  yield case('A17', 'fill bytes', compressed(syntax, fills), OK, *_DAMAGED)
  comment = b'\xff\xfe\xff\xff' + bytes(65533)
  notes = good[:2] + comment * 200 + good[2:]
  yield case('A17', '200 comments', compressed(syntax, notes), OK, *_DAMAGED)


def _jpeg_ls() -> Iterator[Case]:
  good = imagecodecs.jpegls_encode(mammograms.grey())
  syntax = uid.JPEGLSLossless
  for rows, columns in ((65500, 65500), (0, 256), (320, 0)):
    frame = sof(good, 0xF7, rows, columns)
    name = f'JPEG-LS {rows}x{columns}'
    yield case('A17', name, compressed(syntax, frame), *_DAMAGED)

  def big():
    frame = sof(good, 0xF7, 7000, 7000)
    return compressed(syntax, frame, Rows=7000, Columns=7000)

  yield case('A17', 'JPEG-LS, 49 megapixels', big, *_DAMAGED, 'E_NOT_MAMMO')


def rle(pixels: np.ndarray) -> bytes:
  """A DICOM RLE frame of uint8 pixels in literal runs."""
  data = pixels.tobytes()
  runs = b''.join(
    bytes((len(data[i : i + 128]) - 1,)) + data[i : i + 128]
    for i in range(0, len(data), 128)
  )
  return struct.pack('<16L', 1, 64, *[0] * 14) + runs


def _rle() -> Iterator[Case]:
  good = rle(mammograms.grey())
  syntax = uid.RLELossless
  yield case('A18', 'whole', compressed(syntax, good), OK)
  for name, head in (
    ('255 segments', (255, 64)),
    ('15 segments', (15, *range(64, 79))),
    ('no segment', (0, 64)),
    ('two segments', (2, 64, 70)),
    ('segment before the header', (1, 3)),
    ('segment beyond the end', (1, 1 << 30)),
  ):
    start = struct.pack('<16L', *head, *[0] * (16 - len(head)))
    data = compressed(syntax, start + good[64:])
    yield case('A18', name, data, 'E_DAMAGED')
  for name, frame in (
    ('half', good[: len(good) // 2]),
    ('no data', good[:64]),
    ('half a header', good[:30]),
    ('run beyond the end', good[:64] + b'\x7f' + bytes(9)),
    ('overrun', good[:64] + b'\x81\x55' * 400),
    ('no-operations', good[:64] + b'\x80' * 90_000),
  ):
    yield case('A18', name, compressed(syntax, frame), 'E_DAMAGED')
  # Far more than the frame has room for.
  more = good + b'\x81\x55' * 500_000
  yield case('A18', 'too many runs', compressed(syntax, more), 'E_DAMAGED', OK)
