"""Reads exported pictures: PNG, JPEG and PGM, judged by content, not by name.

Their size is compared with a bound before they are decoded, and their grey
values are taken as they are: a picture does not say what it lost.
"""

import io
import os
import pathlib
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

from rsna_jax import errors
from rsna_jax.data import jpeg_markers, mammogram

MAX_BYTES = 512 << 20  # of a file
MAX_SCANS = 100  # of a progressive JPEG; encoders write about ten
_PGM_HEADER = 1 << 16  # bytes, comments included

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8\xff'


class RasterError(errors.InputError):
  """A file is not a PNG, JPEG or PGM picture that can be read."""


def is_raster(start: bytes) -> bool:
  """Whether the first bytes of a file are those of a PNG, JPEG or PGM."""
  return start.startswith((_PNG, _JPEG)) or (
    start[:2] in (b'P2', b'P5') and start[2:3].isspace()
  )


def read_raster(
  source: str | os.PathLike | bytes, name: str | None = None
) -> mammogram.Mammogram:
  """Reads a picture as a mammogram of unknown polarity.

  Colour becomes luma (ITU-R BT.601), transparency is dropped, a palette is
  looked up, black and white become 0 and 255, and the orientation of EXIF is
  applied. Colour of 16 bits is read as 8.

  Args:
    source: path or content of the file.
    name: of the file, for messages; default: its path.

  Returns:
    Mammogram whose `pixels` are (rows, cols) uint8 or uint16.

  Raises:
    RasterError: another format, damaged, truncated, or absurdly big.
    OSError: the file cannot be opened.
  """
  if isinstance(source, bytes | bytearray | memoryview):
    name, data = name or '<bytes>', bytes(source)
  else:
    name = name or os.fspath(source)
    size = pathlib.Path(source).stat().st_size
    if size > MAX_BYTES:
      raise RasterError(
        f'{name}: {size >> 20} MiB; a picture has at most {MAX_BYTES >> 20}'
      )
    data = pathlib.Path(source).read_bytes()
  if not data:
    raise RasterError(f'{name}: empty file; copy it again')
  if not is_raster(data[:16]):
    raise RasterError(f'{name}: not a PNG, JPEG or PGM picture; convert it')
  try:
    if data.startswith(_PNG):
      pixels = _read_png(data)
    elif data.startswith(_JPEG):
      pixels = _read_jpeg(data)
    else:
      pixels = _read_pgm(data)
  # Pillow raises SyntaxError for damaged chunks, struct.error for short ones.
  except (
    ValueError,
    OSError,
    SyntaxError,
    EOFError,
    struct.error,
    IndexError,
    Image.DecompressionBombError,
  ) as error:
    text = ' '.join(str(error).split())[:200]
    raise RasterError(
      f'{name}: {text}; copy or export it again', getattr(error, 'about', '')
    ) from error
  return mammogram.Mammogram(
    pixels=pixels, name=name, bits_stored=8 * pixels.itemsize
  )


def _check_size(rows: int, columns: int) -> None:
  if min(rows, columns) < 1 or rows * columns > mammogram.MAX_PIXELS:
    raise errors.Told(
      f'{rows}x{columns} pixels: a picture has 1 to {mammogram.MAX_PIXELS}',
      about='size',
    )


def _read_png(data: bytes) -> np.ndarray:
  columns, rows = struct.unpack_from('>LL', data, 16)
  _check_size(rows, columns)
  _check_chunks(data)
  return _read_pillow(data, 'PNG')


def _check_chunks(data: bytes) -> None:
  """Compares the checksums of the chunks that pixels come from.

  Pillow passes over those of the pixels themselves, and shows of an animation
  one picture.
  """
  position, palette = len(_PNG), False
  while position + 8 <= len(data):
    length, kind = struct.unpack_from('>L4s', data, position)
    end = position + 12 + length
    if end > len(data):
      raise ValueError('truncated: a chunk of the PNG goes on')
    if kind == b'acTL':
      raise errors.Told('an animated PNG, of several pictures', about='frames')
    # An upper case letter: one that has to be understood.
    if kind[:1].isupper() and zlib.crc32(
      memoryview(data)[position + 4 : end - 4]
    ) != int.from_bytes(data[end - 4 : end], 'big'):
      raise ValueError('a checksum of the PNG is wrong')
    palette |= kind == b'PLTE'
    if kind == b'IDAT' and data[25] == 3 and not palette:
      raise ValueError('a PNG of a palette that has none')
    if kind == b'IEND':
      return
    position = end


def _read_jpeg(data: bytes) -> np.ndarray:
  marker, bits, rows, columns, _ = jpeg_markers.frame_header(data)
  _check_size(rows, columns)
  if marker not in (0xC0, 0xC1, 0xC2):
    raise errors.Told(
      f'JPEG of type SOF{marker - 0xC0} is read from DICOM only', about='bits'
    )
  if bits != 8:
    raise errors.Told(f'JPEG of {bits} bits is read from DICOM only', 'bits')
  # Each goes over all pixels, though it may take ten bytes of the file.
  if data.count(b'\xff\xda') > MAX_SCANS:
    raise ValueError(f'a JPEG of more than {MAX_SCANS} scans')
  return _read_pillow(data, 'JPEG')


def _read_pillow(data: bytes, kind: str) -> np.ndarray:
  with Image.open(io.BytesIO(data), formats=(kind,)) as image:
    _check_size(image.height, image.width)
    if image.mode == 'CMYK':
      raise errors.Told('a picture for printing (CMYK)', about='bits')
    if kind == 'JPEG':
      # The decoder then leaves out the colours, and gives luma itself.
      image.draft('L', image.size)
    image.load()
    upright = ImageOps.exif_transpose(image)
  if upright.mode in ('I;16', 'I;16B', 'I;16L', 'I'):
    return np.asarray(upright).astype(np.uint16)
  if upright.mode in ('P', 'PA', 'RGBA', 'RGBX'):
    # By way of RGB, so that a transparent pixel keeps its grey.
    upright = upright.convert('RGB')
  return np.array(upright.convert('L'))


def _read_pgm(data: bytes) -> np.ndarray:
  """Plain (P2) and raw (P5) PGM, maximum up to 65535, values as written."""
  fields: list[int] = []
  position = 2
  head = data[:_PGM_HEADER]
  while len(fields) < 3:
    while head[position : position + 1].isspace():
      position += 1
    if head[position : position + 1] == b'#':
      end = head.find(b'\n', position)
      position = end + 1 if end >= 0 else len(head)
      continue
    end = position
    while head[end : end + 1].isdigit():
      end += 1
    if end == position or end - position > 10:
      raise ValueError('damaged PGM header')
    fields.append(int(head[position:end]))
    position = end
  columns, rows, most = fields
  _check_size(rows, columns)
  if not 1 <= most <= 65535:
    raise ValueError(f'PGM with a maximum of {most}')
  dtype = np.dtype(np.uint8 if most < 256 else np.uint16)
  count = rows * columns
  if data[:2] == b'P5':
    have = len(data) - position - 1
    if have < count * dtype.itemsize:
      raise ValueError(f'truncated: {have} of {count * dtype.itemsize} bytes')
    stored = dtype.newbyteorder('>')
    values = np.frombuffer(data, stored, count, offset=position + 1)
  else:
    # A number takes two bytes at the least, so the file bounds the memory.
    if len(data) - position < 2 * count - 1:
      raise ValueError(f'truncated: fewer than {count} values')
    with warnings.catch_warnings():
      # That it stopped before the end shows in the number of values.
      warnings.simplefilter('ignore', DeprecationWarning)
      values = np.fromstring(data[position:], np.int64, sep=' ')[:count]
    if len(values) < count:
      raise ValueError(f'truncated: {len(values)} of {count} values')
  if int(values.max()) > most or int(values.min()) < 0:
    raise ValueError(f'PGM with values over its maximum of {most}')
  return values.astype(dtype).reshape(rows, columns)
