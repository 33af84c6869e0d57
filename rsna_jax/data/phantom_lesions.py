"""Lesions of phantoms, and their benign look-alikes.

Each function adds one object to a picture in place, at a (row, col) and with a
radius in pixels. Brightness alone does not tell the malignant from the benign:
shape and number do.
"""

import numpy as np

from rsna_jax.data import phantom_fields


def _window(image, row, col, reach):
  """A view of the image about a place, and its offsets in pixels."""
  top, left = max(int(row - reach), 0), max(int(col - reach), 0)
  part = image[top : int(row + reach) + 1, left : int(col + reach) + 1]
  dy = (np.arange(part.shape[0], dtype=np.float32) + (top + 0.5 - row))[:, None]
  dx = (np.arange(part.shape[1], dtype=np.float32) + (left + 0.5 - col))[None]
  return part, dy, dx


def draw_mass(
  image: np.ndarray,
  row: float,
  col: float,
  radius: float,
  rng: np.random.Generator,
) -> None:
  """An irregular bright body with spicules: what cancer looks like."""
  part, dy, dx = _window(image, row, col, 3 * radius)
  far = np.hypot(dy, dx) / radius
  angle = np.arctan2(dy, dx)
  border = sum(
    rng.uniform(0.4, 1) * np.cos(n * angle + rng.uniform(0, 6.28))
    for n in (2, 3, 5, 7)
  )
  body = phantom_fields.step((0.85 + 0.11 * border - far) / 0.10)
  rays = np.zeros_like(part)
  for _ in range(rng.integers(12, 19)):
    turn = angle - rng.uniform(-np.pi, np.pi) - 0.1 * rng.normal() * far
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    width = 0.065 * (1.6 - 0.4 * np.minimum(far, 3))
    ray = np.exp(-((turn * far / np.maximum(width, 0.03)) ** 2))
    ray *= phantom_fields.step((rng.uniform(1.7, 2.7) - far) / 0.15) * (
      np.abs(turn) < 1.5
    )
    rays = np.maximum(rays, ray)
  part += rng.uniform(0.26, 0.35) * np.maximum(body, 0.75 * rays)


def draw_calcifications(
  image: np.ndarray,
  row: float,
  col: float,
  radius: float,
  rng: np.random.Generator,
) -> None:
  """A cluster of bright dots of different size: the other look of cancer."""
  for _ in range(rng.integers(18, 29)):
    far, turn = radius * np.sqrt(rng.uniform()), rng.uniform(0, 6.28)
    size = radius * rng.uniform(0.07, 0.12)
    part, dy, dx = _window(
      image, row + far * np.sin(turn), col + far * np.cos(turn), 3 * size + 2
    )
    stretch = rng.uniform(0.7, 1.4)
    shape = np.hypot(dy * stretch, dx / stretch) / size
    part += rng.uniform(0.28, 0.46) * phantom_fields.step((1 - shape) / 0.2)


def draw_cyst(
  image: np.ndarray,
  row: float,
  col: float,
  radius: float,
  rng: np.random.Generator,
) -> None:
  """A smooth round body: as bright as a mass, and benign."""
  part, dy, dx = _window(image, row, col, 2 * radius)
  stretch = rng.uniform(0.88, 1.13)
  far = np.hypot(dy * stretch, dx / stretch) / radius
  part += rng.uniform(0.18, 0.34) * phantom_fields.step((0.95 - far) / 0.16)


def draw_coarse(
  image: np.ndarray,
  row: float,
  col: float,
  radius: float,
  rng: np.random.Generator,
) -> None:
  """One large calcification, brighter than any lesion, and benign."""
  part, dy, dx = _window(image, row, col, 2 * radius + 2)
  far = np.hypot(dy, dx) / radius
  part += rng.uniform(0.40, 0.65) * phantom_fields.step((1 - far) / 0.15)


DRAW = {
  'mass': draw_mass,
  'calcifications': draw_calcifications,
  'cyst': draw_cyst,
  'coarse': draw_coarse,
}
