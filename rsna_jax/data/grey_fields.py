"""What a DICOM header says of the greys of a frame (PS3.3 C.7.6.3, C.11).

What no viewer could use counts as absent, with a warning; so the picture stays
finite.
"""

import math
from typing import Any

import pydicom

from rsna_jax.data import functional_groups, header_values

VOI_FUNCTIONS = ('LINEAR', 'LINEAR_EXACT', 'SIGMOID')
SHAPES = ('', 'IDENTITY', 'INVERSE')
_BOUND = 1e30  # of a window, within which float32 stays finite


def grey_fields(
  header: pydicom.Dataset, groups: tuple[pydicom.Dataset, ...]
) -> dict[str, Any]:
  """The fields of a Mammogram that its grey curve needs.

  Args:
    header: the elements of `dicom_header.KEYWORDS`, as far as there are any.
    groups: the functional groups of the frame; they come before the header.
  """
  warnings = []
  signed = header_values.numbers(header, 'PixelRepresentation')[:1] == [1]
  stored = int(header.get('BitsStored') or header.BitsAllocated)
  transform = functional_groups.macro(
    groups, 'PixelValueTransformationSequence'
  )
  slope, intercept = _rescale(header if transform is None else transform)
  modality_luts = header_values.luts(header, 'ModalityLUTSequence', signed)
  voi = functional_groups.macro(groups, 'FrameVOILUTSequence')
  voi = header if voi is None else voi
  # The VOI LUT takes what the modality transform can give, so the sign of that
  # counts (PS3.3 C.11.2.1.1). A modality LUT gives none (C.11.1.1.1).
  lowest, highest = (
    slope * value + intercept
    for value in (
      (-1 << stored - 1, (1 << stored - 1) - 1)
      if signed
      else (0, (1 << stored) - 1)
    )
  )
  negative = min(lowest, highest) < 0 and not modality_luts
  voi_luts = header_values.luts(voi, 'VOILUTSequence', negative)
  windows, explanations = _windows(voi)
  if not windows and header_values.floats(voi, 'WindowWidth'):
    warnings.append('WindowCenter, WindowWidth: no usable window')
  for keyword, dataset, usable in (
    ('ModalityLUTSequence', header, modality_luts),
    ('VOILUTSequence', voi, voi_luts),
  ):
    if dataset.get(keyword) and not usable:
      warnings.append(f'{keyword}: no usable LUT')
  photometric = header_values.text(header, 'PhotometricInterpretation')
  shape = header_values.one_of(header, 'PresentationLUTShape', SHAPES)
  # PS3.3 C.7.6.1 and C.8.11.3 pair MONOCHROME1 with INVERSE, and MONOCHROME2
  # with IDENTITY. So both words say one inversion, and a header that has one of
  # them says it as well: C.7.6.3.1.2 asks for it whatever the shape, and
  # C.11.6.1.2 whatever the photometric interpretation.
  if (photometric, shape) in (
    ('MONOCHROME1', 'IDENTITY'),
    ('MONOCHROME2', 'INVERSE'),
  ):
    warnings.append(
      f'PresentationLUTShape={shape} with {photometric}: inverted'
    )
  return {
    'rescale_slope': slope,
    'rescale_intercept': intercept,
    'modality_lut': modality_luts[0] if modality_luts else None,
    'voi_luts': voi_luts,
    'windows': windows,
    'window_explanations': explanations,
    'voi_function': header_values.one_of(voi, 'VOILUTFunction', VOI_FUNCTIONS),
    'padding': _padding(header, signed, stored),
    'bits_stored': stored,
    'signed': signed,
    'presentation_lut_shape': shape,
    'warnings': tuple(warnings),
  }


def _rescale(dataset: pydicom.Dataset) -> tuple[float, float]:
  slope = header_values.numbers(dataset, 'RescaleSlope')[:1]
  intercept = header_values.numbers(dataset, 'RescaleIntercept')[:1]
  return (
    slope[0] if slope and 1e-30 < abs(slope[0]) < 1e30 else 1.0,
    intercept[0] if intercept and abs(intercept[0]) < 1e30 else 0.0,
  )


def _windows(
  dataset: pydicom.Dataset,
) -> tuple[tuple[tuple[float, float], ...], tuple[str, ...]]:
  """The pairs that are numbers, and what each of them is called."""
  centers = header_values.floats(dataset, 'WindowCenter')
  widths = header_values.floats(dataset, 'WindowWidth')
  names = dataset.get('WindowCenterWidthExplanation') or ()
  names = [names] if isinstance(names, str) else list(names)
  names = [_explanation(name) for name in names]
  names += [''] * len(centers)
  kept = [
    ((center, width), name)
    for center, width, name in zip(centers, widths, names, strict=False)
    if max(abs(center), abs(width)) < _BOUND and not math.isnan(center + width)
  ]
  explanations = tuple(name for _, name in kept)
  return (
    tuple(window for window, _ in kept),
    explanations if any(explanations) else (),
  )


def _explanation(value: Any) -> str:
  """A window's name, unless it is longer than any name of a window is."""
  name = header_values.clean(value)
  return (
    name if name.isascii() and name.isprintable() and len(name) < 33 else ''
  )


def _padding(
  header: pydicom.Dataset, signed: bool, bits: int
) -> tuple[int, int] | None:
  value = header_values.numbers(header, 'PixelPaddingValue')
  if not value:
    return None
  limit = header_values.numbers(header, 'PixelPaddingRangeLimit') or value
  ends = sorted(int(end) for end in (value[0], limit[0]))
  if signed:
    # Written unsigned by some; or by us, where the element's type was unknown.
    ends = sorted(e - (1 << 16) if e > 0x7FFF else e for e in ends)
  elif ends[0] < 0:
    ends = sorted(e % (1 << max(bits, 16)) for e in ends)
  # As the pixels are reduced, so is the value that marks them.
  mask = (1 << bits) - 1
  if signed:
    sign = 1 << (bits - 1)
    ends = sorted(((e & mask) ^ sign) - sign for e in ends)
  elif ends[0] > mask or ends[0] == ends[1]:
    ends = sorted(e & mask for e in ends)
  return ends[0], ends[1]
