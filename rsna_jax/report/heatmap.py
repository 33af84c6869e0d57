"""Pictures of maps on mammograms, with a scale that the colour-blind can read.

For goes from nothing through orange to yellow, against from nothing to light
blue: told apart by every kind of colour blindness, and brighter where there is
more. Pillow alone, so that they need no extra.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rsna_jax import schema

# Okabe and Ito's orange, yellow, blue and light blue, by share of the maximum.
_FOR = ((230, 159, 0), (240, 228, 66))
_AGAINST = ((0, 114, 178), (86, 180, 233))
_MOST_COVER = 0.75  # so that the tissue below is still seen
_PAPER, _INK, _GROUND = (250, 250, 250), (27, 31, 36), 90
_FRAME, _SHADE = (255, 255, 255), (0, 0, 0)
_PATCH = (86, 180, 233)  # light blue, which a map that is never below 0 lacks
_PAIR_HEIGHT = 768


def coloured(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Lays a map on a picture.

  Args:
    picture: (h, w) uint8.
    values: (h, w) from -1 to 1: against, and for.

  Returns:
    (h, w, 3) uint8; untouched where `values` is 0.
  """
  grey = picture[..., None].astype(np.float32)
  colour, cover = _painted(values)
  return np.rint(grey * (1 - cover) + colour * cover).astype(np.uint8)


def layer(values: np.ndarray) -> np.ndarray:
  """A map as a layer of its own, which `coloured` would lay on a picture.

  Args:
    values: (h, w) from -1 to 1: against, and for.

  Returns:
    (h, w, 4) uint8, red, green, blue and opacity; clear where `values` is 0.
  """
  colour, cover = _painted(values)
  return np.rint(np.concatenate([colour, 255 * cover], axis=2)).astype(np.uint8)


def _painted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(h, w, 3) float32 colours, and (h, w, 1) how much they cover."""
  share = np.clip(np.abs(values), 0, 1)[..., None].astype(np.float32)
  low, high = (
    np.where((values < 0)[..., None], np.float32(against), np.float32(speaks))
    for against, speaks in zip(_AGAINST, _FOR, strict=True)
  )
  return low + share * (high - low), _MOST_COVER * share


def overlay(
  picture: np.ndarray,
  values: np.ndarray,
  *,
  caption: str,
  signed: bool,
  box: Sequence[float] | None = None,
  peak: tuple[float, float] | None = None,
  patches: Sequence[tuple[Sequence[float], str]] = (),
) -> bytes:
  """A map on the original, with the breast's box and the map's peak.

  Args:
    picture: (h, w) uint8.
    values: (h, w) map; its greatest absolute value gets the last colour.
    caption: a line below it.
    signed: whether the scale shows what speaks against, too.
    box: top, left, bottom, right in pixels of the picture.
    peak: (x, y) in pixels of the picture.
    patches: boxes as `box`, and what is written at each.

  Returns:
    A PNG file.
  """
  made = Image.fromarray(coloured(picture, _scaled(values)))
  draw = ImageDraw.Draw(made)
  width = max(1, round(max(made.size) / 800))
  if box is not None:
    top, left, bottom, right = box
    corners = [left, top, right - 1, bottom - 1]
    draw.rectangle(corners, outline=_SHADE, width=3 * width)
    inner = [left + width, top + width, right - 1 - width, bottom - 1 - width]
    draw.rectangle(inner, outline=_FRAME, width=width)
  font = ImageFont.load_default(max(11, max(made.size) // 60))
  for (top, left, bottom, right), text in patches:
    corners = [left, top, right - 1, bottom - 1]
    draw.rectangle(corners, outline=_PATCH, width=2 * width)
    at = left + 4 * width, top + 2 * width
    draw.text(at, text, _PATCH, font, stroke_width=width, stroke_fill=_SHADE)
  if peak is not None:
    x, y = peak
    for colour, wide in ((_SHADE, 4 * width), (_FRAME, 2 * width)):
      for radius in (max(made.size) / 50,):
        edges = [x - radius, y - radius, x + radius, y + radius]
        draw.ellipse(edges, outline=colour, width=wide)
  return _png(_framed([made], caption, values, signed))


def pair(
  pixels: np.ndarray, values: np.ndarray, *, caption: str, signed: bool
) -> bytes:
  """The standard image, and beside it the same with its map; a PNG file.

  Args:
    pixels: (H, W) uint8.
    values: (H, W) map.
    caption: a line below them.
    signed: as in `overlay`.
  """
  height, width = pixels.shape
  scale = max(1.0, _PAIR_HEIGHT / height)
  size = round(width * scale), round(height * scale)
  pictures = [np.repeat(pixels[..., None], 3, axis=2)]
  pictures.append(coloured(pixels, _scaled(values)))
  return _png(
    _framed(
      [
        Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)
        for one in pictures
      ],
      caption,
      values,
      signed,
    )
  )


def _scaled(values: np.ndarray) -> np.ndarray:
  most = float(np.abs(values).max(initial=0))
  return values / most if most > 0 else np.zeros_like(values)


def _framed(
  pictures: Sequence[Image.Image],
  caption: str,
  values: np.ndarray,
  signed: bool,
) -> Image.Image:
  """The pictures side by side, the caption and the colour scale below."""
  gap, width = 8, sum(picture.width for picture in pictures)
  width += gap * (len(pictures) - 1)
  size = max(13, min(26, width // 45))
  font = ImageFont.load_default(size)
  most = float(np.abs(values).max(initial=0))
  lines = _wrapped([caption, schema.NOTICE], font, width - 2 * gap)
  line = round(size * 1.4)
  height = pictures[0].height
  whole = Image.new(
    'RGB', (width, height + line * (len(lines) + 2) + 3 * gap), _PAPER
  )
  x = 0
  for picture in pictures:
    whole.paste(picture, (x, 0))
    x += picture.width + gap
  draw = ImageDraw.Draw(whole)
  y = height + gap
  if most > 0:
    ends = np.linspace(-1 if signed else 0, 1, width - 2 * gap)
    bar = np.broadcast_to(ends, (line, len(ends)))
    ground = np.full(bar.shape, _GROUND, np.uint8)
    whole.paste(Image.fromarray(coloured(ground, bar)), (gap, y))
    y += line
    left = f'against  {-most:.3g}' if signed else '0'
    draw.text((gap, y), left, _INK, font)
    right = f'{most:.3g}  for'
    at = width - gap - draw.textlength(right, font)
    draw.text((at, y), right, _INK, font)
    if signed:
      draw.text(((width - draw.textlength('0', font)) / 2, y), '0', _INK, font)
    y += line + gap
  else:
    draw.text((gap, y), 'the map is flat: nothing stands out', _INK, font)
    y += 2 * line + gap
  for text in lines:
    draw.text((gap, y), text, _INK, font)
    y += line
  return whole


def _wrapped(texts: Sequence[str], font, width: int) -> list[str]:
  lines = []
  for text in texts:
    line = ''
    for word in text.split():
      longer = f'{line} {word}'.strip()
      if line and font.getlength(longer) > width:
        lines.append(line)
        longer = word
      line = longer
    lines.append(line)
  return lines


def _png(picture: Image.Image) -> bytes:
  out = io.BytesIO()
  picture.save(out, format='PNG', compress_level=1)
  return out.getvalue()
