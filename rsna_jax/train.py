"""Training: a run from its config to its report; the steps are in `loop`.

Batch t is a pure function of the config and t, and so is every random choice
of a step: a checkpoint holds the state alone, and a run that was stopped and
started again equals one that was not, bit for bit.
"""

import logging
import os
import pathlib
from collections.abc import Collection, Iterator

import jax
import numpy as np

from rsna_jax import (
  checkpoint,
  divergence,
  division,
  error_maps,
  errors,
  evaluate,
  losses,
  mixing,
  optim,
  parallel,
  schema,
  shell,
  steps,
  transfer,
  watch,
  writers,
)
from rsna_jax import config as config_lib
from rsna_jax import loop as loop_lib
from rsna_jax import run as run_lib
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import metadata
from rsna_jax.data.augment import mix
from rsna_jax.options import data as data_options
from rsna_jax.options import loss as loss_options

DivergedError = divergence.DivergedError
_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
_LOG = logging.getLogger('rsna_jax')


def train_and_evaluate(c, workdir: str | os.PathLike) -> dict:
  """Trains a model as `c` says, evaluates it, and writes a run directory.

  A directory that holds an unfinished run of the same config is continued.

  Args:
    c: the configuration; see `rsna_jax.config`.
    workdir: the run directory.

  Returns:
    The content of `eval/validation/metrics.json`.

  Raises:
    errors.InputError: config, data or directory are not usable.
    shell.Stopped: SIGINT or SIGTERM came, and a checkpoint was saved; or
      another of several processes has gone.
  """
  workdir = pathlib.Path(workdir)
  config_lib.validate(c)
  # Unknown names are answered before anything is read or written.
  evaluate.create_model(c), losses.create(c), optim.create(c)
  alone = jax.process_count() == 1
  with run_lib.lock(workdir), watch.Signals(alone) as signals:
    try:
      return _train(c, workdir, signals)
    except jax.errors.JaxRuntimeError as error:
      if alone:
        raise
      saved = checkpoint.finished_steps(workdir)
      raise shell.Stopped(
        _TRY_AGAIN,
        f'{workdir}: another process of the run has ended, or cannot be '
        f'reached ({str(error).splitlines()[0][:120]}): start all of them '
        'again with the same command, which goes on from step '
        f'{max(saved, default=0)}',
      ) from error


def _train(c, workdir: pathlib.Path, signals: watch.Signals) -> dict:
  # What is written has to be found again from any folder.
  c = c.copy_and_resolve_references()
  c.data.dir = os.path.abspath(c.data.dir)
  if c.model.init_from:
    c.model.init_from = os.path.abspath(c.model.init_from)
    transfer.inherit(c, workdir)
  c.data.extra = tuple(map(os.path.abspath, c.data.extra))
  data = dataset_lib.open_dataset(c)
  training = mixing.gather(c, data)
  labelled = np.flatnonzero(data.split == 'train')
  held_out = labelled[division.divide(c, data) == 'validation']
  # Of its own rows, so that data mixed in leave the meaning of inputs alone.
  table = data.table.take(training.rows[: training.own])
  encoder = metadata.Encoder.fit(table, c.model.metadata)
  if c.loss.class_weights == loss_options.BALANCED:
    labels = schema.target_labels(table.columns, c.data.target)
    classes = max(schema.TARGETS[c.data.target], 2)
    c.loss.class_weights = losses.balanced(labels, classes)
  run = run_lib.Run(
    workdir=workdir,
    config=c,
    spec=data.spec,
    encoder=encoder,
    fingerprint=data.fingerprint,
    extra_fingerprints=training.fingerprints,
  )
  model = evaluate.create_model(c)
  mesh = parallel.make_mesh(space=c.parallel.space)
  parallel.check_batch_size(
    c.train.batch_size, mesh, accumulate=c.train.accumulate
  )
  if c.parallel.mode != 'jit':  # in which no device's part is seen
    mix.check(c.train.batch_size // mesh.shape[parallel.AXIS], c.augment)

  def first_state():
    state = steps.create_state(
      model,
      optim.create(c),
      c,
      jax.random.key(c.seed),
      meta_width=encoder.width,
    )
    if c.model.init_from and not checkpoint.finished_steps(workdir):
      state, report = transfer.begin(state, run)
      reports.append(report)
    return state

  reports = []
  state = first_state()
  # Nothing is written before everything that can be refused has been.
  run_lib.start(run)
  if jax.process_index() == 0 and not checkpoint.finished_steps(workdir):
    if reports:
      reports[0].write(workdir)
    loaded = reports[0].loaded if reports else ()
    for doubt in _doubts(c, state, loaded):
      _LOG.warning(doubt)
  with (
    checkpoint.Checkpoints(workdir, keep=c.train.keep) as saved,
    writers.Writer(workdir) as writer,
  ):
    loop = loop_lib.Loop(c, run, training, held_out, mesh, saved, writer)
    while True:
      restored = saved.restore(state)
      start = 0
      if restored is not None:
        state, start = restored.state, restored.step
        print(f'continuing {workdir} at step {start} of {c.train.steps}')
        if start > c.train.steps:
          raise errors.ConfigError(
            f'train.steps={c.train.steps}: {workdir} is at step {start} already'
          )
      else:
        print(_greeting(c, state, training, held_out))
      try:
        loop.run(parallel.place_state(state, mesh), restored, signals)
        break
      except divergence.Bad as error:
        bad = error.with_traceback(None)  # which holds the state
      loop.leave_out(bad)
      state = first_state()
    saved.settle()  # each process reads the last one again
  signals.message = 'the training is finished; the same command evaluates it'
  signals.check()
  return _final(run, data)


def _doubts(
  c, state: steps.TrainState, loaded: Collection[str]
) -> Iterator[str]:
  """What of a new run its maker may not have meant, a line each.

  Args:
    c: its config.
    state: before the first step.
    loaded: paths of parameters that come from given weights.
  """
  if c.optim.warmup_steps > c.train.steps:
    last = optim.schedule(c)(c.train.steps - 1) / c.optim.learning_rate
    yield (
      f'optim.warmup_steps={c.optim.warmup_steps}: more than train.steps='
      f'{c.train.steps}, so the learning rate ends at {last:.2g} of '
      'optim.learning_rate'
    )
  freeze = optim.freeze_of(c)
  if freeze is None:
    return
  frozen = freeze.names(state.params)
  made = [name for name in frozen if name not in loaded]
  if made:
    while_ = f'for the first {freeze.steps} steps'
    yield (
      f'optim.freeze={tuple(c.optim.freeze)!r}: {len(made)} of {len(frozen)} '
      f'arrays, as {made[0]}, keep the random values that they start with '
      f'{"for ever" if freeze.steps < 0 else while_}: name weights in '
      'model.init_from, or leave them out'
    )


def _final(run: run_lib.Run, data) -> dict:
  """Evaluates the finished run on each of its splits."""
  c, metrics = run.config, {}
  parts = division.divide(c, data)
  splits = ['validation'] + ['test'] * bool((parts == 'test').any())
  if (data.split == 'test').any():
    splits.append('submission')
  state, step = evaluate.restore(run)
  predictor = evaluate.Predictor(c, run.encoder)
  explain = error_maps.explainer(c, run.encoder, state, data)
  for split in splits:
    rows = division.select_rows(
      c, data, split, run.fingerprint, run.extra_fingerprints
    )
    found = evaluate.judge(
      c,
      run.workdir,
      data,
      rows,
      predictor.outputs(state, data, rows),
      split=split,
      step=step,
      explain=explain,
    )
    if split == 'validation':
      metrics = found.metrics
    print(f'{split}, step {step}:')
    print(evaluate.summary(found))
  return metrics


def _greeting(c, state, training, held_out) -> str:
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  devices = jax.devices()
  patients = training.data.table['patient_id']
  own, extra = np.split(training.rows, [training.own])
  return (
    f'{c.name}: {c.model.name}, {count:,} parameters, on {len(devices)} '
    f'{devices[0].platform} device(s), {c.parallel.mode}; {len(own)} images '
    f'of {len(np.unique(patients[own]))} patients to train on, '
    f'{len(held_out)} of {len(np.unique(patients[held_out]))} to validate on'
    + (
      f'; {data_options.extra_examples(c)} of {c.train.batch_size} examples of '
      f'a batch from {len(extra)} images of {len(c.data.extra)} more set(s)'
      if len(extra)
      else ''
    )
  )
