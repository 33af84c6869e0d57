"""Pictures that are no mammograms, made from a seed, of many kinds.

Real photographs are those that scikit-learn and matplotlib bring along, in
part, flipped and in grey; the rest is drawn.
"""

import functools
import pathlib
import textwrap
from collections.abc import Callable

import matplotlib
import numpy as np
import sklearn.datasets
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_WORDS = (
  'patient',
  'breast',
  'density',
  'view',
  'screening',
  'report',
  'normal',
  'tissue',
  'left',
  'right',
  'follow',
  'image',
  'no',
  'evidence',
  'of',
)


def pictures(kind: str, count: int, seed: int = 0) -> list[Image.Image]:
  """`count` pictures of one of `KINDS`, grey or in colour."""
  rngs = np.random.default_rng([seed, *kind.encode()]).spawn(count)
  return [KINDS[kind](rng) for rng in rngs]


@functools.cache
def _photographs() -> tuple[Image.Image, ...]:
  found = [
    Image.fromarray(sklearn.datasets.load_sample_image(name))
    for name in ('china.jpg', 'flower.jpg')
  ]
  samples = pathlib.Path(matplotlib.get_data_path()) / 'sample_data'
  for path in sorted(samples.glob('*.jpg')):
    with Image.open(path) as image:
      found.append(image.convert('RGB'))
  return tuple(found)


def _photograph(rng: np.random.Generator) -> Image.Image:
  image = _photographs()[rng.integers(len(_photographs()))]
  share = rng.uniform(0.35, 1, 2)
  width, height = (np.array(image.size) * share).astype(int)
  left = int(rng.integers(0, image.width - width + 1))
  top = int(rng.integers(0, image.height - height + 1))
  image = image.crop((left, top, left + width, top + height))
  if rng.random() < 0.5:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  if rng.random() < 0.3:
    image = image.rotate(90, expand=True)
  return image.resize(_size(rng))


def _grey_photograph(rng: np.random.Generator) -> Image.Image:
  return _photograph(rng).convert('L')


def _size(rng: np.random.Generator) -> tuple[int, int]:
  width, height = rng.integers(256, 640, 2)
  return int(width), int(height)


def _text(rng: np.random.Generator) -> Image.Image:
  size = _size(rng)
  dark = rng.random() < 0.3
  image = Image.new('L', size, 15 if dark else 245)
  draw = ImageDraw.Draw(image)
  font = ImageFont.load_default(int(rng.integers(10, 22)))
  words = ' '.join(rng.choice(_WORDS, 400))
  lines = textwrap.wrap(words, int(rng.integers(20, 60)))
  margin = int(rng.integers(5, 60))
  draw.multiline_text(
    (margin, margin), '\n'.join(lines), 230 if dark else 20, font
  )
  return image


def _screenshot(rng: np.random.Generator) -> Image.Image:
  size = _size(rng)
  image = Image.new('RGB', size, tuple(rng.integers(200, 256, 3).tolist()))
  draw = ImageDraw.Draw(image)
  font = ImageFont.load_default(12)
  draw.rectangle((0, 0, size[0], 24), tuple(rng.integers(0, 120, 3).tolist()))
  draw.rectangle((0, 24, 90, size[1]), tuple(rng.integers(30, 230, 3).tolist()))
  for _ in range(int(rng.integers(4, 14))):
    x, y = (int(rng.integers(95, size[0])), int(rng.integers(30, size[1])))
    box = (x, y, x + int(rng.integers(30, 160)), y + int(rng.integers(15, 90)))
    draw.rectangle(
      box, tuple(rng.integers(0, 256, 3).tolist()), outline=(0, 0, 0)
    )
    draw.text((x + 4, y + 3), str(rng.choice(_WORDS)), (0, 0, 0), font)
  return image


def _plain(rng: np.random.Generator) -> Image.Image:
  width, height = _size(rng)
  y, x = np.mgrid[:height, :width]
  kind = rng.integers(4)
  if kind == 0:
    values = np.full((height, width), rng.integers(0, 256))
  elif kind == 1:
    values = 255 * x / width
  elif kind == 2:
    values = 255 * y / height
  else:
    angle = rng.uniform(0, 6.3)
    values = x * np.cos(angle) + y * np.sin(angle)
    values = 255 * (values - values.min()) / np.ptp(values)
  if rng.random() < 0.5:
    values = values + rng.normal(0, 3, values.shape)
  return _grey(values)


def _noise(rng: np.random.Generator) -> Image.Image:
  width, height = _size(rng)
  if rng.random() < 0.4:
    return _grey(rng.integers(0, 256, (height, width)))
  spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
  fy, fx = np.fft.fftfreq(height), np.fft.rfftfreq(width)
  radius = np.hypot(fy[:, None], fx)
  radius[0, 0] = 1
  values = np.fft.irfft2(
    spectrum / radius ** rng.uniform(0.8, 2.2), (height, width)
  )
  low, high = np.percentile(values, (rng.uniform(0, 40), 99))
  return _grey(255 * (values - low) / (high - low))


def _chest(rng: np.random.Generator) -> Image.Image:
  height, width = 480, int(rng.integers(380, 520))
  y, x = _unit(height, width)
  body = 150 + 40 * rng.random() - 60 * np.abs(x) ** 3
  values = np.where(np.abs(x) < 0.92 - 0.2 * (y < -0.6), body, 8)
  for side in (-1, 1):
    lung = ((x - side * 0.42) / 0.3) ** 2 + ((y + 0.05) / 0.65) ** 2
    values = np.where(lung < 1, 45 + 35 * lung, values)
  ribs = 12 * np.sin(18 * y + 3 * x**2 + rng.uniform(0, 6))
  values = values + np.where(np.abs(x) < 0.9, ribs, 0)
  values = values + 70 * np.exp(-((x / 0.07) ** 2))
  heart = ((x - 0.15) / 0.3) ** 2 + ((y - 0.3) / 0.35) ** 2
  values = np.where(heart < 1, np.maximum(values, 170), values)
  return _film(values, rng)


def _slice(rng: np.random.Generator) -> Image.Image:
  size = int(rng.integers(300, 512))
  y, x = _unit(size, size)
  wide, tall = rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.8)
  inside = (x / wide) ** 2 + (y / tall) ** 2
  values = np.where(inside < 1, 110 + 20 * rng.random(), 0.0)
  values = np.where((inside < 1) & (inside > 0.85), 70, values)
  for side in (-1, 1):
    organ = ((x - side * 0.35) / 0.22) ** 2 + (y / 0.35) ** 2
    values = np.where(organ < 1, rng.choice([20.0, 150.0]), values)
  spine = (x / 0.12) ** 2 + ((y - 0.45 * tall) / 0.12) ** 2
  values = np.where(spine < 1, 240, values)
  return _film(values, rng)


def _head(rng: np.random.Generator) -> Image.Image:
  size = int(rng.integers(300, 512))
  y, x = _unit(size, size)
  inside = (x / 0.7) ** 2 + ((y + 0.1) / 0.8) ** 2
  values = np.where(inside < 1, 120 + 30 * np.cos(5 * x) * np.cos(4 * y), 5)
  values = np.where((inside < 1) & (inside > 0.86), 235, values)
  neck = (np.abs(x) < 0.3) & (y > 0.5)
  values = np.where(neck, 130, values)
  return _film(values, rng)


def _limb(rng: np.random.Generator) -> Image.Image:
  height, width = 480, int(rng.integers(260, 420))
  y, x = _unit(height, width)
  values = np.full((height, width), 6.0)
  for i in range(int(rng.integers(1, 6))):
    centre = -0.7 + 0.33 * i + 0.12 * y * rng.uniform(-1, 1)
    top = rng.uniform(-1.1, -0.5)
    distance = np.abs(x - centre) / rng.uniform(0.1, 0.16)
    soft = np.where((distance < 1) & (y > top), 90.0, 0)
    bone = np.where((distance < 0.5) & (y > top + 0.1), 200.0, 0)
    values = np.maximum(values, np.maximum(soft, bone))
  if rng.random() < 0.5:
    values = values.T
  return _film(values, rng)


def _fan(rng: np.random.Generator) -> Image.Image:
  height, width = _size(rng)
  y, x = np.mgrid[:height, :width]
  x = x - width / 2
  y = y + height * 0.15
  radius = np.hypot(y, x)
  inside = (np.abs(np.arctan2(x, y)) < rng.uniform(0.4, 0.75)) & (
    (radius > 0.2 * height) & (radius < 1.05 * height)
  )
  speckle = rng.gamma(2, 25, (height, width))
  speckle *= 1 + 0.6 * np.sin(radius / rng.uniform(8, 30))
  image = _grey(np.where(inside, speckle, 0))
  ImageDraw.Draw(image).text((5, 5), 'B-MODE 7.5 MHz', 255)
  return image


def _shapes(rng: np.random.Generator) -> Image.Image:
  width, height = _size(rng)
  y, x = np.mgrid[:height, :width]
  step = int(rng.integers(12, 90))
  kind = rng.integers(5)
  if kind == 0:
    values = (x // step + y // step) % 2
  elif kind == 1:
    values = (x // step) % 2
  elif kind == 2:
    values = (y // step) % 2
  elif kind == 3:
    radius = rng.uniform(0.15, 0.45) * min(width, height)
    values = np.hypot(x - width / 2, y - height / 2) < radius
  else:
    half = np.array([width, height]) * rng.uniform(0.1, 0.45, 2)
    values = (np.abs(x - width / 2) < half[0]) & (
      np.abs(y - height / 2) < half[1]
    )
  return _grey(values * rng.integers(100, 256))


def _half(rng: np.random.Generator) -> Image.Image:
  """Bright on one side, as a mammogram is, and of no breast's shape."""
  width, height = _size(rng)
  y, x = np.mgrid[:height, :width]
  reach = rng.uniform(0.2, 0.8) * width
  kind = rng.integers(4)
  if kind == 0:
    inside = x < reach
  elif kind == 1:
    inside = x < reach * (y // int(rng.integers(20, 80)) % 2)
  elif kind == 2:
    inside = x < reach * (0.6 + 0.4 * np.sin(y / rng.uniform(6, 20)))
  else:
    ends = np.repeat(rng.uniform(0.1, 1, 1 + height // 24), 24)[:height]
    inside = x < reach * ends[:, None]
  values = np.where(inside, rng.integers(100, 240), 0.0)
  if rng.random() < 0.5:
    values = values[:, ::-1]
  return _film(values, rng)


def _chart(rng: np.random.Generator) -> Image.Image:
  width, height = _size(rng)
  image = Image.new('RGB', (width, height), 'white')
  draw = ImageDraw.Draw(image)
  draw.line((40, 10, 40, height - 30, width - 10, height - 30), 'black', 2)
  if rng.random() < 0.5:
    for left in range(50, width - 30, 40):
      top = int(rng.integers(20, height - 40))
      colour = tuple(rng.integers(0, 200, 3).tolist())
      draw.rectangle((left, top, left + 28, height - 30), colour)
  else:
    for _ in range(4):
      y = np.cumsum(rng.normal(0, 9, width - 60)) + height / 2
      colour = tuple(rng.integers(0, 200, 3).tolist())
      draw.line([(50 + i, float(v)) for i, v in enumerate(y)], colour, 2)
  return image


def _unit(height: int, width: int) -> list[np.ndarray]:
  return np.meshgrid(
    np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing='ij'
  )


def _film(values: np.ndarray, rng: np.random.Generator) -> Image.Image:
  values = values + rng.normal(0, rng.uniform(1, 8), values.shape)
  image = _grey(values).filter(
    ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2.5)))
  )
  if rng.random() < 0.3:
    image = image.point([255 - i for i in range(256)])
  return image


def _grey(values: np.ndarray) -> Image.Image:
  return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
  'photograph': _photograph,
  'photograph in grey': _grey_photograph,
  'page of text': _text,
  'screenshot': _screenshot,
  'chart': _chart,
  'blank or ramp': _plain,
  'noise': _noise,
  'shapes': _shapes,
  'half a picture': _half,
  'chest radiograph': _chest,
  'CT slice': _slice,
  'head': _head,
  'limb': _limb,
  'ultrasound': _fan,
}
