"""Predicting by a network of many views: each image once, then the breasts.

The trunk's work is that of a network of single images, in the same programs and
batches, although an image may stand in several examples; what joins the images
is small.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import steps, tta
from rsna_jax.data import groups as groups_lib


def pooled_step(
  state: steps.TrainState,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  names: Sequence[str] = (),
  axis: str | None = None,
) -> dict[str, jax.Array]:
  """What the trunk makes of single images.

  Args:
    state: as in `steps.predict_step`.
    batch: its `image` (N, H, W, 1).
    model: a `many_view.ManyView`.
    names: of the views of `tta`.
    axis: unused.

  Returns:
    `pooled` (N, A, C) float32, A being the number of views of `tta`.
  """
  del axis
  image, _ = steps.inputs(batch)
  variables = steps.variables(state)
  found = tta.each_view(
    lambda seen: model.apply(variables, seen, False, method='pooled'),
    image,
    names,
  )
  return {'pooled': jnp.swapaxes(found, 0, 1)}


def head(state: steps.TrainState) -> dict[str, Any]:
  """The variables that join images, on the host."""
  params = steps.variables(state)['params']
  return {'params': {'head': jax.device_get(params['head'])}}


def outputs(
  variables: Mapping[str, Any],
  pooled: np.ndarray,
  meta: np.ndarray,
  groups: groups_lib.Groups,
  *,
  model: nn.Module,
  sizes: Sequence[int],
) -> dict[str, np.ndarray]:
  """The answer to each image's breast.

  Args:
    variables: what `head` returns.
    pooled: (N, A, C) float32, as `pooled_step` gives them; the logits of A are
      averaged, as `tta.predict_step` does.
    meta: (N, M) float32; that of a breast's first image counts.
    groups: of the N images.
    model: a `many_view.ManyView`.
    sizes: of batches, ascending; a part of one is padded to the next.

  Returns:
    {target: (N, K) float32}, equal for the images of a breast.
  """
  found = []
  for start in range(0, len(groups), sizes[-1]):
    breasts = np.arange(start, min(start + sizes[-1], len(groups)))
    n = len(breasts)
    size = next(size for size in sizes if size >= n)
    images, slots = groups.choose(breasts)
    x = np.zeros((size, groups.slots, *pooled.shape[1:]), np.float32)
    # An empty slot holds any image; nothing looks at it.
    x[:n] = pooled[np.maximum(images, 0)]
    codes = np.full((size, *slots.shape[1:]), groups_lib.EMPTY, np.int32)
    codes[:n] = slots
    known = np.zeros((size, meta.shape[1]), np.float32)
    known[:n] = meta[groups.first[breasts]]
    out = _JOIN(variables, x, codes, known, model=model)
    found.append(jax.tree.map(lambda y, n=n: np.asarray(y)[:n], out))
  return {
    name: np.concatenate([part[name] for part in found])[groups.of_image]
    for name in found[0]
  }


def _join(variables, pooled_BxVxAxC, slots, meta, *, model):
  each = jax.vmap(
    lambda x: model.apply(variables, x, slots, meta, False, method='join'), 2
  )(pooled_BxVxAxC)
  return jax.tree.map(lambda x: jnp.mean(x, axis=0), each)


# One cache for all models, so that the folds of an ensemble compile once.
_JOIN = jax.jit(_join, static_argnames='model')
