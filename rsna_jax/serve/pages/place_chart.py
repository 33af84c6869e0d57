"""Where a breast stands among those of the validation set, drawn as SVG.

Probabilities near 0 and 1 matter most, so the axis is that of their log odds.
Sizes are attributes and colours classes: the page allows no inline style.
"""

import math
from collections.abc import Sequence

import markupsafe
import numpy as np

from rsna_jax.serve.pages import words as words_lib

_WIDTH, _HEIGHT = 360, 74
_LEFT, _RIGHT = 108, 348  # of the axis
_AXIS_Y = 50
_ROW = 20  # height of a class's bars
_BINS = 48
_END = 0.001  # what is nearer to 0 or 1 is drawn at the end
_SPACE = '\N{NO-BREAK SPACE}'
_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99)


def draw(
  t: words_lib.Words,
  value: float,
  threshold: float | None,
  reference: np.ndarray,
  labels: np.ndarray,
) -> markupsafe.Markup:
  """The chart.

  Args:
    t: the texts.
    value: probability of this breast.
    threshold: called from there on, or None.
    reference: (B,) probabilities of the validation breasts.
    labels: (B,) their labels: 0, 1, or -1 where unknown.
  """
  if threshold is None:
    title = t('breast.place_only', value=percent(value))
  else:
    title = t(
      'breast.place', value=percent(value), threshold=percent(threshold)
    )
  parts = [
    f'<svg class="place" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-label="{markupsafe.escape(title)}">'
  ]
  for label, name, base in ((0, 'benign', 22), (1, 'malignant', 46)):
    parts.append(
      f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end">'
      f'{markupsafe.escape(t(f"place.{name}"))}</text>'
      f'<path class="{name}" stroke-width="4" fill="none" '
      f'd="{_bars(reference[labels == label], base)}"></path>'
    )
  parts.append(
    f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_AXIS_Y}" '
    f'y2="{_AXIS_Y}"></line>'
  )
  for tick in _TICKS:
    x = _x(tick)
    parts.append(
      f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_AXIS_Y}" '
      f'y2="{_AXIS_Y + 4}"></line><text x="{x:.1f}" y="{_AXIS_Y + 17}" '
      f'text-anchor="middle">{100 * tick:g} %</text>'
    )
  if threshold is not None:
    parts.append(_mark('threshold', threshold))
  x = _x(value)
  parts.append(
    _mark('here', value)
    + f'<path class="here-point" d="M{x - 5:.1f} 0h10l-5 7z"></path></svg>'
  )
  return markupsafe.Markup(''.join(parts))


def percent(value: float | None) -> str:
  """A share of one for reading: as many digits as mean something."""
  if value is None:
    return '–'
  of_hundred = 100 * value
  if 0 < of_hundred < 0.1:
    text = '<0.1'
  elif 99.9 < of_hundred < 100:
    text = '>99.9'
  else:
    digits = 0 if 10 <= of_hundred <= 99 else 1
    text = f'{of_hundred:.{digits}f}'.removesuffix('.0')
  return f'{text}{_SPACE}%'


def _x(value: float) -> float:
  share = min(max(value, _END), 1 - _END)
  most = math.log((1 - _END) / _END)
  odds = math.log(share / (1 - share))
  return _LEFT + (odds + most) / (2 * most) * (_RIGHT - _LEFT)


def _bars(values: Sequence[float], base: int) -> str:
  """A path of upright strokes; the fullest bin has the full height."""
  if not len(values):
    return ''
  edges = np.linspace(_LEFT, _RIGHT, _BINS + 1)
  counts, _ = np.histogram([_x(value) for value in values], edges)
  # By the root, so that a single breast is seen beside thousands.
  heights = _ROW * np.sqrt(counts / counts.max())
  middles = (edges[1:] + edges[:-1]) / 2
  return ''.join(
    f'M{x:.1f} {base}v-{height:.1f}'
    for x, height in zip(middles, heights, strict=True)
    if height
  )


def _mark(name: str, value: float) -> str:
  x = _x(value)
  return (
    f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{_AXIS_Y}">'
    '</line>'
  )
