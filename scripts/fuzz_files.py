"""Sound mammograms of every transfer syntax, and damaged copies of them.

And what a child process says of such a file. Apart from the script that
counts, so that children import little.
"""

import dataclasses
import functools
import hashlib
import io
import re
import threading
import warnings

import imagecodecs
import numpy as np
import openjpeg.utils
import pydicom
from pydicom import encaps, uid

from rsna_jax.data import damage, dicom, phantom_dicom, phantom_image

SMALL = ((300, 240), (320, 256))  # rows and columns; both take part
BIG = (2294, 1914)
BIG_EVERY = 150  # one file in so many is big


# pylibjpeg-openjpeg 2.6.0 crashes the process when two threads encode.
_ENCODER = threading.Lock()


def _jpeg2000(pixels: np.ndarray, bits: int) -> bytes:
  return openjpeg.utils.encode_array(pixels, bits_stored=bits)


def _jpeg2000_lossy(pixels: np.ndarray, bits: int) -> bytes:
  return imagecodecs.jpeg2k_encode(
    pixels,
    level=20 + 4 * bits,
    codecformat='j2k',
    reversible=False,
    bitspersample=bits,
  )


def _htj2k(reversible: bool):
  return lambda pixels, bits: imagecodecs.htj2k_encode(
    pixels, reversible=reversible
  )


def _jpeg_lossless(predictor: int):
  return lambda pixels, bits: imagecodecs.jpeg8_encode(
    pixels, lossless=True, predictor=predictor, bitspersample=bits
  )


def _jpeg_ls(near: int):
  return lambda pixels, bits: imagecodecs.jpegls_encode(pixels, level=near)


# None: pydicom writes it by itself.
ENCODERS = {
  uid.JPEG2000Lossless: _jpeg2000,
  uid.JPEG2000: _jpeg2000_lossy,
  uid.HTJ2KLossless: _htj2k(True),
  uid.HTJ2KLosslessRPCL: _htj2k(True),
  uid.HTJ2K: _htj2k(False),
  uid.JPEGLosslessSV1: _jpeg_lossless(1),
  uid.JPEGLossless: _jpeg_lossless(6),
  uid.JPEGLSLossless: _jpeg_ls(0),
  uid.JPEGLSNearLossless: _jpeg_ls(2),
  uid.RLELossless: None,
  uid.ExplicitVRLittleEndian: None,
  uid.ExplicitVRBigEndian: None,
  uid.ImplicitVRLittleEndian: None,
  uid.DeflatedExplicitVRLittleEndian: None,
}
_LOSSY = (uid.JPEG2000, uid.HTJ2K, uid.JPEGLSNearLossless)
_WAVELET = (
  uid.JPEG2000,
  uid.JPEG2000Lossless,
  uid.HTJ2K,
  uid.HTJ2KLossless,
  uid.HTJ2KLosslessRPCL,
)
SYNTAXES = tuple(s for s in ENCODERS if s in dicom.TRANSFER_SYNTAXES)
# Read by the package, and damaged by nobody here.
MISSING = tuple(s for s in dicom.TRANSFER_SYNTAXES if s not in ENCODERS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sound:
  """A sound file, and its stored values; None where the codec changed them."""

  data: bytes
  pixels: np.ndarray | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Damaged:
  """A damaged file: `syntax` and `pixels` are those of the sound one."""

  data: bytes
  syntax: uid.UID
  kind: str
  pixels: np.ndarray


def sound(syntax: uid.UID, shape: tuple[int, int], machine: int) -> Sound:
  """A phantom in a transfer syntax.

  Args:
    syntax: one of `ENCODERS`.
    shape: rows and columns.
    machine: number of a machine of `phantom_dicom.MACHINES`.
  """
  how, pixels = _picture(shape, machine)
  ds = pydicom.dcmread(
    io.BytesIO(
      phantom_dicom.encode(
        pixels, how, patient_id=1, image_id=machine, laterality='L'
      )
    )
  )
  ds.file_meta.TransferSyntaxUID = syntax
  encode = ENCODERS[syntax]
  if encode:
    _set(ds, encaps.encapsulate([encode(pixels, how.bits)]), True)
  elif syntax == uid.RLELossless:
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    _set(ds, pixels.tobytes(), False)
    ds.compress(uid.RLELossless)
  else:
    big = not syntax.is_little_endian
    _set(ds, (pixels.byteswap() if big else pixels).tobytes(), False)
  out = io.BytesIO()
  # Made from a file in the explicit little-endian form: a copy has no form.
  plain = pydicom.Dataset(ds)
  plain.file_meta = ds.file_meta
  pydicom.dcmwrite(
    out,
    plain,
    enforce_file_format=True,
    implicit_vr=syntax.is_implicit_VR,
    little_endian=syntax.is_little_endian,
  )
  return Sound(data=out.getvalue(), pixels=None if syntax in _LOSSY else pixels)


def damaged(index: int, seed: int) -> Damaged:
  """File `index` of those of a seed: every kind in every syntax in turn."""
  rng = np.random.default_rng([seed, index])
  turn, place = divmod(index, len(SYNTAXES))
  syntax = SYNTAXES[place]
  kinds = list(damage.KINDS)
  # All kinds come early, so that a few files are a fair sample.
  kind = kinds[(7 * turn + place) % len(kinds)]
  machine = int(rng.choice(list(phantom_dicom.MACHINES)))
  shape = SMALL[int(rng.integers(len(SMALL)))]
  if index % BIG_EVERY < 2 and index >= 2:
    shape = BIG
    syntax = (uid.JPEG2000Lossless, uid.JPEGLosslessSV1)[index % BIG_EVERY]
  file = _sound(syntax, shape, machine)
  # Another codestream is of the same syntax, or it would be no riddle.
  other = syntax
  if kind in ('swapped header', 'block of another file'):
    other = SYNTAXES[int(rng.integers(len(SYNTAXES)))]
  sizes = [*SMALL, shape]
  donor = _sound(
    other,
    sizes[int(rng.integers(len(sizes)))],
    int(rng.choice(list(phantom_dicom.MACHINES))),
  )
  return Damaged(
    data=damage.damaged(file.data, kind, rng, donor.data),
    syntax=syntax,
    kind=kind,
    pixels=file.pixels,
  )


def look(item: tuple[str, str]) -> str:
  """`stored` or `disagreement` of a path; runs in a child process."""
  what, path = item
  return stored(path) if what == 'stored' else disagreement(path)


def stored(path: str) -> str:
  """Digest of a file's stored values."""
  return digest(dicom.read_pixels(path))


def digest(pixels: np.ndarray) -> str:
  """SHA-256 of stored values and their shape."""
  whole = hashlib.sha256(repr(pixels.shape).encode())
  whole.update(np.ascontiguousarray(pixels))
  return whole.hexdigest()


def disagreement(path: str) -> str:
  """How a file's codestream and header disagree; '' if they do not.

  Reads the header with pydicom and the codestream with nothing of the package.
  Less than a row too much counts as padding.
  """
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    ds = pydicom.dcmread(path)
  syntax = ds.file_meta.TransferSyntaxUID
  header = int(ds.Rows), int(ds.Columns)
  frames = int(ds.get('NumberOfFrames') or 1)
  depth = int(ds.BitsAllocated)
  if not syntax.is_encapsulated:
    need = frames * header[0] * header[1] * depth // 8
    have = len(ds.PixelData)
    wrong = not need <= have < need + header[1] * depth // 8
    return f'{have} bytes, header {need}' if wrong else ''
  frame = encaps.get_frame(ds.PixelData, 0, number_of_frames=frames)
  if syntax == uid.RLELossless:
    count, *starts = np.frombuffer(frame, '<u4', 16).tolist()
    if count * 8 != depth:
      return f'{count} segments, header {depth} bits'
    need, ends = header[0] * header[1], [*starts[1:count], len(frame)]
    sizes = [
      _unpacked(frame[start:end])
      for start, end in zip(starts, ends, strict=False)
    ]
    wrong = any(not need <= size < need + header[1] for size in sizes)
    return f'segments of {sizes}, header {need}' if wrong else ''
  if syntax in _WAVELET:
    at = frame.index(b'\xff\x4f\xff\x51')
    x1, y1, x0, y0 = np.frombuffer(frame, '>u4', 4, at + 8).tolist()
    size, bits = (y1 - y0, x1 - x0), (frame[at + 42] & 127) + 1
  else:
    at = re.search(rb'\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xf7]', frame).start()
    size = tuple(np.frombuffer(frame, '>u2', 2, at + 5).tolist())
    bits = frame[at + 4]
  if size != header:
    return f'codestream {size[0]}x{size[1]}, header {header[0]}x{header[1]}'
  return f'codestream {bits} bits, header {depth}' if bits > depth else ''


@functools.lru_cache(maxsize=128)
def _sound(syntax: uid.UID, shape: tuple[int, int], machine: int) -> Sound:
  """With the stored values, and sure that the package reads it as it should."""
  with _ENCODER:
    file = sound(syntax, shape, machine)
  read = dicom.read_pixels(file.data)
  if file.pixels is not None and not np.array_equal(read, file.pixels):
    raise AssertionError(f'{syntax.name}: a sound file is read wrongly')
  return dataclasses.replace(file, pixels=read)


@functools.lru_cache(maxsize=32)
def _picture(
  shape: tuple[int, int], machine: int
) -> tuple[phantom_dicom.Machine, np.ndarray]:
  rng = np.random.default_rng([machine, *shape])
  how = dataclasses.replace(phantom_dicom.MACHINES[machine], size=shape)
  picture = phantom_image.render(
    phantom_image.Anatomy(density=2 + machine % 3),
    view='CC',
    shape=shape,
    rng=rng,
  )
  return how, phantom_dicom.stored_values(
    picture.values,
    picture.breast,
    how,
    chest_side='right' if machine % 2 else 'left',
    label='',
    rng=rng,
  )


def _set(ds: pydicom.Dataset, data: bytes, encapsulated: bool) -> None:
  ds.PixelData = data
  ds['PixelData'].VR = 'OB' if encapsulated else 'OW'
  ds['PixelData'].is_undefined_length = encapsulated


def _unpacked(segment: bytes) -> int:
  """Length of a PackBits segment when unpacked (PS3.5 annex G.3.2)."""
  at = size = 0
  while at + 1 < len(segment):
    code = segment[at]
    literal = code < 128
    size += code + 1 if literal else (257 - code) % 129
    at += code + 2 if literal else 1 + (code > 128)
  return size
