"""Made-up weights under published names: equal wherever they are made."""

import math
import zlib

import numpy as np


def random_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """He-scaled kernels and statistics that are all unlike, by name.

  Small kernels or equal statistics would hide what is swapped.

  Args:
    name: in PyTorch's style.
    shape: in PyTorch's order.
  """
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  last = name.rpartition('.')[2]
  if last == 'num_batches_tracked':
    return np.asarray(7, np.int64)
  if len(shape) > 1:
    # No ReLU follows a depthwise kernel, and little of SiLU is lost.
    gain = 1 if shape[1] == 1 or name.startswith('blocks.') else 2
    scale = (gain / math.prod(shape[1:])) ** 0.5
    values = rng.normal(0, scale, shape)
  elif last == 'gamma':
    values = rng.uniform(0.2, 0.6, shape)
  elif last == 'running_var':
    values = rng.uniform(0.5, 1.5, shape)
  elif last == 'weight':
    values = rng.uniform(0.8, 1.2, shape)
  else:
    values = rng.normal(0, 0.2, shape)
  return values.astype(np.float32)


def image(size: tuple[int, int]) -> np.ndarray:
  """(2, H, W, 1) in [0, 1]."""
  return np.random.default_rng(1).random((2, *size, 1)).astype(np.float32)


def names_text(shapes: dict[str, tuple[int, ...]]) -> str:
  """Every name and shape, a line each, in order of the names."""
  return '\n'.join(f'{name} {list(shapes[name])}' for name in sorted(shapes))


def sampled(features: np.ndarray, count: int = 40) -> np.ndarray:
  """Values from all over an array, and its greatest magnitude."""
  flat = np.asarray(features, np.float32).ravel()
  places = np.linspace(0, flat.size - 1, count).round().astype(int)
  return np.append(flat[places], np.abs(flat).max())
