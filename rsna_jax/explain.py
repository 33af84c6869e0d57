"""Why a model says what it says of an image: maps over the original's pixels.

The map is of the network in float32, without test-time augmentation; nothing
outside the breast counts.
"""

import logging
import os
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsna_jax import (
  errors,
  explanation,
  heat,
  inference,
  results,
  saliency,
  schema,
  steps,
)
from rsna_jax.data import shown

METHODS = saliency.METHODS
OWN = saliency.OWN
Explanation = explanation.Explanation
# Whose maps are never below 0.
UNSIGNED = ('grad-cam', OWN)
_LOG = logging.getLogger('rsna_jax')
# Model -> what of it is compiled already.
_NETWORKS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


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
    method: grad-cam | hirescam | integrated-gradients | occlusion, and of
      global_local own-saliency: the probabilities of its own map, by which it
      chooses its patches.
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


def methods(model: inference.Model) -> tuple[str, ...]:
  """By which a model can be explained."""
  own = model.config.model.name == 'global_local'
  return (*METHODS, OWN) if own else METHODS


def check(model: inference.Model, method: str, target: str | None) -> None:
  """Checks that a model can be explained so.

  Raises:
    errors.InputError: an unknown method or class, or no single network of
      pixels.
  """
  known = (*METHODS, OWN)
  if method not in known:
    raise errors.ConfigError(f'method {method!r}: choose {", ".join(known)}')
  model.network()
  known = methods(model)
  if method not in known:
    raise errors.ConfigError(
      f'method {method!r}: model.name={model.config.model.name} makes no map '
      f'of its own, as global_local does: choose {", ".join(known)}'
    )
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
  patches = ()
  if method == OWN:
    cells, scores, corners, weights = network.own(
      image[None, ..., None], meta[None]
    )
    raw, score = saliency.upsampled(cells, image.shape)[0], float(scores[0])
    side, detail = model.config.model.patch_size, {}
    patches = _patches(corners[0], weights[0], side, found['to_original'])
  else:
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
      heat.smoothed(raw, mask, explanation.sigma(method, raw)),
      found['to_original'],
    ),
    to_original=found['to_original'],
    original_shape=tuple(found['original_shape']),
    detail=detail,
    pixels=found['pixels'],
    picture=found['picture'],
    patches=patches,
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


def _patches(
  corners, weights, side: int, to_original
) -> tuple[explanation.Patch, ...]:
  """(N, 2) upper left pixels and (N,) weights as patches of the original."""
  found = []
  for (top, left), weight in zip(corners.tolist(), weights, strict=True):
    ends = [(left, top, 1.0), (left + side, top + side, 1.0)]
    # A mirrored image has its left and right exchanged.
    (x0, x1), (y0, y1) = np.sort(np.asarray(to_original) @ np.transpose(ends))
    box = tuple(map(float, (y0, x0, y1, x1)))
    found.append(explanation.Patch(box=box, weight=float(weight)))
  return tuple(found)
