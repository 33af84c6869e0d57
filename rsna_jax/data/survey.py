"""What can be told of a mammogram without decoding it in full.

Facts, a hash of the pixels and small pictures: what an audit of a data set
stands on. It runs in child processes, beside the code that prepares images.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsna_jax import errors
from rsna_jax.data import (
  breast,
  components,
  grey,
  image,
  mammogram,
  morphology,
  preprocess,
  pyramid,
  sources,
)

# Between air (0) and the brightest per cent (1): above it something beside the
# breast is a thing. A faint bar along a film is one.
_BRIGHT = 0.08
Item = tuple[str, dict, bool, bytes | None]


def item(path: str, spec: preprocess.Spec, *, pictures: bool = False) -> Item:
  """What `survey_file` takes of a file that a `tree.Tree` named."""
  private = sources.is_private(path)
  data = sources.read(path) if private else None
  return path, spec.to_json(), pictures, data


def survey_file(item: Item) -> dict[str, Any]:
  """Facts of one file, and pictures of it; runs in a child process.

  Args:
    item: path, `preprocess.Spec.to_json()`, whether pictures are wanted, and
      the content of the file where this process cannot read it.

  Returns:
    `facts`, as of `describe`; `error`, one line where the file can be read and
    no standard image be made of it, else ''. With pictures also `thumbnail`
    (h, w) uint8, the whole picture as it is shown, and `image` (H, W) uint8,
    the standard image, or None.

  Raises:
    errors.InputError: the file cannot be read.
  """
  path, spec, pictures, data = item
  if data is None:
    data = sources.read(path)
  found = image.open_mammogram(data, name=path)
  spec = preprocess.Spec.from_json(spec)
  standard, error = None, ''
  try:
    standard = preprocess.standardise(found, spec)
  except errors.InputError as wrong:
    error = str(wrong)
  answer = {'facts': describe(found, standard), 'error': error}
  if pictures:
    answer['thumbnail'] = thumbnail(found, standard)
    answer['image'] = None if standard is None else in_8_bits(standard.pixels)
  return answer


def describe(
  found: mammogram.Mammogram,
  standard: preprocess.StandardImage | None,
  *,
  beside: bool = True,
) -> dict[str, Any]:
  """What header, codestream and pixels tell of an open mammogram.

  Args:
    found: as `image.open_mammogram` returned it.
    standard: made of it, if it could be.
    beside: whether to look for things beside the breast; some 8 ms.

  Returns:
    Plain JSON values. Of the attributes those alone that tell nobody's name;
    `patient` is a digest that only shows which images are of one patient. With
    a standard image also `box` (top, left, bottom, right
    in pixels), `box_share` (of the picture's area), `flipped`, `inverted`, and
    of what is bright beside the breast, as shares of the picture: `outside`
    (its area), and `outside_area`, `outside_height`, `outside_width` of its
    largest piece.
  """
  values = overview(found)
  described = _facts(found, values)
  if standard is None:
    return described
  top, left, bottom, right = (float(edge) for edge in standard.box)
  rows, cols = standard.original_shape
  described |= {
    'box': [top, left, bottom, right],
    'box_share': (bottom - top) * (right - left) / (rows * cols),
    'flipped': bool(standard.flipped),
    'inverted': bool(standard.inverted),
  }
  if not beside:
    return described
  return described | _beside(_shown(found, values, standard))


def pixel_hash(found: mammogram.Mammogram) -> str:
  """SHA-256, in hex, of the shape and of the level that `overview` gives."""
  return _hash(found, overview(found))


def overview(found: mammogram.Mammogram) -> np.ndarray:
  """The level in which things are looked for, whatever the codec.

  Returns:
    (h, w) int32 stored values, clipped to the range that the header allows.
  """
  source = pyramid.of(found.pixels)
  level = pyramid.thumbnail_level(source.shape)
  return preprocess.clipped(source.level(level).astype(np.int32), found)


def thumbnail(
  found: mammogram.Mammogram, standard: preprocess.StandardImage | None
) -> np.ndarray:
  """(h, w) uint8 of the whole picture as it is shown, turned by nothing."""
  shown = _shown(found, overview(found), standard)
  return np.rint(shown * 255).astype(np.uint8)


def in_8_bits(pixels: np.ndarray) -> np.ndarray:
  """uint8 of a standard image of 8 or 16 bits, for the eye."""
  return (pixels >> 8 * (pixels.itemsize - 1)).astype(np.uint8)


def patient_digest(patient_id: int | str) -> str:
  """A short digest in place of a patient's identifier."""
  return hashlib.sha256(str(patient_id).encode()).hexdigest()[:12]


def _facts(found: mammogram.Mammogram, values: np.ndarray) -> dict[str, Any]:
  rows, cols = pyramid.of(found.pixels).shape
  attributes = dict(found.attributes)
  patient = attributes.pop('patient_id', None)
  allowed = ('image_id', 'laterality', 'view', 'age', 'implant')
  return {
    'rows': int(rows),
    'columns': int(cols),
    'bits_stored': int(found.bits_stored),
    'signed': bool(found.signed),
    'photometric': found.photometric,
    'encoding': _plain(found.encoding),
    'windows': len(found.windows),
    'window': _plain(found.windows[0]) if found.windows else None,
    'window_explanations': _plain(found.window_explanations),
    'voi_function': found.voi_function,
    'voi_luts': len(found.voi_luts),
    'modality_lut': found.modality_lut is not None,
    'rescale': [float(found.rescale_slope), float(found.rescale_intercept)],
    'padding': _plain(found.padding),
    'presentation_lut_shape': found.presentation_lut_shape,
    'presentation_intent': found.presentation_intent,
    'warnings': _plain(found.warnings),
    'attributes': {
      k: _plain(attributes[k]) for k in allowed if k in attributes
    },
    'patient': '' if patient is None else patient_digest(patient),
    'pixel_hash': _hash(found, values),
  }


def _hash(found: mammogram.Mammogram, values: np.ndarray) -> str:
  shape = pyramid.of(found.pixels).shape
  digest = hashlib.sha256(repr((*map(int, shape), *values.shape)).encode())
  digest.update(np.ascontiguousarray(values, '<i4').tobytes())
  return digest.hexdigest()


def _shown(
  found: mammogram.Mammogram,
  values: np.ndarray,
  standard: preprocess.StandardImage | None,
) -> np.ndarray:
  """(h, w) float32 from 0 to 1 of an overview."""
  shown = grey.curve(found, pixels=values)(values)
  inverted = grey.is_inverted(found)
  if standard is not None:
    turn = standard.inverted and not inverted
  else:
    turn = not found.photometric and grey.looks_inverted(shown)
  if turn:
    shown = 1 - shown
  mask = grey.padding_mask(found, values)
  if mask is not None:
    shown[mask] = 0
  return shown


def _beside(shown: np.ndarray) -> dict[str, float]:
  """How much of a picture is bright and no part of the breast."""
  none = dict.fromkeys(
    ('outside', 'outside_area', 'outside_height', 'outside_width'), 0.0
  )
  try:
    mask = breast.find(shown).mask
  except breast.BreastError:
    return none
  rows, cols = mask.shape
  # The mask is a thumbnail of what it was found in.
  ys = np.arange(rows) * shown.shape[0] // rows
  xs = np.arange(cols) * shown.shape[1] // cols
  small = shown[np.ix_(ys, xs)]
  air, white = np.percentile(small, (5, 99))
  # The breast's rim is no thing beside it.
  bright = small > air + _BRIGHT * (white - air)
  bright &= ~morphology.dilated(mask, 2)
  labels, sizes = components.label(bright)
  if not len(sizes):
    return none
  largest = labels == 1 + int(np.argmax(sizes))
  tall, wide = largest.any(axis=1), largest.any(axis=0)
  return {
    'outside': float(bright.mean()),
    'outside_area': float(largest.mean()),
    'outside_height': float(np.ptp(np.flatnonzero(tall)) + 1) / rows,
    'outside_width': float(np.ptp(np.flatnonzero(wide)) + 1) / cols,
  }


def _plain(value: Any) -> Any:
  """A value as JSON holds it."""
  if isinstance(value, Mapping):
    return {str(key): _plain(inner) for key, inner in value.items()}
  if isinstance(value, tuple | list):
    return [_plain(inner) for inner in value]
  return value.item() if isinstance(value, np.generic) else value
