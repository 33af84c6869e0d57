"""One file, frame or slab as the bytes of a picture, without its labels.

These functions run in the child processes of `data/sandbox.py`: they take and
return plain values, and write nothing.
"""

import dataclasses
import io
from typing import Any

import numpy as np

from rsna_jax import errors
from rsna_jax.data import (
  breast,
  deidentify,
  grey,
  image,
  mammogram,
  preprocess,
  slabs,
)

# Raised whenever the same file and options give other bytes than before.
VERSION = 1
FORMATS = {'png16': '.png', 'png8': '.png', 'npy': '.npy'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How pictures are made.

  Attributes:
    format: 'png8' and 'png16' hold presentation values, bright on black; 'npy'
      the modality values: the stored ones in their own type where there is
      nothing to rescale, else float32.
    window: 'full', 'linear' or 'none', as in `grey.presentation`.
    keep_labels: whether to leave burned-in labels where they are.
  """

  format: str = 'png16'
  window: str = 'full'
  keep_labels: bool = False

  def __post_init__(self):
    if self.format not in FORMATS:
      raise errors.ConfigError(
        f'format={self.format!r}: choose {", ".join(FORMATS)}'
      )
    if self.window not in grey.WINDOWS:
      raise errors.ConfigError(
        f'window={self.window!r}: choose {", ".join(grey.WINDOWS)}'
      )


def work(item: tuple[str, Any]) -> Any:
  """Does what the first part of an item names; runs in a child process."""
  kind, arguments = item
  return _WORK[kind](*arguments)


def describe(path: str, window: str) -> dict[str, Any]:
  """What a file holds.

  Returns:
    `frames`, `spacing_mm` (or None), and `ranged`: whether its greys hang on
    the range of all its frames, since no window is to be used.
  """
  volume = slabs.describe(path)
  return {
    'frames': volume.frames,
    'spacing_mm': volume.spacing_mm,
    'ranged': volume.frames > 1 and (window == 'none' or not volume.windowed),
  }


def value_range(path: str, frame: int) -> tuple[float, float] | None:
  """Least and greatest modality value of a frame; None where all is padding."""
  found = image.read(path, frame)
  mask = grey.padding_mask(found, found.pixels)
  pixels = found.pixels if mask is None else found.pixels[~mask]
  if not pixels.size:
    return None
  # All values between, since a look-up table need not rise.
  stored = np.arange(int(pixels.min()), int(pixels.max()) + 1)
  values = modality_values(found, stored)
  return float(values.min()), float(values.max())


def picture(
  path: str,
  span: tuple[int, int] | None,
  projections: tuple[str, ...],
  values: tuple[float, float] | None,
  options: dict[str, Any],
) -> list[dict[str, Any]]:
  """Makes the pictures of a file, of one of its frames, or of a slab.

  Args:
    path: of the file.
    span: first frame and one past the last; None for a file of one frame.
    projections: of `slabs.PROJECTIONS`, for each of which there is a picture;
      ('',) for a single frame.
    values: modality values of black and white, in the place of a window.
    options: of `Options`.

  Returns:
    For each projection `data` (the file's bytes), `rows` and `columns`.

  Raises:
    errors.InputError: the file is damaged or no mammogram, or has no breast in
      it, which would tell labels from the image.
  """
  chosen = Options(**options)
  if span is None:
    found = {'': image.read(path)}
  else:
    start, stop = span
    if projections == ('',):
      found = {'': image.read(path, start)}
    else:
      # The brightest is where a label of any frame shows best.
      found = slabs.project(
        (image.read(path, i) for i in range(start, stop)),
        sorted({'max', *projections}),
      )
  if values is not None:
    found = {kind: _ranged(one, *values) for kind, one in found.items()}
    chosen = dataclasses.replace(chosen, window='full')
  shown = {
    kind: grey.presentation(one, chosen.window) for kind, one in found.items()
  }
  labels = None
  if not chosen.keep_labels:
    try:
      labels = deidentify.labels(shown['max' if 'max' in shown else ''])
    except breast.BreastError as error:
      raise breast.BreastError(
        f'{path}: {error}, so that labels cannot be told from the image; use '
        '--keep-labels'
      ) from error
  return [
    {
      'data': _encoded(found[kind], shown[kind], labels, chosen.format),
      'rows': shown[kind].shape[0],
      'columns': shown[kind].shape[1],
    }
    for kind in projections
  ]


def modality_values(
  found: mammogram.Mammogram, pixels: np.ndarray
) -> np.ndarray:
  """Stored values after the modality transform (PS3.3 C.11.1).

  Returns:
    `pixels` themselves where there is nothing to do, else float32.
  """
  if (
    found.modality_lut is None
    and found.rescale_slope == 1
    and found.rescale_intercept == 0
  ):
    return pixels
  return grey.modality(found, pixels)


def _ranged(
  found: mammogram.Mammogram, low: float, high: float
) -> mammogram.Mammogram:
  return dataclasses.replace(
    found,
    voi_luts=(),
    windows=(((low + high) / 2, max(high - low, 1e-6)),),
    voi_function='LINEAR_EXACT',
  )


def _encoded(
  found: mammogram.Mammogram,
  shown: np.ndarray,
  labels: np.ndarray | None,
  kind: str,
) -> bytes:
  """The bytes of a file; `shown` is not what it was any more."""
  if kind == 'npy':
    pixels = modality_values(found, found.pixels)
    if labels is not None and labels.any():
      # Black is a high value in MONOCHROME1.
      black = np.argmin(np.where(labels, np.float32(np.inf), shown))
      pixels = np.where(labels, pixels.flat[black], pixels)
    out = io.BytesIO()
    np.save(out, pixels, allow_pickle=False)
    return out.getvalue()
  if labels is not None:
    shown[labels] = 0
  bits = int(kind.removeprefix('png'))
  shown *= (1 << bits) - 1
  np.rint(shown, out=shown)
  return preprocess.encode_png(shown.astype(f'u{bits // 8}'))


_WORK = {'describe': describe, 'range': value_range, 'picture': picture}
