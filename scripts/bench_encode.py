#!/usr/bin/env python3
"""Compares lossless encodings of standard images: size and time, both readers.

  pip install --target PEERS --no-deps opencv-python-headless
  PYTHONPATH=PEERS python scripts/bench_encode.py --pictures 12

The images are phantoms and, found by RSNA_JAX_DATA, pictures of rsna640 and
rsna_dicom, through the package's own preprocessing. Every encoding is decoded
again and compared. Prints a Markdown table.
"""

import argparse
import dataclasses
import functools
import importlib.util
import io
import os
import time
from collections.abc import Callable, Iterator

import bench_files
import imagecodecs
import numpy as np
import PIL.Image

from rsna_jax.data import image, phantom_dicom, phantom_image, preprocess

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
SIZES = ((1024, 512), (512, 256))
_STRATEGIES = {'default': 0, 'filtered': 1, 'Huffman': 2, 'RLE': 3}
_FILTERS = {'none': 8, 'sub': 16, 'up': 32, 'average': 64, 'Paeth': 128}
_ALL_FILTERS = sum(_FILTERS.values())
Bytes = Callable[[np.ndarray], bytes]
Pixels = Callable[[bytes], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
  """A lossless encoding; `is_png` says that TensorFlow reads it."""

  name: str
  encode: Bytes
  decode: Pixels = imagecodecs.png_decode
  is_png: bool = False
  bits: tuple[int, ...] = (8, 16)


def _png(level: int, strategy: str, filters: int, name: str) -> Encoding:
  return Encoding(
    name=f'PNG {level}, {strategy}, {name}',
    encode=functools.partial(
      imagecodecs.png_encode,
      level=level,
      strategy=_STRATEGIES[strategy],
      filter=filters,
    ),
    is_png=True,
  )


def _pillow(pixels: np.ndarray, **options) -> bytes:
  out = io.BytesIO()
  PIL.Image.fromarray(pixels).save(out, 'PNG', **options)
  return out.getvalue()


def _opencv(pixels: np.ndarray) -> bytes:
  import cv2

  return cv2.imencode('.png', pixels)[1].tobytes()


def _webp(pixels: np.ndarray) -> bytes:
  grey = np.repeat(pixels[..., None], 3, axis=2)
  return imagecodecs.webp_encode(grey, lossless=True, level=0)


def _zstd(pixels: np.ndarray) -> bytes:
  """Differences along the row, bytes of a kind together, zstd."""
  # The differences wrap, and so does their sum.
  steps = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0))
  planes = steps.view(np.uint8).reshape(-1, pixels.itemsize).T
  head = np.array([*pixels.shape, pixels.itemsize], '<u4').tobytes()
  packed = imagecodecs.zstd_encode(np.ascontiguousarray(planes), level=1)
  return head + packed


def _from_zstd(data: bytes) -> np.ndarray:
  rows, columns, item = np.frombuffer(data[:12], '<u4').tolist()
  planes = np.frombuffer(imagecodecs.zstd_decode(data[12:]), np.uint8)
  steps = np.ascontiguousarray(planes.reshape(item, -1).T)
  steps = steps.view(f'u{item}').reshape(rows, columns)
  return np.cumsum(steps, axis=1, dtype=steps.dtype)


def encodings() -> Iterator[Encoding]:
  """All of them; the first is what `preprocess.encode_png` does now."""
  yield Encoding(
    name='preprocess.encode_png', encode=preprocess.encode_png, is_png=True
  )
  for name, value in _FILTERS.items():
    yield _png(1, 'RLE', value, name)
  yield _png(1, 'RLE', _ALL_FILTERS, 'any filter')
  for strategy in ('default', 'filtered', 'Huffman'):
    yield _png(1, strategy, _FILTERS['sub'], 'sub')
  for level in (3, 6):
    yield _png(level, 'default', _ALL_FILTERS, 'any filter')
  if importlib.util.find_spec('cv2'):
    yield Encoding(name='PNG by OpenCV', encode=_opencv, is_png=True)
  yield Encoding(name='PNG by Pillow', encode=_pillow, is_png=True)
  yield Encoding(
    name='PNG by Pillow, level 1',
    encode=functools.partial(_pillow, compress_level=1),
    is_png=True,
  )
  yield Encoding(
    name='JPEG-LS',
    encode=imagecodecs.jpegls_encode,
    decode=imagecodecs.jpegls_decode,
  )
  yield Encoding(
    name='JPEG XL, effort 1',
    encode=functools.partial(
      imagecodecs.jpegxl_encode, lossless=True, effort=1, numthreads=1
    ),
    decode=functools.partial(imagecodecs.jpegxl_decode, numthreads=1),
  )
  yield Encoding(
    name='WebP lossless, level 0',
    encode=_webp,
    decode=lambda data: imagecodecs.webp_decode(data)[..., 0],
    bits=(8,),
  )
  yield Encoding(name='differences, zstd 1', encode=_zstd, decode=_from_zstd)


def pictures(count: int) -> Iterator[image.mammogram.Mammogram]:
  """Mammograms: a third each of phantoms, of rsna640 and of rsna_dicom."""
  each = max(1, count // 3)
  for number in range(each):
    rng = np.random.default_rng(number)
    machine = list(phantom_dicom.MACHINES.values())[number % 5]
    how = dataclasses.replace(machine, size=(2294, 1914))
    drawn = phantom_image.render(
      phantom_image.Anatomy(density=1 + number % 4),
      view=('CC', 'MLO')[number % 2],
      shape=how.size,
      rng=rng,
    )
    pixels = phantom_dicom.stored_values(
      drawn.values, drawn.breast, how, chest_side='left', label='', rng=rng
    )
    yield image.read(
      phantom_dicom.encode(
        pixels, how, patient_id=1, image_id=number, laterality='L'
      )
    )
  for found in (
    sorted(bench_files.DATA.glob('rsna640/train_images/*/*.jpg')),
    sorted(bench_files.DATA.glob('rsna_dicom/*_images/*/*.dcm')),
  ):
    for path in found[:: max(1, len(found) // each)][:each]:
      yield image.read(path)


def _measured(function: Callable, argument, repeats: int) -> tuple:
  """What a function returns, and its median CPU milliseconds."""
  times = []
  for _ in range(repeats):
    start = time.process_time()
    found = function(argument)
    times.append(1e3 * (time.process_time() - start))
  return found, float(np.median(times))


def _row(
  encoding: Encoding, images: list[np.ndarray], tf_decode, repeats: int
) -> str:
  sums = np.zeros(4)
  for pixels in images:
    data, encode_ms = _measured(encoding.encode, pixels, repeats)
    back, decode_ms = _measured(encoding.decode, data, repeats)
    if not np.array_equal(back, pixels):
      raise SystemExit(f'{encoding.name} is not lossless')
    tf_ms = 0.0
    if encoding.is_png and tf_decode:
      back, tf_ms = _measured(tf_decode[pixels.itemsize], data, repeats)
      if not np.array_equal(back, pixels):
        raise SystemExit(f'{encoding.name}: TensorFlow reads something else')
    sums += [len(data) / 1e3, encode_ms, decode_ms, tf_ms]
  kilobytes, encode_ms, decode_ms, tf_ms = sums / len(images)
  tensorflow = f'{tf_ms:.1f}' if encoding.is_png and tf_decode else 'cannot'
  return (
    f'{encoding.name} | {kilobytes:.0f} | {encode_ms:.1f} | {decode_ms:.1f} '
    f'| {tensorflow} |'
  )


def _tensorflow() -> dict[int, Callable] | None:
  if importlib.util.find_spec('tensorflow') is None:
    return None
  import tensorflow as tf

  tf.config.threading.set_inter_op_parallelism_threads(1)
  tf.config.threading.set_intra_op_parallelism_threads(1)

  def decode(data: bytes, dtype) -> np.ndarray:
    return tf.io.decode_png(data, channels=1, dtype=dtype).numpy()[..., 0]

  decode(preprocess.encode_png(np.zeros((64, 64), np.uint8)), tf.uint8)
  return {
    1: functools.partial(decode, dtype=tf.uint8),
    2: functools.partial(decode, dtype=tf.uint16),
  }


def main() -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--pictures', type=int, default=12)
  parser.add_argument('--repeats', type=int, default=3)
  options = parser.parse_args()
  tf_decode = _tensorflow()
  mammograms = list(pictures(options.pictures))
  print(
    f'{len(mammograms)} pictures; imagecodecs {imagecodecs.__version__}; CPU '
    f'milliseconds, medians of {options.repeats}, means over pictures.\n'
  )
  print(
    '| size | bits | encoding | kB | encode | decode, numpy reader '
    '| decode, TensorFlow reader |\n' + '| --- ' * 7 + '|'
  )
  for size in SIZES:
    for bits in (8, 16):
      spec = preprocess.Spec(size=size, bits=bits)
      images = [
        np.ascontiguousarray(preprocess.standardise(m, spec).pixels)
        for m in mammograms
      ]
      for encoding in encodings():
        if bits in encoding.bits:
          row = _row(encoding, images, tf_decode, options.repeats)
          print(f'| {size[0]}x{size[1]} | {bits} | {row}', flush=True)


if __name__ == '__main__':
  main()
