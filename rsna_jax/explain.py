"""Why a model says what it says of an image: maps over the original's pixels.

The map is of the network in float32, without test-time augmentation; nothing
outside the breast counts.
"""

import dataclasses
import logging
import os
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsna_jax import (
  errors,
  heat,
  inference,
  results,
  saliency,
  schema,
  steps,
)
from rsna_jax.data import shown

METHODS = saliency.METHODS
# Integrated gradients are grains, occlusion's squares steps; an eye, and the
# peak, want what lies behind. Standard deviation as a share of the height.
_SMOOTHING = {
  'integrated-gradients': 0.02,
  'occlusion': saliency.STRIDE / 2,
}
_LOG = logging.getLogger('rsna_jax')
# Model -> what of it is compiled already.
_NETWORKS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
  """A map of what speaks for a class, and its place in the original.

  Attributes:
    name: the file's name.
    method: one of `METHODS`.
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
    return heat.smoothed(self.map, self.mask, _sigma(self.method, self.map))

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
    names = ('top', 'left', 'bottom', 'right')
    peak = self.peak
    return {
      'file': self.name,
      'method': self.method,
      'target': self.target,
      'probability': self.probability,
      'score': self.score,
      'probabilities': dict(self.prediction.probabilities),
      'box': dict(zip(names, self.box, strict=True)),
      'peak': None if peak is None else {'x': peak[0], 'y': peak[1]},
      'original_shape': list(self.original_shape),
      'to_original': np.asarray(self.to_original).tolist(),
      'detail': dict(self.detail),
    }


def explain(
  model: inference.Model,
  source: str | os.PathLike | bytes,
  method: str = 'hirescam',
  metadata: Mapping[str, Any] | None = None,
  target: str | None = None,
) -> Explanation:
  """Explains what a model says of one image.

  Args:
    model: what `inference.load_model` returns.
    source: path or bytes of a file (DICOM, PNG, JPEG, PGM).
    method: grad-cam | hirescam | integrated-gradients | occlusion.
    metadata: columns of `schema.METADATA_COLUMNS`, before what the file says.
    target: name of a class, or 'cancer'; None: cancer, or the most probable
      class of a target that does not speak of cancer.

  Raises:
    errors.InputError: the file is no usable mammogram, the model sees no pixels
      or has no such class, or an unknown method or column.
  """
  check(model, method, target)
  unknown = set(metadata or {}) - set(schema.METADATA_COLUMNS)
  if unknown:
    raise errors.InputError(
      f'metadata: {", ".join(sorted(unknown))}: choose from '
      + ', '.join(schema.METADATA_COLUMNS)
    )
  name = 'image' if isinstance(source, bytes) else str(source)
  if not isinstance(source, bytes) and not os.path.isfile(source):
    raise errors.DataError(f'{name}: no such file')
  found = shown.shown_file((source, model.spec.to_json(), 0))
  known = {k: v for k, v in (metadata or {}).items() if v is not None}
  found['attributes'].update(known)
  return explain_decoded(model, name, found, method, target)


def check(model: inference.Model, method: str, target: str | None) -> None:
  """Checks that a model can be explained so.

  Raises:
    errors.InputError: an unknown method or class, or no single network of
      pixels.
  """
  if method not in METHODS:
    raise errors.ConfigError(f'method {method!r}: choose {", ".join(METHODS)}')
  model.network()
  classes = _classes(model)
  if target is not None and target not in classes:
    raise errors.ConfigError(
      f'target {target!r}: this model has {", ".join(classes)}'
    )


def explain_decoded(
  model: inference.Model,
  name: str,
  found: Mapping[str, Any],
  method: str,
  target: str | None = None,
) -> Explanation:
  """Explains what `data.shown.shown_file` has made of a file."""
  prepared = inference.Prepared(
    name, found['pixels'], found['box'], dict(found['attributes'])
  )
  (prediction,) = model.predict_prepared([prepared])
  if target is None:
    said = prediction.probabilities
    target = 'cancer'
    if prediction.cancer is None:
      target = max(said, key=said.get)
  network = _network(model, target)
  image = np.asarray(steps.to_float(found['pixels']))
  meta = model.metadata([prepared])[0]
  mask = heat.breast_mask(image)
  raw, score, detail = _map(network, image, meta, mask, method)
  raw = np.where(mask, raw, np.float32(0))
  if detail and abs(detail['error']) > saliency.TOLERANCE * max(
    abs(detail['difference']), 1
  ):
    _LOG.warning(
      '%s: the sum of the integrated gradients misses the difference of %.3g '
      'by %.3g',
      name,
      detail['difference'],
      detail['error'],
    )
  return Explanation(
    name=name,
    method=method,
    target=target,
    score=score,
    prediction=prediction,
    map=raw,
    mask=mask,
    peak=heat.peak(
      heat.smoothed(raw, mask, _sigma(method, raw)), found['to_original']
    ),
    to_original=found['to_original'],
    original_shape=tuple(found['original_shape']),
    detail=detail,
    pixels=found['pixels'],
    picture=found['picture'],
  )


def _classes(model: inference.Model) -> tuple[str, ...]:
  names = results.class_names(model.config.data.target)
  if model.config.data.target == 'density_cancer':
    return ('cancer', *names)
  return names


def _network(model: inference.Model, target: str) -> saliency.Network:
  """The network for one class, made and compiled once for each model."""
  known = _NETWORKS.setdefault(model, {})
  if target not in known:
    of = model.config.data.target
    if target == 'cancer' and of != 'cancer':
      score = saliency.cancer_log_odds(of)
    else:
      score = saliency.logit(of, results.class_names(of).index(target))
    known[target] = saliency.Network(*model.network(), score)
  return known[target]


def _map(network, image, meta, mask, method):
  """(H, W) map, the score, and what the method says of itself."""
  if method == 'integrated-gradients':
    return network.integrated_gradients(image, meta)
  if method == 'occlusion':
    return *network.occlusion(image, meta, mask), {}
  cells, score = network.cells(image[None, ..., None], meta[None], method)
  return saliency.upsampled(cells, image.shape)[0], float(score[0]), {}


def _sigma(method: str, values: np.ndarray) -> float:
  return _SMOOTHING.get(method, 0.0) * values.shape[0]
