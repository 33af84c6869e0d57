"""Starting from the weights of another run: another data set, size or head."""

from typing import Any

import jax
import numpy as np

from rsna_jax import errors, evaluate, steps
from rsna_jax import run as run_lib

_LAST_LAYER = 'head/logits/'


def start_from(state: steps.TrainState, run: run_lib.Run) -> steps.TrainState:
  """A first state with the weights of a finished run, wherever they fit.

  Of a last Dense layer on other metadata the rows of the pixels' features are
  taken. Prints what was loaded, and what was left as it was and why.

  Args:
    state: before the first step.
    run: that is to start; its config names the other in `model.init_from`.

  Raises:
    errors.RunError: the other is no run, nothing of it fits, or it was trained
      on the same data divided otherwise, and so on what is held out here.
  """
  workdir = run.config.model.init_from
  other = run_lib.load(workdir)
  if run.fingerprint in (other.fingerprint, *other.extra_fingerprints):
    for field in ('split', 'held_out', 'folds', 'fold', 'split_seed'):
      before, now = other.config.data[field], run.config.data[field]
      if before != now:
        raise errors.RunError(
          f'model.init_from={workdir!r}: was trained on the same data with '
          f'data.{field}={before!r}, here {now!r}: it has seen patients that '
          'are held out now; choose a run of other data, or of this division'
        )
  if (
    run.fingerprint in other.extra_fingerprints
    and other.config.data.extra_rows == 'all'
  ):
    raise errors.RunError(
      f'model.init_from={workdir!r}: was trained on all rows of these data '
      '(data.extra_rows=all), and so on what is held out now; choose a run of '
      'other data'
    )
  theirs, step = evaluate.restore(other)
  given = jax.device_get(steps.variables(theirs))
  widths = run.encoder.width, other.encoder.width
  params, loaded, left = _merge(state.params, given['params'], widths)
  batch_stats, _, _ = _merge(state.batch_stats, given['batch_stats'], widths)
  if not loaded:
    raise errors.RunError(
      f'model.init_from={workdir!r}: none of its arrays fits '
      f'(it is a {other.config.model.name}); choose a run of the same model'
    )
  print(f'starting from step {step} of {workdir}: {len(loaded)} arrays loaded')
  for name, reason in left:
    print(f'  not loaded: {name}: {reason}')
  return state.replace(
    params=params,
    batch_stats=batch_stats,
    ema_params=jax.tree.map(np.copy, params) if state.ema_params else {},
    ema_batch_stats=(
      jax.tree.map(np.copy, batch_stats) if state.ema_params else {}
    ),
  )


def _merge(
  ours: Any, theirs: Any, meta_widths: tuple[int, int]
) -> tuple[Any, list[str], list[tuple[str, str]]]:
  """Their arrays where name and shape agree, else ours."""
  our_meta, their_meta = meta_widths
  found = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(theirs)[0]
  }
  loaded, left = [], []

  def choose(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    other = found.get(name)
    if other is None:
      left.append((name, 'the other run has none'))
      return leaf
    if (
      name.startswith(_LAST_LAYER)
      and name.endswith('/kernel')
      and our_meta != their_meta
    ):
      # The features come first, the metadata after them.
      rows = leaf.shape[0] - our_meta
      if (rows, leaf.shape[1]) == (other.shape[0] - their_meta, other.shape[1]):
        loaded.append(name)
        left.append((name, 'the rows of the metadata, which differs'))
        return np.concatenate([other[:rows], np.asarray(leaf)[rows:]])
    if other.shape != leaf.shape:
      left.append((name, f'{other.shape} there, {leaf.shape} here'))
      return leaf
    loaded.append(name)
    return np.asarray(other)

  return jax.tree_util.tree_map_with_path(choose, ours), loaded, left
