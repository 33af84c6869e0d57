"""The child's side of the intake: decodes one upload, judges it, shows it.

It runs under `data/sandbox.py`, takes and returns plain values, and answers
what it refuses as a value as well: `{'refused': (code, sentence)}`. Sentences
hold numbers and words of our own, never a text out of the file.
"""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from rsna_jax import errors
from rsna_jax.data import (
  breast,
  deidentify,
  dicom_file,
  grey,
  image,
  mammogram,
  preprocess,
  shown,
)
from rsna_jax.serve.intake import gate, headers

_NAME = 'The file'
_COLOUR_PX = 256  # of the longer side in which colours are looked at
_DAMAGED = 'The file is damaged or cut short: copy or export it again.'
# What an error of the readers is about -> the code, and what to say before it.
_CODES = {
  'syntax': 'E_TS',
  'size': 'E_DIMS',
  'frames': 'E_FRAMES',
  'bits': 'E_BITS',
  'codestream': 'E_CODESTREAM',
  'elements': 'E_LIMITS',
  'short': 'E_DAMAGED',
  'modality': 'E_NOT_MAMMO',
  'breast': 'E_NOT_MAMMO',
  'raw': 'E_UNUSABLE',
}
# Whose own words hold numbers and no text of the file.
_OWN_WORDS = ('size', 'frames', 'codestream', 'elements', 'short')
_SAID = {
  'syntax': 'The transfer syntax of the DICOM file is not read here: convert '
  'it to JPEG 2000, JPEG lossless, JPEG-LS, RLE or uncompressed.',
  'bits': 'The samples of the file are not those of a mammogram (bits, '
  'samples a pixel, or colours): export it as greyscale of 8 or 16 bits.',
  'modality': 'The DICOM file says that it is of another modality: give a '
  'mammogram (MG, DX or CR).',
  'breast': 'The picture is blank, or there is no breast in it: give a '
  'mammogram.',
  'raw': 'The DICOM file is a raw image (FOR PROCESSING): give the one for '
  'presentation.',
}


class _RefusedError(Exception):
  def __init__(self, code: str, message: str):
    super().__init__(message)
    self.answer = code, message


def read(item: Mapping[str, Any]) -> dict[str, Any]:
  """Reads an upload.

  Args:
    item: `data`, `kind`, `specs` (of `preprocess.Spec.to_json()`),
      `picture_px`, `gate` (the least score) and `keep`; or `start`, which does
      nothing but load what is needed.

  Returns:
    The fields of `intake.Upload` that are not known before, or `refused`.
  """
  if item.get('start'):
    return {}
  try:
    return _read(item)
  except _RefusedError as error:
    return {'refused': error.answer}
  except (MemoryError, KeyboardInterrupt):
    raise
  except errors.Told as error:
    return {'refused': _said(error)}
  except Exception:
    return {'refused': ('E_DAMAGED', _DAMAGED)}


def _said(error: errors.Told) -> tuple[str, str]:
  code = _CODES.get(error.about, 'E_DAMAGED')
  if error.about in _OWN_WORDS:
    text = str(error).removeprefix(f'{_NAME}: ')
    return code, f'{_NAME}: {text}.'
  return code, _SAID.get(error.about, _DAMAGED)


def _read(item: Mapping[str, Any]) -> dict[str, Any]:
  data = item['data']
  burned_in, warnings = False, []
  if item['kind'] == 'dicom':
    with dicom_file.File(data, _NAME) as file:
      if file.frames > 1:
        raise _RefusedError(
          'E_FRAMES',
          f'The file has {file.frames} frames: give a mammogram of one.',
        )
      reason = file.parse(headers.reason, file.header)
      if reason:
        raise _RefusedError('E_NOT_MAMMO', reason)
      burned_in = file.parse(headers.burned_in, file.header)
  found = image.open_mammogram(data, name=_NAME)
  specs = [preprocess.Spec.from_json(spec) for spec in item['specs']]
  made = [preprocess.standardise(found, spec) for spec in specs]
  first = made[0]
  picture = shown.whole(found, specs[0], first.inverted, item['picture_px'])
  colour = colours(data) if item['kind'] in ('png', 'jpeg') else None
  score, reason = gate.score(picture, colour)
  if score < item['gate']:
    raise _RefusedError('E_NOT_MAMMO', reason)
  warnings += map(_sentence, found.warnings)
  if colour is not None and gate.is_tinted(colour):
    warnings.append(
      'The picture has colours: of them only the brightness is judged.'
    )
  if first.inverted and not found.photometric:
    warnings.append(
      'Dark and bright were exchanged, as the content of the picture suggests.'
    )
  if burned_in:
    warnings.append('The DICOM file says that text is burned into the picture.')
  if deidentify.labels(picture).any():
    warnings.append(
      'There is text or a mark beside the breast; what is submitted is kept '
      'without it.'
    )
  return {
    'pixels': [standard.pixels for standard in made],
    'box': tuple(map(float, first.box)),
    'to_original': np.asarray(first.to_original),
    'original_shape': tuple(map(int, first.original_shape)),
    'picture': picture,
    'attributes': _attributes(found),
    'warnings': warnings,
    'burned_in': burned_in,
    'gate': float(score),
    'kept': _kept(found, specs[0]) if item['keep'] else None,
  }


def colours(data: bytes) -> np.ndarray | None:
  """The colours of a picture that has been read, in small.

  Args:
    data: of a PNG or JPEG file that `raster.read_raster` took.

  Returns:
    (rows, cols, 3) uint8, upright; None where the file has no colours.
  """
  if not data.startswith((b'\x89PNG', b'\xff\xd8')):
    return None
  with Image.open(io.BytesIO(data), formats=('PNG', 'JPEG')) as picture:
    if picture.mode not in ('RGB', 'RGBA', 'P', 'PA'):
      return None
    # A JPEG is decoded no further than that.
    picture.draft('RGB', (_COLOUR_PX, _COLOUR_PX))
    step = max(1, max(picture.size) // _COLOUR_PX)
    small = picture.convert('RGB').reduce(step)
    return np.array(ImageOps.exif_transpose(small))


def _attributes(found: mammogram.Mammogram) -> dict[str, Any]:
  """Nothing that names a person or an image."""
  names = ('laterality', 'view', 'age', 'implant')
  return {k: found.attributes[k] for k in names if k in found.attributes}


def _sentence(text: str) -> str:
  return text[:1].upper() + text[1:] + ('' if text.endswith('.') else '.')


def _kept(found: mammogram.Mammogram, spec: preprocess.Spec) -> dict[str, Any]:
  """The picture without labels and without all that is outside the breast."""
  from rsna_jax.serve.store import fingerprint

  values = grey.presentation(found, spec.window)
  labels = deidentify.labels(values)
  outline = breast.find(values)
  values[labels | ~_outline(outline.mask, values.shape)] = 0
  bits = 8 if found.bits_stored <= 8 else 16
  values *= (1 << bits) - 1
  pixels = np.rint(values).astype(f'u{bits // 8}')
  return {
    'png': preprocess.encode_png(pixels),
    'rows': pixels.shape[0],
    'columns': pixels.shape[1],
    'fingerprints': dataclasses.asdict(fingerprint.fingerprints(pixels)),
  }


def _outline(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """The thumbnail's outline at full size, by the nearest sample."""
  ys, xs = (
    ((np.arange(n) + 0.5) * (size / n)).astype(np.int64)
    for n, size in zip(shape, mask.shape, strict=True)
  )
  return mask[ys[:, None], xs]
