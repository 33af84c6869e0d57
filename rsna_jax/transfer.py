"""Starting from given weights: of another run, or published ones.

The other run may have another data set, size or head.
"""

import os
from typing import Any

import jax
import ml_collections
import numpy as np

from rsna_jax import (
  checkpoint,
  errors,
  evaluate,
  models,
  optim,
  steps,
  transfer_report,
  weights_folder,
)
from rsna_jax import config as config_lib
from rsna_jax import run as run_lib

_LAST_LAYER = 'head/logits/'
_EMBEDDING = f'{_LAST_LAYER}embedding/'


# Of config.model, that go with weights.
_FIELDS = ('epsilon', 'pool_padding', 'input_scale')


def inherit(c: ml_collections.ConfigDict, workdir: str | os.PathLike) -> None:
  """Sets the fields that the weights to start from were trained with.

  They are kept in the run's config, so a run that goes on has them from there.

  Args:
    c: config of the run; `model.init_from` is read.
    workdir: of the run.

  Raises:
    errors.InputError: there are no such weights, they are of another network,
      or a field is set to another value.
  """
  where = c.model.init_from
  if not where:
    return
  if checkpoint.finished_steps(workdir):
    given = run_lib.load(workdir).config.model
  elif weights_folder.is_folder(where):
    given = weights_folder.fields(where, models.trunk_name(c))
  else:
    if not os.path.isfile(os.path.join(where, 'config.json')):
      raise errors.ConfigError(
        f'model.init_from={where!r}: neither a run (no config.json) nor a '
        'folder that rsna-jax weights wrote; name one'
      )
    other = run_lib.load(where).config
    if models.trunk_name(other) != models.trunk_name(c):
      return
    given = other.model
  unset = config_lib.default().model
  for field in _FIELDS:
    value = given.get(field, unset[field])
    if c.model[field] == unset[field]:
      c.model[field] = value
    elif value not in (unset[field], c.model[field]):
      raise errors.ConfigError(
        f'model.{field}={c.model[field]!r}: the weights of model.init_from='
        f'{where!r} were trained with {value!r}; leave it out'
      )


def begin(
  state: steps.TrainState, run: run_lib.Run
) -> tuple[steps.TrainState, transfer_report.Report]:
  """A first state with given weights: of a finished run, wherever they fit.

  Of a last Dense layer on other metadata the rows of the pixels' features are
  taken. Prints what was loaded, and what was left as it was and why; the
  report says the same.

  Args:
    state: before the first step.
    run: that is to start; its config names the other in `model.init_from`.

  Raises:
    errors.RunError: the other is no run, nothing of it fits, or it was trained
      on the same data divided otherwise, and so on what is held out here.
  """
  workdir = run.config.model.init_from
  if weights_folder.is_folder(workdir):
    return _published(state, run)
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
  _fill_local(state.params, given)
  widths = _behind(run, state.params), _behind(other, given['params'])
  same = _meaning(run) == _meaning(other)
  params, loaded, left, unused = _merge(
    state.params, given['params'], widths, same
  )
  batch_stats, *statistics = _merge(
    state.batch_stats, given['batch_stats'], widths, same
  )
  # A bias of the head alone, on a trunk that stays random, is no start.
  part = 'trunk/' if 'trunk' in state.params else ''
  places = (part, weights_folder.LOCAL + part)
  if not any(name.startswith(places) for name in loaded):
    raise errors.RunError(
      f'model.init_from={workdir!r}: none of its arrays fits '
      f'{"the trunk " if part else ""}(it is a {other.config.model.name} of '
      f'width {other.config.model.width}); choose a run of the same model'
    )
  name, size = other.config.model.name, tuple(other.config.data.size)
  report = transfer_report.Report(
    source=f'step {step} of {workdir} ({name}, {size[0]}x{size[1]})',
    loaded=loaded | statistics[0],
    left=left | statistics[1],
    unused=(*unused, *statistics[2]),
  )
  print(report.text())
  return _replaced(state, params, batch_stats, run), report


def _fill_local(ours: Any, given: dict) -> None:
  """Gives a network of one trunk the same as its second one, where we have it.

  A network of two trunks needs both to know what a picture is.
  """
  name = weights_folder.LOCAL.rstrip('/')
  if name in ours and name not in given['params']:
    for room in given.values():
      if 'trunk' in room:
        room[name] = {'trunk': room['trunk']}


def _published(state: steps.TrainState, run: run_lib.Run):
  """A first state with all that `rsna-jax weights` wrote."""
  folder = run.config.model.init_from
  found = weights_folder.load(folder)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  merged, why = weights_folder.merge(variables, found, folder)
  loaded, left = {}, {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(merged):
    room, _, name = _name(path).partition('/')
    if f'{room}/{name}'.replace(weights_folder.LOCAL, '') not in found.arrays:
      left[name] = 'the weights have none'
    elif name in why:
      left[name] = why[name]
    else:
      loaded[name] = leaf.size
  about = [f'model.{key}={x}' for key, x in found.fields.items()]
  about.append(f'SHA-256 {found.source["sha256"]}')
  report = transfer_report.Report(
    source=f'{found.model} of {found.source["name"]} ({", ".join(about)})',
    loaded=loaded,
    left=left,
    unused=tuple(found.left),
  )
  print(report.text())
  return _replaced(state, merged['params'], merged['batch_stats'], run), report


def _replaced(state, params, batch_stats, run) -> steps.TrainState:
  if optim.slow_weights(state.opt_state) is not None:
    # Slow weights begin where the fast ones do.
    state = state.replace(opt_state=optim.create(run.config).init(params))
  return state.replace(
    params=params,
    batch_stats=batch_stats,
    ema_params=jax.tree.map(np.copy, params) if state.ema_params else {},
    ema_batch_stats=(
      jax.tree.map(np.copy, batch_stats) if state.ema_params else {}
    ),
  )


def _behind(run: run_lib.Run, params: Any) -> int:
  """Rows of a last layer that stand behind those of the pixels' features."""
  c, count = run.config, run.encoder.width
  if count and c.model.metadata_embedding:
    count = c.model.metadata_embedding
  if c.data.group == 'exam':  # the other breast, and the difference
    count += 2 * params['head']['codes']['view'].shape[-1]
  return count


def _meaning(run: run_lib.Run) -> list[str]:
  """What each slot of the metadata is; knots of the age may have moved."""
  hat = 'age_hat_'
  return [hat if x.startswith(hat) else x for x in run.encoder.names]


def _merge(
  ours: Any, theirs: Any, behind: tuple[int, int], same: bool
) -> tuple[Any, dict[str, int], dict[str, str], list[str]]:
  """Their arrays where name and shape agree, else ours.

  Args:
    ours: a tree.
    theirs: likewise.
    behind: as `_behind` has it, of both.
    same: whether both have the same metadata; if not, equal shapes may lie.

  Returns:
    The tree; values of what was taken; why what was left was; what of theirs
    has no place.
  """
  our_rest, their_rest = behind
  found = {
    _name(path): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(theirs)[0]
  }
  loaded, left = {}, {}

  def choose(path, leaf):
    name = _name(path)
    other = found.pop(name, None)
    if other is None:
      left[name] = 'the other run has none'
      return leaf
    if name.startswith(_EMBEDDING) and not same:
      left[name] = 'of other metadata'
      return leaf
    if (
      name.startswith(_LAST_LAYER)
      and name.endswith('/kernel')
      and (our_rest != their_rest or not same)
    ):
      # The features come first, the metadata after them.
      rows = leaf.shape[0] - our_rest
      if (rows, leaf.shape[1]) == (other.shape[0] - their_rest, other.shape[1]):
        loaded[name] = other[:rows].size
        left[name] = 'the rows behind the features, which differ'
        return np.concatenate([other[:rows], np.asarray(leaf)[rows:]])
    if other.shape != leaf.shape:
      left[name] = f'{other.shape} there, {leaf.shape} here'
      return leaf
    loaded[name] = leaf.size
    return np.asarray(other)

  merged = jax.tree_util.tree_map_with_path(choose, ours)
  return merged, loaded, left, list(found)


def _name(path: tuple) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')
