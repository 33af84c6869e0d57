"""Training: the loop, and nothing else.

Batch t is a pure function of the config and t, and so is every random choice
of a step: a checkpoint holds the state alone, and a run that was stopped and
started again equals one that was not, bit for bit.
"""

import collections
import functools
import math
import os
import pathlib
import signal

import jax
import numpy as np
from jax.experimental import multihost_utils

from rsna_jax import (
  checkpoint,
  division,
  error_maps,
  errors,
  evaluate,
  losses,
  mixing,
  optim,
  parallel,
  shell,
  steps,
  transfer,
  watch,
  writers,
)
from rsna_jax import config as config_lib
from rsna_jax import run as run_lib
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import metadata, reader
from rsna_jax.options import data as data_options


class DivergedError(errors.RunError):
  """The loss is no longer a number."""


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
    shell.Stopped: SIGINT or SIGTERM came; a checkpoint was saved.
  """
  workdir = pathlib.Path(workdir)
  config_lib.validate(c)
  # Unknown names are answered before anything is read or written.
  evaluate.create_model(c), losses.create(c), optim.create(c)
  with run_lib.lock(workdir):
    return _train(c, workdir)


def _train(c, workdir: pathlib.Path) -> dict:
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
  run = run_lib.Run(
    workdir=workdir,
    config=c,
    spec=data.spec,
    encoder=encoder,
    fingerprint=data.fingerprint,
    extra_fingerprints=training.fingerprints,
  )
  model = evaluate.create_model(c)
  mesh = parallel.make_mesh()
  parallel.check_batch_size(c.train.batch_size, mesh)
  state = steps.create_state(
    model,
    optim.create(c),
    c,
    jax.random.key(c.seed),
    meta_width=encoder.width,
  )
  if c.model.init_from and not checkpoint.finished_steps(workdir):
    state = transfer.start_from(state, run)
  # Nothing is written before everything that can be refused has been.
  run_lib.start(run)
  with (
    checkpoint.Checkpoints(workdir, keep=c.train.keep) as saved,
    writers.Writer(workdir) as writer,
    watch.Signals() as signals,
  ):
    start = 0
    restored = saved.restore(state)
    if restored is not None:
      state, start = restored.state, restored.step
      print(f'continuing {workdir} at step {start} of {c.train.steps}')
      if start > c.train.steps:
        raise errors.ConfigError(
          f'train.steps={c.train.steps}: {workdir} is at step {start} already'
        )
    else:
      print(_greeting(c, state, training, held_out))
    writer.resume(start)
    loop = _Loop(c, run, training, held_out, mesh, saved, writer)
    loop.run(parallel.place_state(state, mesh), start, signals)
  return _final(run, data)


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
      predictor(state, data, rows),
      split=split,
      step=step,
      explain=explain,
    )
    if split == 'validation':
      metrics = found.metrics
    print(f'{split}, step {step}:')
    print(evaluate.summary(found))
  return metrics


class _Loop:
  """The loop's parts that do not change while it runs."""

  def __init__(self, c, run, training, held_out, mesh, saved, writer):
    self._config = c
    self._training = training
    self._held_out = held_out
    self._encoder = run.encoder
    self._mesh = mesh
    self._saved = saved
    self._writer = writer
    self._workdir = run.workdir
    self._predict = evaluate.Predictor(c, run.encoder)
    self._step = parallel.wrap(
      functools.partial(
        steps.train_step,
        model=evaluate.create_model(c),
        tx=optim.create(c),
        loss=losses.create(c),
        axis=parallel.axis_name(c.parallel.mode),
        augment=c.augment,
        ema=c.optim.ema,
      ),
      c.parallel.mode,
      mesh,
    )
    # Metrics of steps that the device may still be busy with, and their ids.
    self._waiting = collections.deque()

  def run(self, state, start: int, signals: watch.Signals) -> None:
    c = self._config
    rng = jax.random.key(c.seed)
    batches = reader.batches(
      c.data.reader,
      self._training.data,
      self._training.rows,
      self._training.plan,
      self._encoder,
      target=c.data.target,
      start_step=start,
      stop_step=c.train.steps,
      threads=c.data.threads,
      prefetch=c.data.prefetch,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    clock = watch.Clock(start, c.train.steps, c.train.batch_size)
    try:
      for step, batch in enumerate(batches, start=start + 1):
        placed = parallel.place_batch(batch, c.parallel.mode, self._mesh)
        state, metrics = self._step(state, placed, rng)
        self._waiting.append((step, metrics, batch['id']))
        if step % c.train.log_every == 0 or step == c.train.steps:
          self._log(clock)
        score = None
        if step % c.train.eval_every == 0 or step == c.train.steps:
          self._log(clock)
          score = self._evaluate(state, step)
          clock.pause_ended()
        if score is not None or step % c.train.checkpoint_every == 0:
          self._save(state, step, score)
        stop = self._agreed(signals.received, step)
        if stop and step < c.train.steps:
          self._save(state, step, None)
          raise shell.Stopped(
            128 + stop,
            f'stopped by {signal.Signals(stop).name} at step '
            f'{step}; saved: the same command goes on from there',
          )
    finally:
      batches.close()

  def _agreed(self, received: int, step: int) -> int:
    """The signal that stops all processes, at the same step in each."""
    if jax.process_count() == 1:
      return received
    if step % self._config.train.log_every:
      return 0
    found = multihost_utils.process_allgather(np.int32(received))
    return int(np.max(found))

  def _save(self, state, step: int, score: float | None) -> None:
    self._log(None)  # a state after a NaN must not become the latest
    self._saved.save(state, step, score)

  def _log(self, clock: watch.Clock | None) -> None:
    """Fetches the metrics of the steps so far; they must be finite."""
    last = None
    while self._waiting:
      step, metrics, ids = self._waiting.popleft()
      values = {name: float(value) for name, value in metrics.items()}
      if not all(math.isfinite(value) for value in values.values()):
        shown = ', '.join(map(str, np.asarray(ids).ravel()[:8].tolist()))
        raise DivergedError(
          f'{self._workdir}: step {step}: '
          + ', '.join(f'{name} {value}' for name, value in values.items())
          + f'; images of the batch: {shown}, ...; the last good checkpoint '
          f'is step {self._saved.latest() or 0}; lower '
          '--config.optim.learning_rate in a new --workdir'
        )
      last = step, values
    if last is not None and clock is not None:
      step, values = last
      speed = clock.lap(step)
      self._writer.scalars(
        step, {f'train/{name}': value for name, value in values.items()}
      )
      self._writer.scalars(
        step, {'time/images_per_s': speed}, reproducible=False
      )
      clock.say(step, values['loss'], speed)

  def _evaluate(self, state, step: int) -> float:
    c = self._config
    data = self._training.data
    logits = self._predict(state, data, self._held_out)
    scores = evaluate.quick_scores(c, data, self._held_out, logits)
    self._writer.scalars(
      step, {f'validation/{name}': value for name, value in scores.items()}
    )
    print(
      f'step {step}: validation '
      + ', '.join(f'{name} {value:.4f}' for name, value in scores.items())
    )
    return scores['score']


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
