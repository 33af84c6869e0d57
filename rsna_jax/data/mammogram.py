"""What the readers return: one decoded image with all that its greys need.

It stands below both readers, so that pictures and DICOM files take one path.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsna_jax.data import pyramid

# Of a frame or a picture; RSNA's largest has 28 million.
MAX_PIXELS = 60_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lut:
  """A look-up table of a modality or VOI LUT sequence (PS3.3 C.11.1, C.11.2).

  Attributes:
    first: the value that maps to `values[0]`; smaller ones map there as well.
    values: (N,) float64.
    bits: of an entry; 2 ** bits - 1 is white.
  """

  first: int
  values: np.ndarray
  bits: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mammogram:
  """One image as it is stored, and how it is to be shown.

  Attributes:
    pixels: (rows, cols) integers, the stored values; or a `pyramid.Pyramid` of
      them, which decodes no more than it is asked for.
    photometric: 'MONOCHROME1', 'MONOCHROME2', or '' for an exported picture,
      whose polarity only its content tells.
    name: of the file, for messages.
    attributes: plain values of `patient_id`, `image_id`, `laterality`, `view`,
      `age` (years), `implant` (0 or 1) and `slice_thickness` (mm), those alone
      that the file has.
    rescale_slope: of the modality transform.
    rescale_intercept: of the modality transform.
    modality_lut: takes the place of slope and intercept where there is one.
    voi_luts: VOI LUT sequence; the first one counts.
    windows: (center, width) pairs; the first one counts.
    voi_function: 'LINEAR', 'LINEAR_EXACT' or 'SIGMOID'.
    padding: lowest and highest stored value that means "no image here".
    bits_stored: of a pixel.
    signed: whether stored values can be negative.
    presentation_lut_shape: 'IDENTITY', 'INVERSE' or ''.
    presentation_intent: 'FOR PRESENTATION', 'FOR PROCESSING' or ''.
    window_explanations: of the windows, as far as there are any.
    warnings: what was made of things no mammogram should have.
    encoding: plain values that tell how the pixels are stored, such as
      `transfer_syntax`, `levels` and `transform` (JPEG 2000), `predictor`.
  """

  pixels: np.ndarray | pyramid.Pyramid
  photometric: str = ''
  name: str = ''
  attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rescale_slope: float = 1.0
  rescale_intercept: float = 0.0
  modality_lut: Lut | None = None
  voi_luts: tuple[Lut, ...] = ()
  windows: tuple[tuple[float, float], ...] = ()
  voi_function: str = 'LINEAR'
  padding: tuple[int, int] | None = None
  bits_stored: int = 16
  signed: bool = False
  presentation_lut_shape: str = ''
  presentation_intent: str = ''
  window_explanations: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()
  encoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)
