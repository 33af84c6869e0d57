"""Smooth steps, noise fields and ridges, of which phantoms are drawn."""

import numpy as np
from PIL import Image


def noise(
  rng: np.random.Generator,
  shape: tuple[int, int],
  beta: float,
  cutoff: int | None = None,
) -> np.ndarray:
  """Periodic Gaussian noise, float32 of mean 0 and deviation 1.

  Its spectrum is 1/f^beta (of the amplitude: beta/2), with nothing above
  `cutoff` cycles a height, where one is given.
  """
  if cutoff is not None and 6 * cutoff < shape[0]:
    # Slow noise is drawn on a coarse grid and enlarged: a third of the time.
    coarse = (3 * cutoff, -(-3 * cutoff * shape[1] // shape[0]))
    field = Image.fromarray(noise(rng, coarse, beta, cutoff))
    return np.array(
      field.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    )
  white = np.fft.rfft2(rng.standard_normal(shape, np.float32))
  fy = np.fft.fftfreq(shape[0])[:, None] * shape[0]
  fx = np.fft.rfftfreq(shape[1])[None, :] * shape[0]
  f = np.hypot(fy, fx).astype(np.float32)
  # Nothing slower than a third of the picture, or the noise is a gradient.
  gain = np.maximum(f, 3) ** np.float32(-beta / 2)
  if cutoff is not None:
    gain *= np.exp(-((f / np.float32(cutoff)) ** 2))
  gain[0, 0] = 0
  field = np.fft.irfft2(white * gain, shape).astype(np.float32)
  return field / field.std()


def ridge(field: np.ndarray, width: float) -> np.ndarray:
  """Bright curves where a smooth field passes zero."""
  return np.exp(-((field / np.float32(width)) ** 2))


def step(value: np.ndarray) -> np.ndarray:
  """A smooth step from 0 to 1 about 0."""
  return 0.5 * (1 + np.tanh(np.asarray(value, np.float32)))


def resize(
  field: np.ndarray,
  shape: tuple[int, int],
  method: Image.Resampling = Image.Resampling.BICUBIC,
) -> np.ndarray:
  """A field of half the resolution, brought to `shape`; float32."""
  image = Image.fromarray(np.ascontiguousarray(field, np.float32))
  size = (shape[1], shape[0])
  # Twice the odd size is one pixel too many: cut it, do not squeeze.
  box = (0, 0, shape[1] / 2, shape[0] / 2)
  return np.array(image.resize(size, method, box=box))
