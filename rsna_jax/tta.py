"""Test-time augmentation: several views of an image, averaged as logits.

The views are those a mammogram in standard orientation can have: never
mirrored left to right, since the chest is always on the left.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import errors, steps
from rsna_jax.data.augment import geometry
from rsna_jax.options import evaluation

SHIFT = 0.02  # of the height, up and down
SCALE = 0.05  # larger and smaller, about the middle of the chest wall
GAMMA = 0.15  # darker and brighter; black and white stay what they are
NAMES = evaluation.VIEWS


def views(
  names: Sequence[str], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """The views of an image; the first one leaves it as it is.

  `shift`, `scale` and `intensity` add two views each, and `flip_vertical` adds
  each of them upside down: all four make 14.

  Args:
    names: from `NAMES`.
    size: (H, W).

  Returns:
    (V, 2, 3) float32 matrices as `geometry.resample` takes them, and (V,)
    float32 exponents of the grey values.

  Raises:
    errors.ConfigError: an unknown name, or one named twice.
  """
  unknown = [name for name in names if name not in NAMES]
  if unknown or len(set(names)) < len(names):
    raise errors.ConfigError(
      f'eval.tta={tuple(names)!r}: name each once, from {", ".join(NAMES)}'
    )
  height = size[0]
  # Factor of the rows, of the columns, shift of the rows; exponent.
  found = [(1.0, 0.0, 1.0)]
  if 'shift' in names:
    found += [(1.0, sign * SHIFT * height, 1.0) for sign in (-1, 1)]
  if 'scale' in names:
    found += [(1 + sign * SCALE, 0.0, 1.0) for sign in (-1, 1)]
  if 'intensity' in names:
    found += [(1.0, 0.0, 1 + sign * GAMMA) for sign in (-1, 1)]
  matrices = []
  middle = (height - 1) / 2
  for zoom, shift, _ in found:
    # Pixel centres are at whole numbers, so the chest wall is at -0.5.
    matrices.append(
      [
        [1 / zoom, 0.0, middle - middle / zoom + shift],
        [0.0, 1 / zoom, 0.5 / zoom - 0.5],
      ]
    )
  gammas = [gamma for *_, gamma in found]
  if 'flip_vertical' in names:
    flipped = [
      [[-rows[0], 0.0, 2 * middle - rows[2]], columns]
      for rows, columns in matrices
    ]
    matrices, gammas = matrices + flipped, gammas * 2
  return np.array(matrices, np.float32), np.array(gammas, np.float32)


def predict_step(
  state: steps.TrainState,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  names: Sequence[str] = (),
  axis: str | None = None,
) -> dict[str, jax.Array]:
  """As `steps.predict_step`, the mean of the logits of several views.

  The mean of logits is the geometric mean of odds, or of class probabilities
  before they are made to sum to 1: a view that is sure counts as such, and
  what was a logit stays one for the calibration.

  Args:
    state: as in `steps.predict_step`.
    batch: likewise.
    model: likewise.
    names: of the views; none gives `steps.predict_step` itself.
    axis: unused.
  """
  if not names:
    return steps.predict_step(state, batch, model=model, axis=axis)
  image, meta = steps.inputs(batch)
  variables, extra = steps.variables(state), steps.extra_inputs(batch)
  logits = each_view(
    lambda seen: model.apply(variables, seen, meta, False, **extra),
    image,
    names,
  )
  return jax.tree.map(lambda x: jnp.mean(x, axis=0), logits)


def each_view(
  function: Callable[[jax.Array], Any], image: jax.Array, names: Sequence[str]
) -> Any:
  """A function of images, for each of their views.

  Args:
    function: of images to arrays.
    image: (B, H, W, 1) or (B, V, H, W, 1) floats in [0, 1].
    names: of the views; without any, or without pixels, the image alone.

  Returns:
    What `function` returns, with an axis of views before all others.
  """
  if not names or not image.size:
    return jax.tree.map(lambda x: x[None], function(image))
  matrices, gammas = views(names, image.shape[-3:-1])
  flat = image.reshape(-1, *image.shape[-3:-1])

  def one(view):
    matrix, gamma = view
    seen = jax.vmap(geometry.resample, (0, None))(flat, matrix)
    # A power of one is not exact everywhere.
    seen = jnp.where(gamma == 1, seen, jnp.maximum(seen, 0) ** gamma)
    return function(seen.reshape(image.shape))

  # One view after the other: the program holds the network once, and the
  # device one view's activations.
  return jax.lax.map(one, (jnp.asarray(matrices), jnp.asarray(gammas)))
