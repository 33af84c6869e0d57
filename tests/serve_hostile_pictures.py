"""A17 and A28 to A31: PNG, JPEG and PGM pictures that are hostile or odd."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import serve_mammograms as mammograms
from PIL import Image
from serve_hostile import CANARY, OK, Case, case
from serve_hostile_streams import sof

_MAGIC = b'\x89PNG\r\n\x1a\n'


def cases() -> Iterator[Case]:
  yield from _png_bombs()
  yield from _png_structure()
  yield from _jpegs()
  yield from _two_in_one()
  yield from _modes()
  yield from _pgms()


def chunk(kind: bytes, data: bytes) -> bytes:
  """A chunk of a PNG, with its checksum."""
  crc = zlib.crc32(kind + data)
  return struct.pack('>L', len(data)) + kind + data + struct.pack('>L', crc)


def png(
  rows: int,
  columns: int,
  data: bytes,
  *,
  depth: int = 8,
  colour: int = 0,
  interlace: int = 0,
  before: bytes = b'',
  after: bytes = b'',
) -> bytes:
  """A PNG that says what it is told to, with these compressed bytes."""
  head = struct.pack('>LLBBBBB', columns, rows, depth, colour, 0, 0, interlace)
  body = chunk(b'IHDR', head) + before + chunk(b'IDAT', data) + after
  return _MAGIC + body + chunk(b'IEND', b'')


def _zeros(megabytes: int) -> bytes:
  """A zlib stream of many zeros, of about a kilobyte for each megabyte."""
  one = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
  block = one.compress(bytes(1 << 20)) + one.flush(zlib.Z_FULL_FLUSH)
  # The checksum is wrong, which decoders see at the end or never.
  return b'\x78\xda' + block * megabytes + b'\x03\0' + bytes(4)


def _scanlines(pixels: np.ndarray) -> bytes:
  rows = b''.join(b'\0' + row.tobytes() for row in pixels)
  return zlib.compress(rows)


def _png_bombs() -> Iterator[Case]:
  for rows, columns in (
    (30_000, 30_000),
    (12_000, 12_000),
    (1, 2**31 - 1),
    (2**31 - 1, 2**31 - 1),
    (2**32 - 1, 2**32 - 1),
    (0, 0),
    (0, 256),
    (1, 256),
    (63, 63),
  ):
    data = _zeros(1)
    yield case('A28', f'{rows}x{columns}', png(rows, columns, data), 'E_DIMS')
  yield case(
    'A28',
    '12000 squared, whole',
    lambda: png(12_000, 12_000, _zeros(138)),
    'E_DIMS',
  )
  yield case(
    'A28',
    '7700 squared, blank',
    lambda: png(7700, 7700, zlib.compress(bytes(7701 * 7700), 1)),
    'E_NOT_MAMMO',
  )
  small = _scanlines(mammograms.grey())
  yield case(
    'A28',
    'pixels of 2 GiB in a small one',
    lambda: png(320, 256, _zeros(2048)),
    'E_DAMAGED',
    'E_NOT_MAMMO',
  )
  for kind, start in (
    (b'zTXt', b'a\0\0'),
    (b'iCCP', b'a\0\0'),
    (b'iTXt', b'a\0\1\0\0\0'),
  ):

    def bomb(kind=kind, start=start):
      bombed = chunk(kind, start + _zeros(200))
      return png(320, 256, small, before=bombed)

    answers = (OK, 'E_DAMAGED')
    yield case('A28', f'{kind.decode()} of 200 MB', bomb, *answers)
  texts = chunk(b'tEXt', b'a\0' + CANARY.encode()) * 20_000
  data = png(320, 256, small, before=texts)
  yield case('A28', '20000 texts', data, OK, 'E_DAMAGED')


def _png_structure() -> Iterator[Case]:
  pixels = mammograms.grey()
  small = _scanlines(pixels)
  good = png(320, 256, small)
  yield case('A28', 'whole', good, OK)
  broken = ('E_DAMAGED',)
  yield case('A28', 'cut', good[: len(good) // 2], *broken)
  yield case('A28', 'no end', good[:-12], OK, *broken)
  yield case('A28', 'cut before the end', good[:-20], *broken)
  at = good.index(b'IDAT') + 4
  flipped = bytearray(good)
  flipped[at + len(small) // 2] ^= 1
  yield case('A28', 'a flipped bit', bytes(flipped), *broken)
  flipped = bytearray(good)
  flipped[at + len(small)] ^= 1
  yield case('A28', 'wrong checksum', bytes(flipped), *broken)
  head = good.index(b'IHDR') + 17
  flipped = bytearray(good)
  flipped[head] ^= 1
  yield case('A28', 'wrong checksum of the header', bytes(flipped), *broken)
  yield case('A28', 'no pixels', good[:33] + good[-12:], *broken)
  twice = good[:33] + good[8:]
  yield case('A28', 'two headers', twice, *broken, OK)
  length = good[:33] + b'\xff' * 4 + good[37:]
  yield case('A28', 'chunk of 4 GiB', length, *broken)
  for name, depth, colour in (
    ('3 bits', 3, 0),
    ('colour type 5', 8, 5),
    ('16 bits of a palette', 16, 3),
    ('palette without one', 8, 3),
    ('255 bits', 255, 0),
  ):
    data = png(320, 256, small, depth=depth, colour=colour)
    yield case('A28', name, data, *broken)
  data = png(320, 256, small, interlace=9)
  yield case('A28', 'interlace 9', data, *broken)
  rows = b''.join(b'\x09' + row.tobytes() for row in pixels)
  data = png(320, 256, zlib.compress(rows))
  yield case('A28', 'filter 9', data, *broken)
  data = png(320, 256, small[:-9])
  yield case('A28', 'pixels cut short', data, *broken)
  data = png(320, 256, b'\x78\xda' + b'\xff' * 999)
  yield case('A28', 'pixels of junk', data, *broken)
  still = mammograms.picture(pixels, 'PNG')
  frames = [Image.fromarray(pixels[::-1]), Image.fromarray(pixels)]
  moving = mammograms.picture(
    Image.fromarray(pixels), 'PNG', save_all=True, append_images=frames
  )
  yield case('A28', 'animated', moving, 'E_FRAMES')
  lies = png(320, 256, small, before=chunk(b'acTL', b'\xff' * 8))
  yield case('A28', '2^32 frames', lies, 'E_FRAMES', *broken)
  assert moving != still


def _jpegs() -> Iterator[Case]:
  grey = mammograms.grey()
  good = mammograms.picture(grey, 'JPEG', quality=90)
  progressive = mammograms.picture(grey, 'JPEG', progressive=True)
  yield case('A17', 'progressive', progressive, OK)
  for rows, columns in ((65500, 65500), (0, 256), (320, 0), (9000, 9000)):
    data = sof(good, 0xC0, rows, columns)
    yield case('A17', f'{rows}x{columns}', data, 'E_DIMS')

  def scans():
    at = progressive.rindex(b'\xff\xda')
    scan = progressive[at:-2]
    return progressive[:-2] + scan * 10_000 + b'\xff\xd9'

  answers = (OK, 'E_DAMAGED', 'E_LIMITS', 'E_CODESTREAM')
  yield case('A17', '10000 scans', scans, *answers)

  def big_scans():
    bigger = mammograms.grey(0, (3200, 2560))
    whole = mammograms.picture(bigger, 'JPEG', progressive=True)
    at = whole.rindex(b'\xff\xda')
    empty = whole[at : at + 2 + int.from_bytes(whole[at + 2 : at + 4], 'big')]
    return whole[:-2] + empty * 20_000 + b'\xff\xd9'

  yield case('A17', '20000 empty scans of 8 megapixels', big_scans, *answers)
  yield case('A06', 'JPEG, half', good[: len(good) // 2], 'E_DAMAGED')
  yield case('A06', 'JPEG, no end', good[:-2], 'E_DAMAGED')
  for kind, marker in (
    ('arithmetic', 0xC9),
    ('lossless', 0xC3),
    ('12 bits', 0),
  ):
    if marker:
      data = good.replace(b'\xff\xc0', bytes((0xFF, marker)), 1)
    else:
      at = good.index(b'\xff\xc0')
      data = good[: at + 4] + b'\x0c' + good[at + 5 :]
    yield case('A29', kind, data, 'E_BITS')
  yield case(
    'A29',
    'CMYK',
    mammograms.picture(Image.fromarray(grey).convert('CMYK'), 'JPEG'),
    'E_BITS',
  )
  for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = mammograms.picture(grey, 'JPEG', exif=exif)
    yield case('A29', f'orientation {orientation}', data, OK, 'E_NOT_MAMMO')
  exif = Image.Exif()
  exif[0x0112] = 99
  exif[0x010F] = CANARY
  exif[0x8825] = {1: 'N', 2: (52.0, 31.0, 12.0)}
  data = mammograms.picture(grey, 'JPEG', exif=exif)
  yield case('A29', 'place and maker', data, OK)
  for name, content in (
    ('thumbnail', b'Exif\0\0' + good[:20] + b'\xff\xd8' + bytes(60_000)),
    ('junk', b'Exif\0\0II*\0\xff\xff\xff\xff' + b'\xff' * 999),
    ('loop', b'Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0'),
  ):
    part = b'\xff\xe1' + struct.pack('>H', len(content) + 2) + content
    data = good[:2] + part + good[2:]
    yield case('A29', f'EXIF {name}', data, OK, 'E_DAMAGED')
  part = b'\xff\xfe\xff\xff' + CANARY.encode().ljust(65533, b' ')
  yield case('A29', '500 comments', good[:2] + part * 500 + good[2:], OK)


def _two_in_one() -> Iterator[Case]:
  grey = mammograms.grey()
  tails = {
    'ZIP': b'PK\x03\x04' + CANARY.encode() * 9,
    'PHP': f'<?php system("{CANARY}"); ?>'.encode(),
    'HTML': f'<script>{CANARY}</script>'.encode(),
  }
  for kind in ('PNG', 'JPEG', 'PPM'):
    good = mammograms.picture(grey, kind)
    for name, tail in tails.items():
      yield case('A30', f'{kind} and {name}', good + tail, OK)
  small = _scanlines(grey)
  for name, part in (
    ('text', chunk(b'tEXt', b'Author\0' + CANARY.encode())),
    ('private', chunk(b'prVt', CANARY.encode())),
    ('EXIF', chunk(b'eXIf', b'II*\0' + CANARY.encode())),
  ):
    data = png(320, 256, small, before=part)
    yield case('A30', f'PNG with {name}', data, OK)
  hidden = png(320, 256, small, after=chunk(b'zzzz', CANARY.encode() * 99))
  yield case('A30', 'PNG with a chunk after the pixels', hidden, OK)
  more = np.concatenate([grey, np.full((9, 256), 0x43, np.uint8)])
  data = png(320, 256, _scanlines(more))
  yield case('A30', 'PNG with more rows than it says', data, OK, 'E_DAMAGED')


def _modes() -> Iterator[Case]:
  grey = mammograms.grey()
  image = Image.fromarray(grey)
  yield case(
    'A31',
    '16 bits',
    mammograms.picture(grey.astype(np.uint16) * 257, 'PNG'),
    OK,
  )
  for mode in ('RGB', 'RGBA', 'LA', 'P'):
    data = mammograms.picture(image.convert(mode), 'PNG')
    yield case('A31', mode, data, OK)
  yield case(
    'A31',
    '1 bit',
    mammograms.picture(image.convert('1'), 'PNG'),
    OK,
    'E_NOT_MAMMO',
  )
  clear = image.convert('LA')
  clear.putalpha(Image.fromarray(np.zeros_like(grey)))
  yield case('A31', 'all transparent', mammograms.picture(clear, 'PNG'), OK)
  sixteen = np.repeat(grey[..., None], 3, 2).astype('>u2') * 257
  data = png(320, 256, _scanlines(sixteen), depth=16, colour=2)
  yield case('A31', 'RGB of 16 bits', data, OK)
  data = mammograms.picture(image, 'PNG', bits=4)
  yield case('A31', '4 bits', data, OK, 'E_NOT_MAMMO')


def _pgms() -> Iterator[Case]:
  grey = mammograms.grey()
  good = mammograms.picture(grey, 'PPM')
  yield case('A06', 'PGM, half', good[: len(good) // 2], 'E_DAMAGED')
  body = grey.tobytes()
  for name, head, answers in (
    ('99999 squared', b'P5 99999 99999 255\n', ('E_DIMS',)),
    ('size of 0', b'P5 0 0 255\n', ('E_DIMS',)),
    ('negative', b'P5 -256 320 255\n', ('E_DAMAGED',)),
    ('maximum 65536', b'P5 256 320 65536\n', ('E_DAMAGED', 'E_BITS')),
    ('maximum 0', b'P5 256 320 0\n', ('E_DAMAGED', 'E_BITS')),
    ('maximum 9', b'P5 256 320 9\n', ('E_DAMAGED', 'E_BITS')),
    ('10^5 digits', b'P5 ' + b'9' * 100_000 + b' 1 255\n', ('E_DAMAGED',)),
    ('no header', b'P5\n', ('E_DAMAGED',)),
    ('comment', b'P5 # ' + CANARY.encode() + b'\n256 320 255\n', (OK,)),
    ('endless comment', b'P5 #' + b'x' * 1_000_000, ('E_DAMAGED',)),
    ('spaces', b'P5' + b' ' * 30_000_000, ('E_DAMAGED',)),
    ('comments', b'P5\n' + b'#\n' * 10_000_000, ('E_DAMAGED',)),
  ):
    yield case('A28', f'PGM {name}', head + body, *answers)
  plain = b'P2 256 320 255\n'
  yield case(
    'A28', 'plain PGM', plain + ' '.join(map(str, grey.ravel())).encode(), OK
  )
  for name, text in (
    ('of 10^5 digits', b'1' * 100_000 + b' ' * 200_000),
    ('negative', b'-1 ' * 320 * 256),
    ('text', CANARY.encode() + b' 0' * 320 * 256),
    ('over the maximum', b'999 ' * 320 * 256),
  ):
    yield case('A28', f'plain PGM {name}', plain + text, 'E_DAMAGED', 'E_BITS')

  def many():
    return b'P2 6000 5000 255\n' + b'0 ' * 30_000_000

  yield case(
    'A28',
    'plain PGM of 30 megapixels',
    many,
    'E_NOT_MAMMO',
    'E_LIMITS',
    'E_DAMAGED',
  )
