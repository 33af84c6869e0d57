"""Reads exported pictures: PNG, JPEG and PGM, judged by content, not by name.

Their size is compared with a bound before they are decoded, and their grey
values are taken as they are: a picture does not say what it lost.
"""

import io
import os
import pathlib
import struct

import numpy as np
from PIL import Image, ImageOps

from rsna_jax import errors
from rsna_jax.data import jpeg_markers, mammogram

MAX_BYTES = 512 << 20  # of a file

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
  return _read_pillow(data, 'PNG')


def _read_jpeg(data: bytes) -> np.ndarray:
  marker, _, rows, columns, _ = jpeg_markers.frame_header(data)
  _check_size(rows, columns)
  if marker not in (0xC0, 0xC1, 0xC2):
    raise errors.Told(
      f'JPEG of type SOF{marker - 0xC0} is read from DICOM only', about='bits'
    )
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
  while len(fields) < 3:
    while data[position : position + 1].isspace():
      position += 1
    if data[position : position + 1] == b'#':
      end = data.find(b'\n', position)
      position = end + 1 if end >= 0 else len(data)
      continue
    end = position
    while data[end : end + 1].isdigit():
      end += 1
    if end == position or end - position > 10:
      raise ValueError('damaged PGM header')
    fields.append(int(data[position:end]))
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
    texts = data[position:].split(maxsplit=count)[:count]
    if len(texts) < count:
      raise ValueError(f'truncated: {len(texts)} of {count} values')
    values = np.array([int(text) for text in texts])
  if int(values.max()) > most or int(values.min()) < 0:
    raise ValueError(f'PGM with values over its maximum of {most}')
  return values.astype(dtype).reshape(rows, columns)
