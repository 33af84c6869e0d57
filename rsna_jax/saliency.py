"""Where in an image a network's answer comes from: maps, and nothing else.

Every method but `OWN` works on any `models.heads.Classifier` by its `features`
and `classify`. All compute in float32, and leave files and pictures to
`explain`.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Logits of each target -> the (B,) number that is explained.
Score = Callable[[Mapping[str, jax.Array]], jax.Array]

CAMS = ('grad-cam', 'hirescam')
METHODS = (*CAMS, 'integrated-gradients', 'occlusion')
OWN = 'own-saliency'  # of `models.global_local` alone
# Of the standard image's height: the patch that is covered, and its step.
PATCH, STRIDE = 1 / 8, 1 / 16
# Integrated gradients: how far the sum may be off, as a share of the
# difference that it stands for, but no less than this share of one logit.
TOLERANCE = 0.01
_FIRST_STEPS, _MOST_STEPS = 32, 864
_BATCH = 16


def logit(target: str, index: int) -> Score:
  """The score that is one logit of a target."""
  return lambda logits: logits[target][:, index]


def cancer_log_odds(target: str) -> Score:
  """Log odds of the odd against the even classes, as `density_cancer` has."""

  def score(logits):
    one = logits[target]
    return jax.nn.logsumexp(one[:, 1::2], axis=1) - jax.nn.logsumexp(
      one[:, ::2], axis=1
    )

  return score


class Network:
  """A network, its variables and what of it is explained; compiled once.

  Args:
    model: a `models.heads.Classifier`, with float32 as its dtype.
    variables: its parameters and statistics.
    score: of its logits.
  """

  def __init__(self, model: nn.Module, variables: Any, score: Score):
    self._variables = variables
    self._call = _compiled(functools.partial(_call, model, score))
    self._gradient = _compiled(functools.partial(_gradient, model, score))
    self._cams = _compiled(functools.partial(_cams, model, score))
    self._covered = _compiled(functools.partial(_covered, model, score))
    self._own = _compiled(functools.partial(_own, model, score))

  def with_variables(self, variables: Any) -> 'Network':
    """The same network with other variables, compiled no second time."""
    found = copy.copy(self)
    found._variables = variables
    return found

  def score(self, image: np.ndarray, meta: np.ndarray) -> np.ndarray:
    """(B, H, W, 1) in [0, 1] and (B, M) -> (B,) float32 scores."""
    return np.asarray(self._call(self._variables, image, meta))

  def cells(
    self, image: np.ndarray, meta: np.ndarray, method: str
  ) -> tuple[np.ndarray, np.ndarray]:
    """A map of the last feature map's cells.

    Args:
      image: (B, H, W, 1) in [0, 1].
      meta: (B, M).
      method: 'grad-cam' (Selvaraju et al. 2017, arXiv:1610.02391) or 'hirescam'
        (Draelos and Carin 2020, arXiv:2011.08891): its sum is the logit without
        bias and metadata, where the head is linear after mean or max pooling.

    Returns:
      (B, h, w) float32, not negative for Grad-CAM, and (B,) scores.
    """
    *maps, scores = self._cams(self._variables, image, meta)
    return np.asarray(maps[CAMS.index(method)]), np.asarray(scores)

  def own(
    self, image: np.ndarray, meta: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The map that a `GlobalLocal` itself makes, and the patches it looks at.

    Of several logits the score counts, taken of the map at each place.

    Args:
      image: (B, H, W, 1) in [0, 1].
      meta: (B, M).

    Returns:
      (B, h, w) float32 probabilities; (B,) scores of the whole network; (B, N,
      2) int32, the upper left pixel of each patch; (B, N) float32, the weights
      of the patches.
      Source: Shen et al. 2021, arXiv:2002.07613.
    """
    found = self._own(self._variables, image, meta)
    return tuple(map(np.asarray, found))

  def integrated_gradients(
    self, image: np.ndarray, meta: np.ndarray
  ) -> tuple[np.ndarray, float, dict[str, float]]:
    """Integrated gradients from black (Sundararajan 2017, arXiv:1703.01365).

    Steps are added until the sum of the map is the score's difference from
    black, within `TOLERANCE`.

    Args:
      image: (H, W) in [0, 1].
      meta: (M,), held as it is.

    Returns:
      (H, W) float32; the score; and `steps`, the `difference` of the scores,
      and by how much the sum misses it, `error`.
    """
    ends = np.stack([image, np.zeros_like(image)])[..., None]
    last, first = self.score(ends, np.stack([meta, meta]))
    difference = float(last) - float(first)
    steps, total = _FIRST_STEPS, np.zeros(image.shape, np.float64)
    places = (np.arange(steps) + 0.5) / steps
    while True:
      total += self._sum_of_gradients(image, meta, places)
      found = total / steps * image
      error = float(found.sum()) - difference
      if abs(error) <= TOLERANCE * max(abs(difference), 1.0):
        break
      if steps >= _MOST_STEPS:
        break
      # The middles of thirds: the middle one of three is there already.
      steps *= 3
      places = (np.arange(steps) + 0.5) / steps
      places = places[np.arange(steps) % 3 != 1]
    said = {
      'steps': steps,
      'difference': difference,
      'error': error,
    }
    return found.astype(np.float32), float(last), said

  def _sum_of_gradients(self, image, meta, places) -> np.ndarray:
    total = np.zeros(image.shape, np.float64)
    for start in range(0, len(places), _BATCH):
      part = places[start : start + _BATCH]
      weights = np.zeros(_BATCH, np.float32)  # one compiled size for all
      weights[: len(part)] = part
      images = weights[:, None, None, None] * image[None, :, :, None]
      metas = np.repeat(meta[None], _BATCH, axis=0)
      found = self._gradient(self._variables, images, metas)
      total += np.asarray(found, np.float64)[: len(part), ..., 0].sum(axis=0)
    return total

  def occlusion(
    self,
    image: np.ndarray,
    meta: np.ndarray,
    mask: np.ndarray,
    *,
    patch: float = PATCH,
    stride: float = STRIDE,
  ) -> tuple[np.ndarray, float]:
    """What the score loses where a square of the breast gets the mean grey.

    Args:
      image: (H, W) in [0, 1].
      meta: (M,).
      mask: (H, W) bool, the breast; nothing else is covered, and its mean is
        what squares are filled with.
      patch: side of the square, as a share of H.
      stride: step of the square, as a share of H.

    Returns:
      (H, W) float32, at each pixel the mean loss of the squares that cover it,
      and the score.
      Source: Zeiler and Fergus 2014, arXiv:1311.2901.
    """
    height, width = image.shape
    whole = float(self.score(image[None, ..., None], meta[None])[0])
    if not mask.any():
      return np.zeros(image.shape, np.float32), whole
    side = min(max(1, round(patch * height)), height, width)
    step = max(1, round(stride * height))
    fill = np.float32(image[mask].mean())
    corners = [
      (top, left)
      for top in _starts(height, side, step)
      for left in _starts(width, side, step)
    ]
    count = np.zeros(image.shape, np.float64)
    for top, left in corners:
      count[top : top + side, left : left + side] += 1
    inside = [
      (top, left)
      for top, left in corners
      if mask[top : top + side, left : left + side].any()
    ]
    total = np.zeros(image.shape, np.float64)
    for start in range(0, len(inside), _BATCH):
      part = inside[start : start + _BATCH]
      places = np.zeros((_BATCH, 2), np.int32)
      places[: len(part)] = part
      scores = self._covered(
        self._variables, image, meta, mask, fill, places, side
      )
      for (top, left), one in zip(part, np.asarray(scores), strict=False):
        total[top : top + side, left : left + side] += whole - float(one)
    return (total / np.maximum(count, 1)).astype(np.float32), whole


def upsampled(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """(B, h, w) cells as (B, H, W), smooth between the cells' centres."""
  shape = (cells.shape[0], *size)
  return np.asarray(jax.image.resize(jnp.asarray(cells), shape, 'linear'))


def _starts(length: int, side: int, step: int) -> list[int]:
  """Where squares begin, so that the last one ends with the image."""
  last = length - side
  return sorted({*range(0, last + 1, step), last})


def _compiled(function):
  def exact(*args):
    # Where float32 products would be made of fewer bits, as on a GPU.
    with jax.default_matmul_precision('highest'):
      return function(*args)

  return jax.jit(exact)


def _call(model, score, variables, image, meta):
  return score(model.apply(variables, image, meta, False))


def _gradient(model, score, variables, image, meta):
  # No image looks at another, so the sum's gradient is each one's own.
  return jax.grad(
    lambda one: jnp.sum(_call(model, score, variables, one, meta))
  )(image)


def _cams(model, score, variables, image, meta):
  def features(image):
    return model.apply(variables, image, False, method=model.features)

  def total(maps):
    logits = model.apply(variables, maps, meta, False, method=model.classify)
    scores = score(logits)
    return jnp.sum(scores), scores

  maps = features(image).astype(jnp.float32)
  slopes, scores = jax.grad(total, has_aux=True)(maps)
  weights = jnp.mean(slopes, axis=(1, 2), keepdims=True)
  return (
    jax.nn.relu(jnp.sum(weights * maps, axis=-1)),
    jnp.sum(slopes * maps, axis=-1),
    scores,
  )


def _own(model, score, variables, image, meta):
  seen = model.apply(variables, image, method='look')
  (name, _), *_ = model.targets  # which alone has maps
  flat = seen.saliency.reshape(-1, seen.saliency.shape[-1])
  places = score({name: flat}).reshape(seen.saliency.shape[:3])
  scores = _call(model, score, variables, image, meta)
  return nn.sigmoid(places), scores, seen.corners, seen.weights


def _covered(model, score, variables, image, meta, mask, fill, places, side):
  row = jnp.arange(image.shape[0])[None, :, None]
  column = jnp.arange(image.shape[1])[None, None, :]
  top, left = places[:, 0, None, None], places[:, 1, None, None]
  square = (row >= top) & (row < top + side)
  square &= (column >= left) & (column < left + side)
  images = jnp.where(square & mask, fill, image)[..., None]
  metas = jnp.broadcast_to(meta, (len(places), *meta.shape))
  return _call(model, score, variables, images, metas)
