"""Whether a picture is a mammogram at all, by its looks; numpy alone.

A mammogram is one body that hangs on one side of the picture, row by row
without a gap, before air that is flat. Photographs, pages of text, other
radiographs and noise each break one of these.
"""

import numpy as np

from rsna_jax.data import breast, morphology, resize

_SIDE = 128  # pixels of the longer side
_REASON = 'The picture does not look like a mammogram: give one.'


def features(picture: np.ndarray) -> dict[str, float]:
  """What tells mammograms from other pictures.

  Args:
    picture: (h, w) uint8, bright breast on black.
  """
  scale = max(1.0, max(picture.shape) / _SIDE)
  small = resize.area(
    picture.astype(np.float32) / 255,
    tuple(max(8, round(n / scale)) for n in picture.shape),
  )
  found = breast.find(small)
  mask = found.mask
  if found.chest_side == 'right':
    mask, small = mask[:, ::-1], small[:, ::-1]
  cols = mask.shape[1]
  lit = small > 0.1 * np.percentile(small, 99)
  air = ~morphology.dilated(mask, 2)
  air_values = small[air] if air.any() else np.ones(1)
  body = mask.any(axis=1)
  chest = mask[:, : max(1, cols // 16)].any(axis=1)
  # Where the run from the chest ends, and what lies beyond it.
  width = mask.sum(axis=1)
  last = cols - np.argmax(mask[:, ::-1], axis=1)
  filled = width[body].sum() / max(1, last[body].sum())
  edge = last[body].astype(float)
  jumps = np.abs(np.diff(edge)).mean() / cols if edge.size > 1 else 1.0
  far = mask[:, -1].mean()
  level = np.median(air_values)
  inside = small[mask]
  slope_y = np.abs(np.diff(small, axis=0))[air[1:] & air[:-1]]
  return {
    'area': mask.mean(),
    'air': air.mean(),
    'air_level': float(level),
    'air_rough': float(np.abs(air_values - level).mean()),
    'air_slope': float(slope_y.mean()) if slope_y.size else 1.0,
    'chest': chest.sum() / max(1, body.sum()),
    'filled': float(filled),
    'jumps': float(jumps),
    'far': float(far),
    'top': float(mask[0].mean()),
    'bottom': float(mask[-1].mean()),
    'outside_lit': float((lit & air).sum() / max(1, lit.sum())),
    'inside_rough': float(
      np.abs(np.diff(small, axis=0))[mask[1:] & mask[:-1]].mean()
    ),
    'inside_mean': float(inside.mean()),
    'inside_std': float(inside.std()),
  }


def score(picture: np.ndarray) -> tuple[float, str]:
  """How much a picture looks like a mammogram.

  Args:
    picture: (h, w) uint8, bright breast on black.

  Returns:
    From 0 to 1, and a sentence for one that is refused.
  """
  try:
    found = features(picture)
  except breast.BreastError:
    return 0.0, _REASON
  bad = (
    found['air'] < 0.05,
    found['air_rough'] > 0.05,
    found['chest'] < 0.7,
    found['filled'] < 0.9,
    found['jumps'] > 0.025,
    found['outside_lit'] > 0.3,
    found['inside_rough'] > 0.15,
  )
  return max(0.0, 0.9 - 0.45 * sum(bad)), _REASON
