"""Tomosynthesis: what a file of many frames holds, and slabs of its frames.

A slab is what a reader looks at: the brightest or the mean value of some
millimetres of consecutive slices. It is summed up frame after frame, so that
no volume is ever in memory.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pydicom

from rsna_jax import errors
from rsna_jax.data import (
  dicom,
  dicom_file,
  functional_groups,
  grey,
  mammogram,
)

PROJECTIONS = ('max', 'mean')
_GROUPS = (
  'SharedFunctionalGroupsSequence',
  'PerFrameFunctionalGroupsSequence',
)
_SPACINGS = ('SpacingBetweenSlices', 'SliceThickness')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Volume:
  """What the header of a file says of its frames.

  Attributes:
    frames: how many there are; 1 for a picture and for a plain mammogram.
    spacing_mm: from one frame to the next, or None.
    windowed: whether the header says how its greys are to be shown.
  """

  frames: int = 1
  spacing_mm: float | None = None
  windowed: bool = False


def describe(path: str | os.PathLike) -> Volume:
  """Reads the header of a file, and none of its pixels.

  Args:
    path: of a DICOM file or of anything else, which has one frame.

  Raises:
    dicom.DicomError: no readable header, or one that no mammogram has.
    OSError: the file cannot be opened.
  """
  with pathlib.Path(path).open('rb') as file:
    if file.read(132)[128:] != b'DICM':
      return Volume()
  with dicom_file.File(path) as opened:
    if opened.frames == 1:
      return Volume()
    frames = opened.frames
    spacing = opened.parse(_spacing_mm, path)
  first = dicom.open_mammogram(path, 0)
  return Volume(
    frames=frames,
    spacing_mm=spacing,
    windowed=bool(first.windows or first.voi_luts),
  )


def frames_of_mm(mm: float, spacing_mm: float | None, name: str) -> int:
  """Number of frames of a slab that is so many millimetres thick.

  Args:
    mm: thickness of the slab.
    spacing_mm: from one frame to the next, as the file says.
    name: of the file.

  Raises:
    errors.DataError: the file does not say.
  """
  if spacing_mm is None:
    raise errors.DataError(
      f'{name}: no spacing of its frames in the header: give --slab-frames'
    )
  return max(1, round(mm / spacing_mm))


def spans(frames: int, length: int) -> list[tuple[int, int]]:
  """First frame, and one past the last, of each slab of a volume.

  A rest shorter than half a slab goes to the slab before it.

  Args:
    frames: of the volume.
    length: of a slab in frames; one slab if the volume is shorter.
  """
  count = max(1, (frames + length // 2) // length)
  starts = [i * length for i in range(count)]
  return list(zip(starts, [*starts[1:], frames], strict=True))


def project(
  frames: Iterable[mammogram.Mammogram], kinds: Sequence[str]
) -> dict[str, mammogram.Mammogram]:
  """Joins frames, of which one at a time is held.

  The brightest value is the least stored value of MONOCHROME1. Padding counts
  in no frame; where all frames are padded, so is the result.

  Args:
    frames: at least one, of one shape, as from `read_frame`.
    kinds: of `PROJECTIONS`.

  Returns:
    Each kind -> the first frame with the joined stored values in the place of
    its own; the mean is rounded to the nearest.
  """
  iterator: Iterator[mammogram.Mammogram] = iter(frames)
  first = next(iterator)
  inverted = grey.is_inverted(first)
  dtype = first.pixels.dtype
  limits = np.iinfo(dtype)
  join = np.minimum if inverted else np.maximum
  darkest = dtype.type(limits.max if inverted else limits.min)
  extreme = np.full(first.pixels.shape, darkest, dtype)
  # 2,000 frames of 16 bits fit.
  total = np.zeros(first.pixels.shape, np.int32)
  count: np.ndarray | int = 0
  frame: mammogram.Mammogram | None = first
  while frame is not None:
    pixels = frame.pixels
    padding = grey.padding_mask(first, pixels)
    if padding is None:
      join(extreme, pixels, out=extreme)
      count = count + 1
      if 'mean' in kinds:
        total += pixels
    else:
      join(extreme, pixels, out=extreme, where=~padding)
      count = count + (~padding).astype(np.int32)
      if 'mean' in kinds:
        np.add(total, pixels, out=total, where=~padding)
    frame = next(iterator, None)
  joined = {'max': extreme}
  if 'mean' in kinds:
    least = np.maximum(count, 1)
    joined['mean'] = ((total + least // 2) // least).astype(dtype)
  if first.padding is not None:
    for pixels in joined.values():
      pixels[count == 0] = first.padding[0]
  return {
    kind: dataclasses.replace(first, pixels=joined[kind]) for kind in kinds
  }


def _spacing_mm(path: str | os.PathLike) -> float | None:
  """Distance of the frames, wherever in the header it stands."""
  header = pydicom.dcmread(
    path, stop_before_pixels=True, specific_tags=[*_GROUPS, *_SPACINGS]
  )
  measures = functional_groups.macro(
    functional_groups.of(header, 0), 'PixelMeasuresSequence'
  )
  for name in _SPACINGS:
    for place in (header, measures or {}):
      value = place.get(name)
      if isinstance(value, (int, float)) and 0.01 < abs(float(value)) < 100:
        return abs(float(value))
  return None
