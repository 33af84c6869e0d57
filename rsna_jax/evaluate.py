"""Evaluation: every example once, images to breasts, metrics with intervals.

`evaluate(...)` is the programmatic API; it reads a run directory and writes
predictions, metrics and a report below it.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping

import jax
import ml_collections
import numpy as np

from rsna_jax import (
  aggregate,
  checkpoint,
  division,
  error_maps,
  errors,
  joining,
  losses,
  models,
  optim,
  parallel,
  reporting,
  results,
  schema,
  steps,
  tta,
  watch,
)
from rsna_jax import auxiliary as auxiliary_lib
from rsna_jax import run as run_lib
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import groups, metadata, order, reader
from rsna_jax.options import evaluation as options_lib
from rsna_jax.options import loss as loss_options
from rsna_jax.scoring import auxiliary_score, score, scored_sets
from rsna_jax.stats import pooling

# Of many views: breasts that are joined at a time, and images in memory.
_BREASTS, _IMAGES = 256, 4096
SPLITS = ('train', 'validation', 'test', 'all', 'submission')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """What a model says of one split, and how right it is.

  Attributes:
    split: its name.
    step: of the checkpoint.
    metrics: the content of metrics.json; empty where no label is known.
    predictions: columns of (N,) arrays, a row an image.
    breasts: columns of (B,) arrays, a row a breast.
    folder: where the files were written, or None.
  """

  split: str
  step: int
  metrics: dict
  predictions: dict[str, np.ndarray]
  breasts: dict[str, np.ndarray]
  folder: pathlib.Path | None


class Predictor:
  """A compiled `predict_step`, and the batches that it wants.

  Args:
    c: the run's config.
    encoder: of its metadata.
  """

  def __init__(self, c, encoder: metadata.Encoder):
    self._config = c
    self._encoder = encoder
    self._mesh = parallel.mesh_for_prediction(c.parallel.space)
    self._model = create_model(c)
    step = tta.predict_step if c.data.group == 'image' else joining.pooled_step
    self._step = parallel.wrap_predict(
      functools.partial(step, model=self._model, names=tuple(c.eval.tta)),
      c.parallel.mode,
      self._mesh,
    )

  def __call__(self, state, data, rows: np.ndarray) -> np.ndarray:
    """Logits of the data set's `rows`, each seen once.

    Returns:
      (len(rows), K) float32, K being the target's number of logits. With
      `data.group` the images of a breast have its answer; up to `eval.views`
      of them are joined, of different views first.
    """
    return self.outputs(state, data, rows)[self._config.data.target]

  def outputs(self, state, data, rows: np.ndarray) -> dict[str, np.ndarray]:
    """As when called, of each target of the network: {target: (N, K)}."""
    if self._config.data.group == 'image':
      return self._of_images(state, data, rows)
    blocks = _blocks(data.table['patient_id'][rows])
    found = [self._of_breasts(state, data, rows[places]) for places in blocks]
    back = np.argsort(np.concatenate(blocks))
    return {
      name: np.concatenate([part[name] for part in found])[back]
      for name in found[0]
    }

  def _of_breasts(self, state, data, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs for breasts, of all rows of some patients."""
    c = self._config
    return joining.outputs(
      joining.head(state),
      self._of_images(state, data, rows)['pooled'],
      self._encoder.encode(data.table.take(rows)),
      groups.of_rows(
        data, rows, views=c.eval.views, compare=c.data.group == 'exam'
      ),
      model=self._model,
      sizes=(_BREASTS,),
    )

  def _of_images(self, state, data, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of the step for each row, (N, ...)."""
    c = self._config
    devices = parallel.data_size(self._mesh)
    plan = order.EvalOrder(
      len(rows), -(-c.eval.batch_size // devices) * devices
    )
    batches = reader.batches(
      c.data.reader,
      data,
      rows,
      plan,
      self._encoder,
      target=c.data.target,
      threads=c.data.threads,
      prefetch=c.data.prefetch,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    found = []
    for batch in watch.Ahead(batches, c.data.dir, c.train.stall_s):
      placed = parallel.place_batch(batch, c.parallel.mode, self._mesh)
      found.append(self._step(state, placed))
    return {
      name: np.concatenate([part[name] for part in found])[: len(rows)]
      for name in found[0]
    }


def _blocks(patients: np.ndarray) -> list[np.ndarray]:
  """Places by patient, in parts of a few thousand whose memory is small."""
  order_of = np.argsort(patients, kind='stable')
  starts = np.flatnonzero(np.diff(patients[order_of])) + 1
  ends = [0]
  for start in starts.tolist():
    if start - ends[-1] >= _IMAGES:
      ends.append(start)
  return np.split(order_of, ends[1:])


def create_model(c):
  """The network of a config, for its mode of parallel work."""
  return models.create(c, axis_name=parallel.axis_name(c.parallel.mode))


def evaluate(
  workdir: str | os.PathLike,
  *,
  data_dir: str | os.PathLike | None = None,
  split: str = 'validation',
  which: str | None = None,
  write: bool = True,
  options: ml_collections.ConfigDict | None = None,
) -> Evaluation:
  """Evaluates a run on one split of a prepared data set.

  Args:
    workdir: the run directory.
    data_dir: what `rsna-jax prepare` wrote; None: what the run was trained on.
    split: train | validation | test as the run divides the patients, all (the
      labelled rows of another data set), or submission (rows without labels).
    which: the checkpoint: best | latest; None: config.eval.checkpoint.
    write: whether to write `eval/<split>/` below `workdir`.
    options: takes the place of the run's `config.eval`.

  Raises:
    errors.InputError: the run, the data or the split is not usable.
  """
  if split not in SPLITS:
    raise errors.ConfigError(
      f'split {split!r}: choose one of {", ".join(SPLITS)}'
    )
  run = run_lib.load(workdir)
  c = run.config.copy_and_resolve_references()
  if data_dir is not None:
    c.data.dir = os.path.abspath(data_dir)
  if options is not None:
    c.eval.update(options)
    which = which or c.eval.checkpoint
  data = dataset_lib.open_dataset(c)
  rows = division.select_rows(
    c, data, split, run.fingerprint, run.extra_fingerprints
  )
  state, step = restore(run, which)
  outputs = Predictor(c, run.encoder).outputs(state, data, rows)
  return judge(
    c,
    run.workdir,
    data,
    rows,
    outputs,
    split=split,
    step=step,
    write=write,
    explain=error_maps.explainer(c, run.encoder, state, data),
  )


def restore(run: run_lib.Run, which: str | None = None, mesh=None):
  """The state of a run's checkpoint on the devices, and its step.

  Args:
    run: as `run.load` read it.
    which: best | latest; None: `eval.checkpoint` of its config.
    mesh: the devices; None: all, as `Predictor` has them.

  Raises:
    errors.RunError: there is no usable checkpoint.
  """
  c = run.config
  which = which or c.eval.checkpoint
  if which not in options_lib.CHECKPOINTS:
    raise errors.ConfigError(f'checkpoint {which!r}: choose best or latest')
  model = create_model(c)
  try:
    state = jax.eval_shape(
      lambda: steps.create_state(
        model,
        optim.create(c),
        c,
        jax.random.key(c.seed),
        meta_width=run.encoder.width,
      )
    )
  except (RuntimeError, MemoryError, OverflowError) as error:
    # Constants are made even where shapes alone are asked for.
    raise errors.RunError(
      f'{run.workdir}: the network of config.json cannot be made '
      f'({type(error).__name__}): it is damaged, or too big for this machine'
    ) from error
  with checkpoint.Checkpoints(run.workdir, read_only=True) as saved:
    step = saved.best() if which == 'best' else saved.latest()
    if step is not None and saved.damage(step) is not None:
      step = None  # the newest undamaged one, with a warning
    restored = saved.restore(state, step)
  if restored is None:
    raise errors.RunError(
      f'{run.workdir}: no checkpoint yet; run the training first'
    )
  mesh = mesh or parallel.mesh_for_prediction(c.parallel.space)
  return parallel.place_state(restored.state, mesh), restored.step


def quick_scores(c, data, rows: np.ndarray, logits: np.ndarray) -> dict:
  """A few metrics without intervals, for the curve of a training run.

  Returns:
    `score`, by which the best checkpoint is chosen, and what it is.
  """
  table = data.table.take(rows)
  target = c.data.target
  labels = schema.target_labels(table.columns, target)
  known = labels != schema.MISSING
  scores = {'loss': _mean_loss(c, logits[known], labels[known])}
  probability = schema.cancer_probability(logits, target)
  if probability is not None:
    scores |= scored_sets.breast_scores(
      table.columns, probability, how=c.eval.aggregate
    )
    scores['score'] = scores['roc_auc']
  if schema.TARGETS[target] > 1:
    guess = logits[known].argmax(axis=1)
    scores['accuracy'] = float((guess == labels[known]).mean())
    scores['score'] = scores['accuracy']
  return scores


def judge(
  c,
  workdir: pathlib.Path,
  data,
  rows: np.ndarray,
  outputs: Mapping[str, np.ndarray],
  *,
  split: str,
  step: int,
  write: bool = True,
  explain: reporting.Explain | None = None,
) -> Evaluation:
  """Metrics of finished predictions, and their files.

  `outputs` is what `Predictor.outputs` gives for `rows`. `explain` gives the
  maps of the report's worst errors, as `error_maps.explainer` makes it.
  """
  table = data.table.take(rows)
  target = c.data.target
  logits = outputs[target]
  auxiliary = {name: outputs[name] for name in loss_options.targets(c)}
  probability = schema.cancer_probability(logits, target)
  predictions = results.prediction_columns(
    c, table, logits, division.folds_of(c, data, rows, split), auxiliary
  )
  breasts, metrics = {}, {}
  # What was fitted on validation is used elsewhere as it is.
  elsewhere = split in ('test', 'all', 'submission')
  learned = results.learned_of(workdir) if elsewhere else None
  chosen = results.decision_of(workdir) if elsewhere else None
  if split != 'submission':
    metrics = score.score_target(
      table.columns,
      schema.target_probabilities(logits, target),
      target,
      aggregate=c.eval.aggregate,
      bootstrap=c.eval.bootstrap,
      seed=c.seed,
      threshold=results.threshold_of(workdir) if elsewhere else None,
      calibration=c.eval.calibration,
      rule=c.eval.rule,
      per_site=c.eval.per_site,
      decision=chosen,
      learned=learned,
    )
    metrics |= {'split': split, 'step': step}
    if auxiliary:
      metrics['auxiliary'] = auxiliary_score.score_auxiliary(
        table.columns,
        {k: auxiliary_lib.values(v, k) for k, v in auxiliary.items()},
      )
    if learned is None and metrics.get('learned'):
      learned = pooling.Pooling.from_json(metrics['learned'])
  if probability is not None:
    breasts = aggregate.breasts(
      table['prediction_id'],
      table['patient_id'],
      probability,
      table['cancer'],
      how=c.eval.aggregate,
      views=table['view'],
      learned=learned,
    )
    breasts = results.judged(table.columns, breasts, chosen)
  if metrics:
    metrics['leaks'] = reporting.check_leaks(c, data, rows, split, breasts)
  folder = None
  if write and jax.process_index() == 0:
    folder = workdir / 'eval' / split
    results.write(
      c,
      workdir,
      split,
      table,
      predictions,
      breasts,
      metrics,
      data=data,
      rows=rows,
      explain=explain,
    )
  return Evaluation(
    split=split,
    step=step,
    metrics=metrics,
    predictions=predictions,
    breasts=breasts,
    folder=folder,
  )


def summary(evaluation: Evaluation) -> str:
  """A few lines that say how an evaluation went, and where it lies."""
  lines = []
  if evaluation.metrics:
    lines.append(score.text(evaluation.metrics))
  if evaluation.folder is not None:
    lines.append(f'written to {evaluation.folder}')
  return '\n'.join(lines)


def _mean_loss(c, logits: np.ndarray, labels: np.ndarray) -> float:
  if not len(labels):
    return float('nan')
  return float(losses.mean_loss(c, logits, labels.astype(np.int32)))
