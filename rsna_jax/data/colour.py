"""Frames that are not plain greyscale: colour, palettes, and a high HighBit.

A mammogram has none of them, a secondary capture of one may: its colour is
reduced to luma, of 8 bits, which is what ITU-R BT.601 and so the Y of DICOM's
YBR_FULL weigh it by (PS3.3 C.7.6.3.1.2).
"""

import dataclasses
import struct

import numpy as np
import pydicom

from rsna_jax.data import codestream, dicom_header, header_values

HeaderError = header_values.HeaderError

PALETTE = 'PALETTE COLOR'
# By photometric interpretation: SamplesPerPixel, and those that a pixel takes
# room for where it is uncompressed.
_SAMPLES = {
  'MONOCHROME1': (1, 1),
  'MONOCHROME2': (1, 1),
  PALETTE: (1, 1),
  'RGB': (3, 3),
  'YBR_FULL': (3, 3),
  'YBR_FULL_422': (3, 2),
}
_CHANNELS = ('Red', 'Green', 'Blue')
# Of 2 ** 16, rounded as libjpeg and Pillow have them: grey stays what it is.
_LUMA = (19595, 38470, 7471)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """How the samples of a frame lie.

  Attributes:
    photometric: as the header has it.
    samples: that a pixel takes room for: 1, 3, or 2 of YBR_FULL_422.
    planar: whether all samples of one kind come before those of the next.
    shift: bits below the stored ones, in native pixels.
    palette: (N,) uint8, luma of the stored values from `first` on; or None.
    first: the stored value that maps to the first entry of the palette.
  """

  photometric: str
  samples: int = 1
  planar: bool = False
  shift: int = 0
  palette: np.ndarray | None = None
  first: int = 0

  @property
  def is_colour(self) -> bool:
    return self.photometric not in dicom_header.MONOCHROME


def layout(header: pydicom.Dataset, native: bool) -> Layout:
  """What the header says of the samples.

  Args:
    header: the elements of `dicom_header.KEYWORDS`, as far as there are any.
    native: whether the pixels are uncompressed.

  Raises:
    HeaderError: samples that cannot be read, by name.
  """
  photometric = header_values.text(header, 'PhotometricInterpretation')
  samples = header_values.number(header, 'SamplesPerPixel', 1)
  if photometric not in _SAMPLES:
    raise HeaderError(
      f'PhotometricInterpretation={photometric[:16]!r}: choose '
      f'{", ".join(_SAMPLES)}',
      about='bits',
    )
  if samples != _SAMPLES[photometric][0]:
    raise HeaderError(
      f'SamplesPerPixel={samples} with PhotometricInterpretation='
      f'{photometric}: export the file again',
      about='bits',
    )
  allocated = header_values.number(header, 'BitsAllocated')
  stored = header_values.number(header, 'BitsStored', allocated)
  high = header_values.number(header, 'HighBit', stored - 1)
  shift = high - stored + 1
  # ACR-NEMA files keep their samples in the upper bits of the words; below
  # them there is no room (PS3.3 C.7.6.3.1).
  if not 0 <= shift <= allocated - stored or (shift and not native):
    raise HeaderError(
      f'HighBit={high}: has to be {stored - 1}, BitsStored - 1', about='bits'
    )
  if photometric in dicom_header.MONOCHROME:
    return Layout(photometric=photometric, shift=shift)
  if shift or header_values.number(header, 'PixelRepresentation', 0):
    raise HeaderError(
      f'HighBit={high} or PixelRepresentation=1 with PhotometricInterpretation='
      f'{photometric}: export the file again',
      about='bits',
    )
  if photometric == PALETTE:
    palette, first = _palette(header)
    return Layout(photometric=photometric, palette=palette, first=first)
  if stored < 8 or (photometric == 'YBR_FULL_422' and allocated != 8):
    raise HeaderError(
      f'BitsStored={stored} with PhotometricInterpretation={photometric}: '
      'colour has 8 bits or more, subsampled colour 8',
      about='bits',
    )
  columns = header_values.number(header, 'Columns')
  if photometric == 'YBR_FULL_422' and columns % 2:
    raise HeaderError(
      f'Columns={columns}: subsampled colour has pairs', about='bits'
    )
  planar = header_values.number(header, 'PlanarConfiguration', 0)
  if planar not in (0, 1):
    raise HeaderError(
      f'PlanarConfiguration={planar}: choose 0 or 1', about='bits'
    )
  return Layout(
    photometric=photometric,
    samples=_SAMPLES[photometric][1],
    planar=planar == 1 and photometric != 'YBR_FULL_422',
  )


def frame_bytes(frame: codestream.Frame, layout: Layout) -> int:
  """How many bytes a native frame takes."""
  return frame.rows * frame.columns * frame.bits_allocated // 8 * layout.samples


def native(
  data: bytes, frame: codestream.Frame, layout: Layout, big_endian: bool
) -> np.ndarray:
  """The pixels of an uncompressed frame.

  Args:
    data: `frame_bytes` bytes.
    frame: the header.
    layout: the header.
    big_endian: the order of the bytes in words of 16 bits.

  Returns:
    (rows, columns) of `frame.dtype`, or uint8 luma where there is colour.
  """
  word = np.dtype(f'{">" if big_endian else "<"}u{frame.bits_allocated // 8}')
  # A copy in the machine's own order that owns its memory.
  values = np.frombuffer(data, word).astype(word.newbyteorder('='))
  if layout.shift:
    values >>= layout.shift
  shape = frame.rows, frame.columns
  if layout.photometric == 'YBR_FULL_422':
    # Y, Y, Cb, Cr of each two pixels (PS3.3 C.7.6.3.1.2).
    return values.reshape(-1, 4)[:, :2].reshape(shape).copy()
  if layout.samples == 1:
    return looked_up(
      codestream.from_container(values.reshape(shape), frame), layout
    )
  if layout.planar:
    planes = values.reshape(3, *shape)
  else:
    planes = np.moveaxis(values.reshape(*shape, 3), -1, 0)
  return luma(planes, frame.bits_stored, layout.photometric)


def rle(data: bytes, frame: codestream.Frame, layout: Layout) -> np.ndarray:
  """The luma of an RLE frame of three samples (PS3.5 G.2).

  Returns:
    (rows, columns) uint8.

  Raises:
    CodestreamError: truncated, damaged, or not what `frame` says.
  """
  if layout.samples != 3:
    raise codestream.CodestreamError(
      f'RLE of {layout.photometric}: store it uncompressed'
    )
  width = frame.bits_allocated // 8
  if len(data) < 64:
    raise codestream.CodestreamError('the RLE frame is cut short')
  count, *offsets = struct.unpack('<16L', data[:64])
  if count != 3 * width:
    raise codestream.CodestreamError(
      f'RLE of {count} segments, {3 * width} were expected'
    )
  ends = [*offsets[1:count], len(data)]
  planes = []
  for first in range(0, count, width):
    # Each sample makes an RLE frame of its own, with its own header.
    start, end = offsets[first], ends[first + width - 1]
    own = [64 + offset - start for offset in offsets[first : first + width]]
    if (
      not 64 <= start < end <= len(data) or min(own) < 64 or max(own) >= 1 << 32
    ):
      raise codestream.CodestreamError('an RLE segment is cut short')
    header = struct.pack('<16L', width, *own, *[0] * (15 - width))
    planes.append(codestream.decode_rle(header + data[start:end], frame))
  return luma(np.stack(planes), frame.bits_stored, layout.photometric)


def luma(planes: np.ndarray, bits: int, photometric: str) -> np.ndarray:
  """What colour looks like on a grey screen.

  Args:
    planes: (3, rows, columns) unsigned integers: R, G, B or Y, Cb, Cr.
    bits: of a sample, 8 or more; the upper 8 count.
    photometric: 'RGB' or 'YBR_FULL'.

  Returns:
    (rows, columns) uint8.
  """
  if photometric == 'YBR_FULL':
    return (planes[0] >> (bits - 8)).astype(np.uint8)
  total = np.full(planes.shape[1:], 1 << 15, np.uint32)
  for plane, weight in zip(planes, _LUMA, strict=True):
    total += (plane >> (bits - 8)).astype(np.uint32) * np.uint32(weight)
  return (total >> 16).astype(np.uint8)


def looked_up(values: np.ndarray, layout: Layout) -> np.ndarray:
  """The luma of stored values by the palette; the values where there is none.

  Args:
    values: (rows, columns) integers.
    layout: the header.

  Returns:
    (rows, columns) uint8 where there is a palette.
  """
  if layout.palette is None:
    return values
  index = values.astype(np.int32) - layout.first
  np.clip(index, 0, len(layout.palette) - 1, out=index)
  return layout.palette[index]


def _palette(header: pydicom.Dataset) -> tuple[np.ndarray, int]:
  """Luma by stored value, and the first of these (PS3.3 C.7.6.3.1.5)."""
  entries = []
  for channel in _CHANNELS:
    name = f'{channel}PaletteColorLookupTable'
    descriptor = [
      int(v) for v in header_values.numbers(header, f'{name}Descriptor')
    ]
    if len(descriptor) != 3 or descriptor[2] not in (8, 16):
      raise HeaderError(
        f'{name}Descriptor: count, first value, 8 or 16 bits', about='bits'
      )
    count = descriptor[0] % (1 << 16) or 1 << 16
    values = header_values.lut_values(header, f'{name}Data', count)
    if values is None:
      raise HeaderError(
        f'{name}Data: fewer than {count} entries, or in segments; store RGB',
        about='bits',
      )
    entries.append((count, descriptor[1] % (1 << 16), descriptor[2], values))
  if len({entry[:3] for entry in entries}) != 1:
    raise HeaderError(
      'the three palettes differ in their descriptors', about='bits'
    )
  _, first, bits, _ = entries[0]
  table = np.stack([values for *_, values in entries])[:, None]
  return luma(table, bits, 'RGB')[0], first
