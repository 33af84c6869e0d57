"""What is said of an image by way of explanation: a map, and its place."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsna_jax import heat, inference, saliency

# Integrated gradients are grains, occlusion's squares steps; an eye, and the
# peak, want what lies behind. Standard deviation as a share of the height.
_SMOOTHING = {
  'integrated-gradients': 0.02,
  'occlusion': saliency.STRIDE / 2,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patch:
  """What a network has looked at closely.

  Attributes:
    box: top, left, bottom, right in original pixels.
    weight: in what all patches say together; the weights add up to 1.
  """

  box: tuple[float, float, float, float]
  weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
  """A map of what speaks for a class, and its place in the original.

  Attributes:
    name: the file's name.
    method: one of `explain.METHODS`, or `explain.OWN`.
    target: the class that is explained, such as 'cancer' or 'density_B'.
    score: its logit, or for cancer of `density_cancer` its log odds.
    prediction: what the model says, as `inference.Model.predict` has it.
    map: (H, W) float32 over the standard image: what speaks for the class, and
      where negative against it; 0 outside the breast.
    mask: (H, W) bool, the breast.
    peak: (x, y) in original pixels where most speaks for the class; None where
      nothing does.
    to_original: (2, 3), as in `preprocess.StandardImage`.
    original_shape: rows and columns.
    detail: what the method says of itself; of integrated gradients `steps`,
      `difference` and `error`.
    pixels: (H, W), the standard image.
    picture: (h, w) uint8 of the whole original, or None.
    patches: of `explain.OWN`, in the order in which the network chose them.
  """

  name: str
  method: str
  target: str
  score: float
  prediction: inference.Prediction
  map: np.ndarray
  mask: np.ndarray
  peak: tuple[float, float] | None
  to_original: np.ndarray
  original_shape: tuple[int, int]
  detail: Mapping[str, float]
  pixels: np.ndarray
  picture: np.ndarray | None = None
  patches: tuple[Patch, ...] = ()

  @property
  def box(self) -> tuple[float, float, float, float]:
    """Top, left, bottom, right of the breast in original pixels."""
    return self.prediction.box

  @property
  def probability(self) -> float:
    """Of the class that is explained, as the model predicts it."""
    if self.target == 'cancer':
      return self.prediction.cancer
    return self.prediction.probabilities[self.target]

  def smooth(self) -> np.ndarray:
    """(H, W) float32, the map as it is shown and as its peak is sought."""
    return heat.smoothed(self.map, self.mask, sigma(self.method, self.map))

  def on_original(self, shape: tuple[int, int] | None = None) -> np.ndarray:
    """The shown map over the whole original.

    Args:
      shape: (h, w) of a smaller copy of the original; None: its own.

    Returns:
      (h, w) float32; 0 outside the breast.
    """
    return heat.map_back(
      self.smooth(), self.to_original, self.original_shape, shape, self.mask
    )

  def to_json(self) -> dict[str, Any]:
    """Plain values of all but the map."""
    peak = self.peak
    return {
      'file': self.name,
      'method': self.method,
      'target': self.target,
      'probability': self.probability,
      'score': self.score,
      'probabilities': dict(self.prediction.probabilities),
      'box': _named(self.box),
      'peak': None if peak is None else {'x': peak[0], 'y': peak[1]},
      'original_shape': list(self.original_shape),
      'to_original': np.asarray(self.to_original).tolist(),
      'detail': dict(self.detail),
      'patches': [
        {'box': _named(one.box), 'weight': one.weight} for one in self.patches
      ],
    }


def sigma(method: str, values: np.ndarray) -> float:
  """Of the smoothing of a method's maps, in pixels."""
  return _SMOOTHING.get(method, 0.0) * values.shape[0]


def _named(box) -> dict[str, float]:
  return dict(zip(('top', 'left', 'bottom', 'right'), box, strict=True))
