"""Pictures against Pillow, the written arrays, and damaged files."""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from rsna_jax.data import raster

GREY8 = np.random.default_rng(0).integers(0, 256, (70, 50)).astype(np.uint8)
GREY16 = np.random.default_rng(1).integers(0, 65536, (70, 50)).astype(np.uint16)
SMOOTH = (np.add.outer(np.arange(70), np.arange(50)) * 2).astype(np.uint8)


def saved(image, kind='PNG', **options) -> bytes:
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


def pgm(pixels, most, plain=False) -> bytes:
  rows, cols = pixels.shape
  head = f'P{2 if plain else 5}\n# a comment\n{cols} {rows}\n{most}\n'.encode()
  if plain:
    return head + '\n'.join(map(str, pixels.ravel().tolist())).encode()
  return head + pixels.astype(pixels.dtype.newbyteorder('>')).tobytes()


@pytest.mark.parametrize(
  'data, expected',
  [
    (saved(GREY8), GREY8),
    (saved(GREY16), GREY16),
    (pgm(GREY8, 255), GREY8),
    (pgm(GREY16, 65535), GREY16),
    (pgm(GREY16 >> 4, 4095), GREY16 >> 4),
    (pgm(GREY16, 65535, plain=True), GREY16),
    (pgm(GREY8, 255, plain=True), GREY8),
  ],
)
def test_lossless_grey_values_are_those_written(data, expected, tmp_path):
  path = tmp_path / 'picture.bin'
  path.write_bytes(data)
  for source in (data, path, str(path)):
    read = raster.read_raster(source)
    assert read.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(read.pixels, expected)
    assert read.photometric == ''
    assert read.attributes == {}


def test_jpeg_is_read_like_pillow_and_colour_becomes_luma():
  grey = saved(SMOOTH, 'JPEG', quality=95)
  reference = np.asarray(Image.open(io.BytesIO(grey)))
  np.testing.assert_array_equal(raster.read_raster(grey).pixels, reference)

  rgb = np.stack([SMOOTH, SMOOTH[::-1], SMOOTH // 2], axis=-1)
  luma = rgb @ np.array([0.299, 0.587, 0.114])
  read = raster.read_raster(saved(rgb)).pixels
  np.testing.assert_allclose(read, luma, atol=1)
  colour = saved(rgb, 'JPEG', quality=100, subsampling=0)
  np.testing.assert_allclose(raster.read_raster(colour).pixels, luma, atol=3)


def test_alpha_is_dropped_a_palette_looked_up_and_one_bit_becomes_two_greys():
  alpha = np.where(SMOOTH > 100, 0, 255).astype(np.uint8)
  rgba = Image.fromarray(np.stack([SMOOTH] * 3 + [alpha], axis=-1))
  np.testing.assert_array_equal(raster.read_raster(saved(rgba)).pixels, SMOOTH)
  la = Image.fromarray(np.stack([SMOOTH, alpha], axis=-1))
  np.testing.assert_array_equal(raster.read_raster(saved(la)).pixels, SMOOTH)

  palette = Image.fromarray((SMOOTH > 100).astype(np.uint8)).convert('P')
  palette.putpalette([200, 200, 200, 10, 10, 10])
  expected = np.where(SMOOTH > 100, 10, 200)
  read = raster.read_raster(saved(palette)).pixels
  np.testing.assert_array_equal(read, expected)

  bits = Image.fromarray(SMOOTH > 100)
  expected = np.where(SMOOTH > 100, 255, 0)
  np.testing.assert_array_equal(
    raster.read_raster(saved(bits)).pixels, expected
  )


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize(
  'orientation, turn',
  [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: a.T[:, ::-1])],
)
def test_orientation_of_exif_is_applied(kind, orientation, turn):
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = saved(SMOOTH, kind, exif=exif)
  plain = raster.read_raster(saved(SMOOTH, kind)).pixels
  np.testing.assert_array_equal(raster.read_raster(data).pixels, turn(plain))


def png_of(columns, rows, body=b'', colour=0) -> bytes:
  def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack('>L', len(data)) + kind + data + struct.pack('>L', crc)

  header = struct.pack('>LLBBBBB', columns, rows, 8, colour, 0, 0, 0)
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + chunk(b'IDAT', zlib.compress(body))
    + chunk(b'IEND', b'')
  )


def jpeg_of(rows, columns) -> bytes:
  data = bytearray(saved(GREY8, 'JPEG'))
  struct.pack_into('>HH', data, data.index(b'\xff\xc0') + 5, rows, columns)
  return bytes(data)


def flipped(data: bytes, at: int) -> bytes:
  return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def animated() -> bytes:
  frames = [Image.fromarray(GREY8[::-1])]
  return saved(GREY8, save_all=True, append_images=frames)


def many_scans() -> bytes:
  data = saved(SMOOTH, 'JPEG', progressive=True)
  scan = data[data.rindex(b'\xff\xda') : -2]
  return data[:-2] + scan * 200 + data[-2:]


def twelve_bits() -> bytes:
  data = bytearray(saved(SMOOTH, 'JPEG'))
  data[data.index(b'\xff\xc0') + 4] = 12
  return bytes(data)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
  'data, message',
  [
    (b'', 'empty file'),
    (b'P', 'not a PNG'),
    (b'P5 hello', 'damaged PGM header'),
    (b'P5\n', 'damaged PGM header'),
    (b'P5 70 50 255', 'truncated'),
    (pgm(GREY16, 65535)[:-1], 'truncated'),
    (pgm(GREY8, 255, plain=True)[:-9], 'truncated'),
    (b'P5 9000000 9000000 255\n', 'pixels'),
    (b'P2 7000 7000 255\n1 2 3', 'truncated'),
    (b'P5 7 5 70000\n' + bytes(99), 'maximum'),
    (b'P2 2 1 255 3 300', 'maximum'),
    (b'P2 2 1 255 a b', ''),
    (saved(GREY8)[:-600], 'truncated'),
    (saved(SMOOTH, 'JPEG')[:-300], 'truncated'),
    (flipped(saved(GREY8), 1000), ''),
    (saved(GREY8)[:20], ''),
    (saved(SMOOTH, 'JPEG')[:30], ''),
    (png_of(30000, 30000), '30000x30000'),
    (png_of(10000, 10000), '10000x10000'),
    (png_of(1, 2**31 - 1), 'pixels'),
    (png_of(0, 5), '5x0'),
    (png_of(7000, 7000, b'\0' * 100), 'truncated'),
    (jpeg_of(60000, 60000), '60000x60000'),
    (saved(GREY8, 'TIFF'), 'not a PNG'),
    (saved(GREY8, 'GIF'), 'not a PNG'),
    (saved(GREY8, 'BMP'), 'not a PNG'),
    (saved(Image.new('CMYK', (9, 9)), 'JPEG'), 'CMYK'),
    (flipped(saved(GREY8), len(saved(GREY8)) - 14), 'checksum'),
    (saved(GREY8)[:-14], 'truncated'),
    (animated(), 'animated'),
    (png_of(70, 50, bytes(51 * 70), colour=3), 'palette'),
    (many_scans(), 'scans'),
    (twelve_bits(), '12 bits'),
    (b'P5' + b' ' * (1 << 24), 'header'),
    (b'P5\n' + b'#\n' * (1 << 23), 'header'),
  ],
)
def test_a_damaged_or_absurd_picture_is_refused_in_one_line(
  data, message, tmp_path
):
  path = tmp_path / 'bad.png'
  path.write_bytes(data)
  tracemalloc.start()
  start = time.process_time()
  with pytest.raises(raster.RasterError) as caught:
    raster.read_raster(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert str(caught.value).startswith(f'{path}: ')
  assert message.lower() in str(caught.value).lower()
  assert '\n' not in str(caught.value)
  assert peak < 64 << 20
  assert time.process_time() - start < 5
