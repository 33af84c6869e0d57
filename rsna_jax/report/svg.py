"""A small chart, drawn as SVG text that stands in a page by itself.

By hand, because a page of ten curves by matplotlib takes seconds and an extra,
and its fonts as paths neither scale nor read.
"""

import html
import math
from collections.abc import Sequence

import numpy as np

# Okabe and Ito's colours, told apart by the colour-blind and in grey print.
BLUE, VERMILION, GREEN, GREY = '#0072b2', '#d55e00', '#009e73', '#767676'
_WIDTH, _HEIGHT = 460, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 46
_LETTER = 7.4  # pixels; about the mean of a letter of the legend
_LEGEND = 20  # pixels of a line of it


class Chart:
  """One pair of axes; what is drawn first lies below.

  Args:
    x: title of the horizontal axis.
    y: of the vertical one.
    x_range: ends of the axis.
    y_range: likewise; of a logarithmic one more than 0.
    log_y: whether the vertical axis counts decades.
  """

  def __init__(
    self,
    x: str,
    y: str,
    *,
    x_range: tuple[float, float] = (0.0, 1.0),
    y_range: tuple[float, float] = (0.0, 1.0),
    log_y: bool = False,
  ):
    self._titles = x, y
    self._x, self._y = _wide(x_range), _wide(y_range)
    self._log = log_y
    self._shapes: list[str] = []
    self._legend: list[tuple[str, str, str]] = []

  def line(
    self,
    xs: Sequence[float],
    ys: Sequence[float],
    color: str,
    label: str | None = None,
    *,
    dash: str = '',
    width: float = 2,
    step: bool = False,
    markers: bool = False,
  ) -> None:
    """A line through (N,) points; it breaks where one is not finite.

    Args:
      xs: (N,).
      ys: (N,).
      color: of the stroke.
      label: in the legend; None: not there.
      dash: pattern, as SVG has it.
      width: in pixels.
      step: whether a value holds from the point before up to its own.
      markers: whether the points are dotted.
    """
    path, drawing, before = [], False, None
    for x, y in zip(map(float, xs), map(float, ys), strict=True):
      if not (math.isfinite(x) and math.isfinite(y)):
        drawing = False
        continue
      place = self._place(x, y)
      if drawing and step:
        path.append(f'V{_n(place[1])}H{_n(place[0])}')
      else:
        path.append(f'{"L" if drawing else "M"}{_n(place[0])} {_n(place[1])}')
      drawing, before = True, place
      if markers:
        self._shapes.append(
          f'<circle cx="{_n(place[0])}" cy="{_n(place[1])}" r="3.5" '
          f'fill="{color}"/>'
        )
    if before is not None:
      dashed = f' stroke-dasharray="{dash}"' if dash else ''
      self._shapes.append(
        f'<path d="{"".join(path)}" fill="none" stroke="{color}" '
        f'stroke-width="{width:g}" stroke-linejoin="round"{dashed}/>'
      )
    if label:
      self._legend.append((label, color, dash))

  def whiskers(
    self,
    xs: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    color: str,
  ) -> None:
    """Vertical intervals at (N,) places."""
    for x, a, b in zip(xs, low, high, strict=True):
      (x1, y1), (_, y2) = self._place(x, a), self._place(x, b)
      self._shapes.append(
        f'<path d="M{_n(x1)} {_n(y1)}V{_n(y2)}M{_n(x1 - 3)} {_n(y1)}h6'
        f'M{_n(x1 - 3)} {_n(y2)}h6" fill="none" stroke="{color}"/>'
      )

  def dot(self, x: float, y: float, color: str, label: str) -> None:
    """One point that matters, such as the operating point."""
    at = self._place(x, y)
    self._shapes.append(
      f'<circle cx="{_n(at[0])}" cy="{_n(at[1])}" r="5.5" fill="{color}" '
      'stroke="#fff" stroke-width="1.5"/>'
    )
    self._legend.append((label, color, 'dot'))

  def bars(
    self,
    edges: Sequence[float],
    heights: Sequence[float],
    color: str,
    label: str,
    *,
    fill: bool,
  ) -> None:
    """A histogram of (N + 1,) edges and (N,) heights; none where 0."""
    floor = self._place(0, self._y[0])[1]
    path = []
    for left, right, height in zip(edges, edges[1:], heights, strict=False):
      if height <= 0:
        continue
      (x1, y), (x2, _) = self._place(left, height), self._place(right, height)
      path.append(f'M{_n(x1)} {_n(floor)}V{_n(y)}H{_n(x2)}V{_n(floor)}')
    self._shapes.append(
      f'<path d="{"".join(path)}" stroke="{color}" '
      + (
        f'fill="{color}" fill-opacity=".28" stroke-width="1"/>'
        if fill
        else 'fill="none" stroke-width="1.7"/>'
      )
    )
    self._legend.append((label, color, ''))

  def svg(self, description: str) -> str:
    """The chart as an SVG element.

    Args:
      description: for those who do not see it.
    """
    rows = self._legend_rows()
    top = _TOP + _LEGEND * len(rows)
    height = _HEIGHT + top - _TOP
    parts = [
      f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" class="chart" '
      f'aria-label="{html.escape(description)}">',
      *_drawn_legend(rows),
      f'<g transform="translate(0 {top - _TOP})">',
      *self._axes(),
      *self._shapes,
      '</g></svg>',
    ]
    return ''.join(parts)

  def _place(self, x: float, y: float) -> tuple[float, float]:
    (x1, x2), (y1, y2) = self._x, self._y
    if self._log:
      y, y1, y2 = (math.log10(max(v, self._y[0])) for v in (y, y1, y2))
    # What lies outside stays at the edge, so that nothing leaves the frame.
    across = min(max((x - x1) / (x2 - x1), -0.005), 1.005)
    up = min(max((y - y1) / (y2 - y1), -0.005), 1.005)
    return (
      _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
      _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
    )

  def _axes(self) -> list[str]:
    parts = []
    left, bottom = self._place(self._x[0], self._y[0])
    right, top = self._place(self._x[1], self._y[1])
    for value in ticks(*self._x):
      x = self._place(value, self._y[0])[0]
      parts.append(
        f'<path class="grid" d="M{_n(x)} {_n(top)}V{_n(bottom)}"/>'
        f'<text x="{_n(x)}" y="{_n(bottom + 17)}" text-anchor="middle">'
        f'{_label(value)}</text>'
      )
    if self._log:
      low, high = (math.log10(v) for v in self._y)
      values = [10.0**k for k in range(math.ceil(low), math.floor(high) + 1)]
    else:
      values = ticks(*self._y)
    for value in values:
      y = self._place(self._x[0], value)[1]
      parts.append(
        f'<path class="grid" d="M{_n(left)} {_n(y)}H{_n(right)}"/>'
        f'<text x="{_n(left - 6)}" y="{_n(y + 4)}" text-anchor="end">'
        f'{_label(value)}</text>'
      )
    middle = (left + right) / 2, (top + bottom) / 2
    x_title, y_title = map(html.escape, self._titles)
    parts += [
      f'<path class="axis" d="M{_n(left)} {_n(top)}V{_n(bottom)}'
      f'H{_n(right)}"/>',
      f'<text class="name" x="{_n(middle[0])}" y="{_HEIGHT - 8}" '
      f'text-anchor="middle">{x_title}</text>',
      f'<text class="name" transform="translate(15 {_n(middle[1])}) '
      f'rotate(-90)" text-anchor="middle">{y_title}</text>',
    ]
    return parts

  def _legend_rows(self) -> list[list[tuple[float, tuple]]]:
    rows, x = [], math.inf
    for entry in self._legend:
      width = 30 + _LETTER * len(entry[0]) + 14
      if x + width > _WIDTH:
        rows.append([])
        x = float(_LEFT)
      rows[-1].append((x, entry))
      x += width
    return rows


def ticks(low: float, high: float, most: int = 6) -> list[float]:
  """Round numbers from `low` to `high`, `most` at the most."""
  raw = (high - low) / (most - 1)
  power = 10.0 ** math.floor(math.log10(raw))
  size = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
  first = math.ceil(low / size - 1e-9)
  last = math.floor(high / size + 1e-9)
  return [k * size for k in range(first, last + 1)]


def _drawn_legend(rows) -> list[str]:
  parts = []
  for i, row in enumerate(rows):
    y = 13 + _LEGEND * i
    for x, (label, color, dash) in row:
      if dash == 'dot':
        parts.append(
          f'<circle cx="{_n(x + 11)}" cy="{y - 4}" r="5.5" fill="{color}"/>'
        )
      else:
        dashed = f' stroke-dasharray="{dash}"' if dash else ''
        parts.append(
          f'<path d="M{_n(x)} {y - 4}h22" stroke="{color}" stroke-width="2.5"'
          f'{dashed}/>'
        )
      parts.append(
        f'<text x="{_n(x + 28)}" y="{y}" class="name">{html.escape(label)}'
        '</text>'
      )
  return parts


def _wide(ends: tuple[float, float]) -> tuple[float, float]:
  low, high = map(float, ends)
  return (low, high) if high > low else (low - 0.5, low + 0.5)


def _n(value: float) -> str:
  """A place, to a tenth of a pixel."""
  return np.format_float_positional(round(value, 1), trim='-')


def _label(value: float) -> str:
  if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
    return f'{value:.0e}'.replace('e-0', 'e-').replace('e+0', 'e')
  return f'{value:,.6g}'
