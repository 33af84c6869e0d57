"""Whether a picture is a mammogram at all, by its looks; numpy alone.

A mammogram is one body that hangs on one side of the picture, row by row
without a gap, before air that is flat and of one colour. Photographs, pages of
text, other radiographs and noise each break one of these. The weights are
those that `scripts/measure_gate.py --fit` found on half of its pictures.
"""

import dataclasses

import numpy as np

from rsna_jax.data import breast, morphology, resize

SIDE = 128  # pixels of the longer side that are looked at
_TINTED = 0.08  # of the mean grey: mean distance of the channels from it
# A picture in colour has to look more like a mammogram than one in grey.
_COLOUR_COST = 1.0
_UNEVEN = 0.12  # of white: mean distance of the air's colours from their median
_AIR = 'what lies beside the body is not dark and flat as air is'
_BODY = 'no single body hangs on one side of it'
_OUTLINE = 'the outline of the body is not that of a breast'
_GREYS = 'the greys within the body are not those of a breast'


@dataclasses.dataclass(frozen=True)
class _Weight:
  """How a feature counts: (value - usual) * weight is added to the score.

  Attributes:
    usual: its mean in mammograms.
    weight: of a difference of 1.
    reason: what is said where this one counts most.
  """

  usual: float
  weight: float
  reason: str


WEIGHTS = {
  'air': _Weight(0.2981, 1.891, _AIR),
  'air_rough': _Weight(-5.247, -1.47, _AIR),
  'air_level': _Weight(0.0005553, -34.85, _AIR),
  'chest': _Weight(0.9972, 16.9, _BODY),
  'filled': _Weight(0.9981, 31.02, _BODY),
  'far': _Weight(0.001637, -12.5, _BODY),
  'jumps': _Weight(-4.79, -1.898, _OUTLINE),
  'kinks': _Weight(-5.085, -3.763, _OUTLINE),
  'bulge': _Weight(0.2465, 51.88, _OUTLINE),
  'rim': _Weight(0.4192, -6.117, _GREYS),
  'inside_rough': _Weight(-2.862, 3.877, _GREYS),
  'inside_std': _Weight(0.1958, -22.19, _GREYS),
}
USUAL = 9.779  # log odds of a mammogram all of whose features are usual


@dataclasses.dataclass(frozen=True)
class Look:
  """What is seen in a picture.

  Attributes:
    small: (h, w) float32 from 0 to 1, `SIDE` pixels long.
    mask: (h, w) bool, the body.
    mirrored: whether the body hangs on the right.
  """

  small: np.ndarray
  mask: np.ndarray
  mirrored: bool


def look(picture: np.ndarray) -> Look:
  """Finds the body.

  Args:
    picture: (h, w) uint8, bright breast on black.

  Raises:
    breast.BreastError: the picture is blank, or nothing in it is big enough.
  """
  scale = max(1.0, max(picture.shape) / SIDE)
  small = resize.area(
    picture.astype(np.float32) / 255,
    tuple(max(8, round(n / scale)) for n in picture.shape),
  )
  found = breast.find(small)
  return Look(small, found.mask, found.chest_side == 'right')


def features(seen: Look) -> dict[str, float]:
  """What tells mammograms from other pictures, by the names of `WEIGHTS`."""
  mask, small = seen.mask, seen.small
  if seen.mirrored:
    mask, small = mask[:, ::-1], small[:, ::-1]
  cols = mask.shape[1]
  white = max(float(np.percentile(small, 99)), 1e-6)
  air = ~morphology.dilated(mask, 2)
  values = small[air] if air.any() else np.ones(1)
  level = float(np.median(values))
  body = mask.any(axis=1)
  # Where the run of each row ends that starts at the chest.
  edge = (cols - np.argmax(mask[:, ::-1], axis=1))[body].astype(np.float64)
  smooth = np.convolve(edge, np.ones(9) / 9, 'valid') if edge.size > 9 else edge
  inner = morphology.eroded(mask, 2)
  rim = inner & ~morphology.eroded(mask, 6)
  steps = np.abs(np.diff(small, axis=0))[inner[1:] & inner[:-1]]
  found = {
    'air': min(air.mean(), 0.3),
    'air_rough': np.log(np.abs(values - level).mean() / white + 0.003),
    'air_level': min(level, 0.2),
    'chest': mask[body, : max(1, cols // 16)].any(axis=1).mean(),
    'filled': mask.sum() / max(1.0, edge.sum()),
    'far': mask[:, -1].mean(),
    'jumps': np.log(_mean(np.abs(np.diff(edge))) / cols + 0.001),
    'kinks': np.log(_mean(np.abs(np.diff(edge, 2))) / cols + 0.001),
    'bulge': np.clip(
      (smooth.max() - min(smooth[0], smooth[-1])) / cols, 0, 0.25
    ),
    'rim': _mean(small[rim]) / white,
    'inside_rough': np.log(_mean(steps) / white + 0.003),
    'inside_std': small[inner].std() / white if inner.any() else 0.0,
  }
  return {name: float(value) for name, value in found.items()}


def score(
  picture: np.ndarray, colour: np.ndarray | None = None
) -> tuple[float, str]:
  """How much a picture looks like a mammogram.

  Args:
    picture: (h, w) uint8, bright breast on black.
    colour: (rows, cols, 3) uint8 of the same picture in any size, where it has
      colours.

  Returns:
    From 0 to 1, and a sentence for one that is refused.
  """
  try:
    seen = look(picture)
  except breast.BreastError:
    return 0.0, _said('it is blank, or nothing in it is as big as a breast')
  total, reason = weighed(features(seen))
  if colour is not None and is_tinted(colour):
    total -= _COLOUR_COST
    if _unevenness(colour, seen.mask) > _UNEVEN:
      return 0.0, _said('it is a picture in colour')
  return float(1 / (1 + np.exp(-np.clip(total, -50, 50)))), _said(reason)


def weighed(found: dict[str, float]) -> tuple[float, str]:
  """Log odds that features are a mammogram's, and what speaks against it."""
  parts = {
    name: how.weight * (found[name] - how.usual)
    for name, how in WEIGHTS.items()
  }
  reason = WEIGHTS[min(parts, key=parts.__getitem__)].reason
  return USUAL + sum(parts.values()), reason


def is_tinted(colour: np.ndarray) -> bool:
  """Whether a picture has colours, and not grey in three channels.

  Args:
    colour: (rows, cols, 3) uint8.
  """
  values = colour.astype(np.float32) / 255
  distance = np.abs(values - values.mean(2, keepdims=True)).mean()
  return bool(distance > _TINTED * max(values.mean(), 0.02))


def _unevenness(colour: np.ndarray, mask: np.ndarray) -> float:
  """How much the colours beside the body differ: a colour map gives one."""
  ys, xs = (
    ((np.arange(n) + 0.5) * (size / n)).astype(np.int64)
    for n, size in zip(mask.shape, colour.shape, strict=False)
  )
  air = ~morphology.dilated(mask, 2)
  if not air.any():
    return 1.0
  values = colour[ys[:, None], xs][air].astype(np.float32) / 255
  return float(np.abs(values - np.median(values, axis=0)).mean())


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else 0.0


def _said(reason: str) -> str:
  return f'The picture does not look like a mammogram: {reason}.'
