"""PNG files that the server hands out; each says what it is not for."""

import io

import numpy as np
from PIL import Image, PngImagePlugin

from rsna_jax.report import heatmap
from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib


def grey(pixels: np.ndarray) -> bytes:
  """(h, w) uint8 or uint16 as a PNG of 8 bits."""
  if pixels.dtype == np.uint16:
    pixels = np.rint(pixels / np.float32(257)).astype(np.uint8)
  return _png(Image.fromarray(np.ascontiguousarray(pixels)))


def windowed(pixels: np.ndarray, center: float, width: float) -> bytes:
  """A window laid on a picture.

  Args:
    pixels: (h, w) uint8 or uint16.
    center: of the window, as a share of white.
    width: of the window, as a share of white: what is darker than
      `center - width / 2` becomes black, what is brighter than `center + width
      / 2` white (PS3.3 C.11.2.1.3.2, LINEAR_EXACT).

  Returns:
    A PNG of 8 bits.

  Raises:
    problems.Problem: E_FIELD, a number is out of range.
  """
  if not 0 <= center <= 1 or not 0.001 <= width <= 2:
    raise problems.Problem(
      'E_FIELD',
      f'center={center:g}, width={width:g}: the centre is from 0 to 1, the '
      'width from 0.001 to 2, as shares of white.',
    )
  white = np.iinfo(pixels.dtype).max
  levels = np.arange(white + 1, dtype=np.float32) / np.float32(white)
  shown = (levels - np.float32(center)) / np.float32(width) + np.float32(0.5)
  table = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
  return _png(Image.fromarray(table[pixels]))


def heat(values: np.ndarray) -> bytes:
  """A map as a layer to lay over the picture.

  Args:
    values: (h, w) map; its greatest absolute value gets the last colour.

  Returns:
    A PNG with transparency: nothing where the map is 0.
  """
  most = float(np.abs(values).max(initial=0))
  shares = values / most if most > 0 else np.zeros_like(values)
  return _png(Image.fromarray(heatmap.layer(shares)))


def _png(picture: Image.Image) -> bytes:
  out = io.BytesIO()
  text = PngImagePlugin.PngInfo()
  text.add_text('Disclaimer', settings_lib.NOTICE)
  picture.save(out, format='PNG', compress_level=1, pnginfo=text)
  return out.getvalue()
