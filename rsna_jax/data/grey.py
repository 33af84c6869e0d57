"""From stored values to what a radiologist sees: modality, VOI, polarity.

The order is that of PS3.3 C.11 and PS3.4 N.2: MONOCHROME1 is inverted last, and
padding is black after that.
"""

from collections.abc import Callable

import numpy as np

from rsna_jax.data import mammogram, pyramid

THUMBNAIL = 160  # pixels of the longer side, at the most

WINDOWS = ('full', 'linear', 'none')
_BOUND = 1e30  # of a window; float32 ends at 3e38


def presentation(
  image: mammogram.Mammogram, window: str = 'full'
) -> np.ndarray:
  """Shows an image: bright breast on black.

  Args:
    image: as a reader returned it. Where it does not say its polarity, its
      content decides.
    window: 'full' takes the VOI LUT or any VOI function; 'linear' the window
      as a linear one, whatever function is named; 'none' the range of the
      pixels without padding.

  Returns:
    (rows, cols) float32 from 0 to 1.
  """
  pixels = pyramid.of(image.pixels).level(0)
  shown = curve(image, window, pixels)(pixels)
  if not image.photometric and looks_inverted(shown):
    shown = 1 - shown
  mask = padding_mask(image, pixels)
  if mask is not None:
    shown[mask] = 0
  return shown


def curve(
  image: mammogram.Mammogram,
  window: str = 'full',
  pixels: np.ndarray | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
  """The grey curve of an image, padding apart.

  It is a function of the value alone, so it may be put on resized values: those
  between two stored values are interpolated.

  Args:
    image: as a reader returned it.
    window: as in `presentation`.
    pixels: (...) integers, stored values whose range counts where no window
      does; None: those of the image, or of its thumbnail where it is a pyramid.

  Returns:
    A function from (...) stored values to (...) float32 from 0 to 1; of an
    image without a polarity, as it would be for MONOCHROME2.
  """
  if window not in WINDOWS:
    raise ValueError(f'window={window!r}: choose {", ".join(WINDOWS)}')
  voi = _voi(image, window, pixels)
  invert = is_inverted(image)

  def show(values: np.ndarray) -> np.ndarray:
    shown = voi(modality(image, values))
    np.clip(shown, 0, 1, out=shown)
    return np.subtract(1, shown, out=shown) if invert else shown

  return show


def is_inverted(image: mammogram.Mammogram) -> bool:
  """Whether the header says that low values are bright."""
  return (
    image.photometric == 'MONOCHROME1'
    or image.presentation_lut_shape == 'INVERSE'
  )


def padding_mask(
  image: mammogram.Mammogram, values: np.ndarray
) -> np.ndarray | None:
  """Where stored values mean "no image here"; None where nothing can be."""
  if image.padding is None:
    return None
  low, high = image.padding
  return values == low if low == high else (values >= low) & (values <= high)


def modality(image: mammogram.Mammogram, values: np.ndarray) -> np.ndarray:
  """Values after the modality transform (PS3.3 C.11.1).

  Args:
    image: whose modality LUT, or else slope and intercept, count.
    values: (...) stored values, or means of them.

  Returns:
    (...) float32.
  """
  if image.modality_lut is not None:
    return _look_up(image.modality_lut, values)
  values = values.astype(np.float32)
  if image.rescale_slope != 1:
    values *= np.float32(image.rescale_slope)
  if image.rescale_intercept != 0:
    values += np.float32(image.rescale_intercept)
  return values


def _voi(
  image: mammogram.Mammogram, window: str, pixels: np.ndarray | None
) -> Callable[[np.ndarray], np.ndarray]:
  if window == 'full' and image.voi_luts:
    lut = image.voi_luts[0]
    white = np.float32((1 << lut.bits) - 1)
    return lambda values: _look_up(lut, values) / white
  if window != 'none':
    function = image.voi_function if window == 'full' else 'LINEAR'
    # Of several views (C.11.2.1.2) the first counts that can be shown at all.
    for center, width in image.windows:
      if _usable(center, width, function):
        return lambda values: _windowed(values, center, width, function)
  low, high = _value_range(image, _ranged(image) if pixels is None else pixels)
  scale = 1 / (high - low) if high > low else 0.0
  return lambda values: (values - np.float32(low)) * np.float32(scale)


def _usable(center: float, width: float, function: str) -> bool:
  least = 1 if function == 'LINEAR' else 1e-6
  return abs(center) < _BOUND and least <= width < _BOUND


def _windowed(
  values: np.ndarray, center: float, width: float, function: str
) -> np.ndarray:
  """The VOI functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, from 0 to 1."""
  if function == 'SIGMOID':
    # Far off the centre exp would overflow, and the result is 0 or 1 anyway.
    power = np.clip((values - np.float32(center)) * (-4 / width), -80, 80)
    return 1 / (1 + np.exp(power))
  if function == 'LINEAR_EXACT':
    return (values - np.float32(center)) / np.float32(width) + np.float32(0.5)
  middle = center - 0.5
  if width == 1:
    return (values > middle).astype(np.float32)
  return (values - np.float32(middle)) / np.float32(width - 1) + np.float32(0.5)


def _look_up(lut: mammogram.Lut, values: np.ndarray) -> np.ndarray:
  if values.dtype.kind in 'iub':
    index = values.astype(np.int32) - lut.first
    np.clip(index, 0, len(lut.values) - 1, out=index)
    return lut.values.astype(np.float32)[index]
  # np.interp does this in double precision, which takes ten times as long.
  last = len(lut.values) - 1
  at = np.clip(values - np.float32(lut.first), 0, last, dtype=np.float32)
  below = at.astype(np.int32)
  np.minimum(below, max(last - 1, 0), out=below)
  at -= below
  entries = lut.values.astype(np.float32)
  at *= np.diff(entries, append=entries[-1:])[below]
  at += entries[below]
  return at


def _ranged(image: mammogram.Mammogram) -> np.ndarray:
  """The stored values whose range counts: a pyramid is not decoded in full."""
  if not isinstance(image.pixels, pyramid.Pyramid):
    return image.pixels
  size, level = max(image.pixels.shape), 0
  while size >> level > THUMBNAIL:
    level += 1
  return image.pixels.level(level)


def _value_range(
  image: mammogram.Mammogram, pixels: np.ndarray
) -> tuple[float, float]:
  """Least and greatest modality value of pixels that are no padding."""
  mask = padding_mask(image, pixels)
  if mask is None:
    ends = np.array([pixels.min(), pixels.max()])
  else:
    inside = ~mask
    if not inside.any():
      return 0.0, 0.0
    limits = np.iinfo(pixels.dtype)
    ends = np.array(
      [
        pixels.min(where=inside, initial=limits.max),
        pixels.max(where=inside, initial=limits.min),
      ]
    )
  if image.modality_lut is not None:
    # A LUT need not rise, so its ends are not the ends of the range.
    ends = np.unique(pixels if mask is None else pixels[~mask])
  values = modality(image, ends)
  return float(values.min()), float(values.max())


def looks_inverted(image: np.ndarray) -> bool:
  """Whether a picture shows a dark breast on a bright ground.

  The air is flat and the breast is not, whichever of them is the larger; so the
  grey of the flattest third is compared with that of the rest.

  Args:
    image: (rows, cols) numbers.
  """
  step = max(1, max(image.shape) // 160)
  small = image[::step, ::step].astype(np.float32)
  # Films have a black frame of a few per cent.
  top, left = (n // 20 for n in small.shape)
  small = small[top : small.shape[0] - top, left : small.shape[1] - left]
  if min(small.shape) < 2:
    return False
  here = small[:-1, :-1]
  slope = np.abs(small[1:, :-1] - here) + np.abs(small[:-1, 1:] - here)
  flat = slope <= np.percentile(slope, 30)
  if flat.all():
    return False
  return bool(np.median(here[flat]) > np.median(here[~flat]))
