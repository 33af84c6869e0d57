"""Maps for the report's pictures of errors, by the network that was judged."""

from collections.abc import Callable

import jax
import numpy as np

from rsna_jax import heat, models, parallel, saliency, steps
from rsna_jax.data import preprocess

METHOD = 'hirescam'


def explainer(
  c, encoder, state, data
) -> Callable[[int], np.ndarray | None] | None:
  """What `reporting.write` takes as `explain`; None where nothing can be shown.

  Args:
    c: the run's config.
    encoder: of its metadata.
    state: of the checkpoint.
    data: the prepared data set.

  Returns:
    Row in `data` -> (H, W) float32 in [0, 1] over the standard image: what
    speaks for cancer, as a share of the most; None where nothing does.
  """
  target = c.data.target
  if not data.has_images or target == 'density' or c.model.name == 'meta':
    return None
  found = []

  def explain(row: int) -> np.ndarray | None:
    if not found:  # compiled when the first picture is asked for
      plain = c.copy_and_resolve_references()
      plain.train.dtype = 'float32'
      score = (
        saliency.logit(target, 0)
        if target == 'cancer'
        else saliency.cancer_log_odds(target)
      )
      found.append(
        saliency.Network(
          models.create(
            plain, axis_name=parallel.axis_name(plain.parallel.mode)
          ),
          # Of several hosts one draws, so on a device of its own.
          jax.device_put(
            jax.device_get(steps.variables(state)), jax.local_devices()[0]
          ),
          score,
        )
      )
    image = np.asarray(
      steps.to_float(preprocess.decode_png(data.read([row])[0]))
    )
    meta = encoder.encode(data.table.take(np.array([row])))
    cells, _ = found[0].cells(image[None, ..., None], meta, METHOD)
    values = saliency.upsampled(cells, image.shape)[0]
    values = np.where(heat.breast_mask(image), np.maximum(values, 0), 0)
    most = values.max(initial=0)
    return (values / most).astype(np.float32) if most > 0 else None

  return explain
