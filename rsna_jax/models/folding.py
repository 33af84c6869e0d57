"""Batch normalisation folded into the convolutions before it, for prediction.

In prediction a normalisation is a factor and an offset of each channel. The
factor goes into the kernel of the layer whose output it normalises, the offset
stays to be added. Which layer that is, is seen as the network is traced, so any
network of `layers` can be folded; what follows no such layer stays as it is.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax.models import layers

_LINEAR = (
  layers.Conv3x3,
  layers.Depthwise,
  layers.Depthwise3x3,
  layers.Pointwise,
)


def fold(
  model: nn.Module,
  variables: Mapping[str, Any],
  image_size: tuple[int, int],
  meta_width: int,
  channels: int = 1,
) -> dict[str, Any]:
  """Variables of the same network that predict the same with less to compute.

  Args:
    model: the network, in float32: rounded to fewer bits, a kernel that holds
      the factor is another than one that does not.
    variables: `params` and `batch_stats`.
    image_size: (H, W) of any image that the network takes.
    meta_width: M of the metadata.
    channels: of the images.

  Returns:
    `params` and `batch_stats` for prediction only, on the devices of
    `variables`; logits differ by rounding alone.
  """
  flat = {
    room: flax.traverse_util.flatten_dict(variables.get(room, {}))
    for room in ('params', 'batch_stats')
  }
  params, stats = dict(flat['params']), dict(flat['batch_stats'])
  image = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
  meta = jax.ShapeDtypeStruct((1, meta_width), jnp.float32)
  for linear, norm, epsilon in _pairs(model, variables, image, meta):
    inner = (*norm, 'norm')
    mean, variance, scale, bias = (
      np.asarray(x, np.float64)
      for x in (
        stats.pop((*inner, 'mean')),
        stats.pop((*inner, 'var')),
        params.pop((*inner, 'scale')),
        params.pop((*inner, 'bias')),
      )
    )
    factor = scale / np.sqrt(variance + epsilon)
    for name in ('kernel', 'bias'):
      if (*linear, name) in params:
        old = params[*linear, name]
        params[*linear, name] = _as(np.asarray(old, np.float64) * factor, old)
    stats[*norm, layers.BatchNorm.SHIFT] = _as(
      bias - mean * factor, flat['params'][*inner, 'bias']
    )
  return {
    'params': flax.traverse_util.unflatten_dict(params),
    'batch_stats': flax.traverse_util.unflatten_dict(stats),
  }


def _as(values: np.ndarray, like: Any) -> jax.Array:
  values = values.astype(np.float32)
  sharding = getattr(like, 'sharding', None)
  return jnp.asarray(values, device=sharding)


def _pairs(model, variables, image, meta) -> list[tuple]:
  """(path of a layer, path of the normalisation of its output, epsilon).

  A layer that is called several times counts where each call is normalised by
  the same.
  """
  made: dict[int, tuple] = {}
  calls: dict[tuple, list] = {}
  epsilons: dict[tuple, float] = {}

  def intercept(call, args, kwargs, context):
    module = context.module
    if context.method_name != '__call__':
      return call(*args, **kwargs)
    if isinstance(module, layers.BatchNorm):
      epsilons[module.path] = module.epsilon
      seen = args[0] if args else kwargs['x']
      if id(seen) in made:
        made[id(seen)][1].append(module.path)
    out = call(*args, **kwargs)
    if isinstance(module, _LINEAR):
      users: list = []
      # Kept with the output, whose id nothing else can have meanwhile.
      made[id(out)] = (out, users)
      calls.setdefault(module.path, []).append(users)
    return out

  def trace(variables, image, meta):
    with nn.intercept_methods(intercept):
      return model.apply(variables, image, meta, False)

  jax.eval_shape(trace, variables, image, meta)
  norms: dict[tuple, set] = {}
  for path, users in calls.items():
    for used in users or [[]]:
      for norm in used or [None]:
        norms.setdefault(path, set()).add(norm)
  sources: dict[tuple, set] = {}
  for path, found in norms.items():
    for norm in found - {None}:
      sources.setdefault(norm, set()).add(path)
  return [
    (path, norm, epsilons[norm])
    for path, found in norms.items()
    for norm in found
    if norm is not None and len(found) == 1 and len(sources[norm]) == 1
  ]
