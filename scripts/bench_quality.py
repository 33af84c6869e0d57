"""How far the fast qualities are from the exact one, and codec from codec.

At 16 bits, so that 8-bit rounding (59 dB) hides nothing; the largest difference
is given in grey levels of 255.
"""

import collections
import io
from collections.abc import Sequence

import bench_files
import imagecodecs
import numpy as np
import pydicom
from pydicom import encaps, uid

from rsna_jax.data import dicom, image, preprocess

_QUALITIES = ('fast', 'fine', 'exact')


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Peak signal-to-noise ratio of 16-bit pictures in dB; inf if equal."""
  error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
  return float(10 * np.log10(65535.0**2 / error)) if error else np.inf


def difference(a: np.ndarray, b: np.ndarray) -> float:
  """Largest difference of 16-bit pictures, in grey levels of 255."""
  return float(np.abs(a.astype(np.int32) - b.astype(np.int32)).max() / 257)


def quality(
  files: Sequence[bench_files.File], sizes: Sequence[tuple[int, int]]
) -> list[str]:
  """Lines of a Markdown table: PSNR and largest difference, least and mean."""
  groups = collections.defaultdict(list)
  for file in files:
    twin = _as_jpeg_lossless(file) if file.codec == 'JPEG 2000' else None
    for size in sizes:
      name = f'{size[0]}x{size[1]}'
      mine = {q: _picture(file.path, size, q) for q in _QUALITIES}
      for q in ('fast', 'fine'):
        groups[name, f'{file.codec}: {q} and exact'].append(
          (mine[q], mine['exact'])
        )
      for q in _QUALITIES if twin else ():
        other = _picture(twin, size, q)
        groups[name, f'the same pixels in both codecs: {q}'].append(
          (mine[q], other)
        )
  lines = [
    '| size | compared | files | least PSNR, dB | mean PSNR, dB | '
    'largest difference, of 255 |',
    '| --- ' * 6 + '|',
  ]
  for (size, what), pairs in sorted(groups.items(), key=lambda g: g[0]):
    ratios = [psnr(a, b) for a, b in pairs]
    largest = max(difference(a, b) for a, b in pairs)
    # An equal pair is no number of dB: the mean is over the others.
    finite = [ratio for ratio in ratios if np.isfinite(ratio)]
    mean = f'{np.mean(finite):.1f}' if finite else 'equal'
    least = f'{min(ratios):.1f}' if finite else 'equal'
    equal = len(ratios) - len(finite)
    mean += f' ({equal} equal)' if finite and equal else ''
    lines.append(
      f'| {size} | {what} | {len(pairs)} | {least} | {mean} | {largest:.1f} |'
    )
  return lines


def _picture(
  source: str | bytes, size: tuple[int, int], how: str
) -> np.ndarray:
  spec = preprocess.Spec(size=size, bits=16, quality=how)
  found = image.open_mammogram(source, name='file')
  return preprocess.standardise(found, spec).pixels


def _as_jpeg_lossless(file: bench_files.File) -> bytes:
  """The file with the same pixels as JPEG lossless, in memory."""
  ds = pydicom.dcmread(file.path)
  pixels = dicom.read_pixels(file.path)
  bits = max(ds.BitsStored, int(pixels.max()).bit_length())
  frame = imagecodecs.jpeg8_encode(
    pixels, lossless=True, predictor=1, bitspersample=bits
  )
  ds.PixelData = encaps.encapsulate([frame])
  ds.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
  out = io.BytesIO()
  pydicom.dcmwrite(out, ds)
  return out.getvalue()
