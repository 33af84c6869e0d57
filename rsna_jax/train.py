"""Training: the loop, and nothing else.

Batch t is a pure function of the config and t, and so is every random choice
of a step: a checkpoint holds the state alone, and a run that was stopped and
started again equals one that was not, bit for bit.
"""

import collections
import contextlib
import functools
import os
import pathlib
import signal

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

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
from rsna_jax import run as run_lib
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import metadata, reader
from rsna_jax.data.augment import mix
from rsna_jax.options import data as data_options
from rsna_jax.options import loss as loss_options
from rsna_jax.report import augmentation_sheet

DivergedError = divergence.DivergedError
# A signal that several processes do not answer together is answered alone.
_PATIENCE_S = 20.0
_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


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
  if reports and jax.process_index() == 0:
    reports[0].write(workdir)
  with (
    checkpoint.Checkpoints(workdir, keep=c.train.keep) as saved,
    writers.Writer(workdir) as writer,
  ):
    loop = _Loop(c, run, training, held_out, mesh, saved, writer)
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
  signals.message = 'the training is finished; the same command evaluates it'
  signals.check()
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
    self._freeze = optim.freeze_of(c)
    # Compiled at their first step, and so those alone that are taken.
    self._whole_step = self._wrapped(None)
    self._frozen_step = self._wrapped(self._freeze)
    # Metrics of steps that the device may still be busy with, and their ids.
    self._waiting = collections.deque()
    self._alone = jax.process_count() == 1
    self._asked = 0
    self._guard = divergence.Guard(c.train.explode_factor)
    self._skipped = divergence.Skipped(run.workdir)
    if not saved.steps():
      self._skipped.forget(jax.process_index() == 0)
    self._clock = None
    self._last_ids = ()

  def _wrapped(self, freeze):
    """The compiled step that leaves alone what `freeze` holds."""
    c = self._config
    return parallel.wrap(
      functools.partial(
        steps.train_step,
        model=evaluate.create_model(c),
        tx=optim.create(c),
        loss=losses.create(c),
        axis=parallel.axis_name(c.parallel.mode),
        augment=c.augment,
        ema=c.optim.ema,
        freeze=freeze,
        accumulate=c.train.accumulate,
      ),
      c.parallel.mode,
      self._mesh,
    )

  def _step(self, done: int):
    """The compiled step that follows `done` steps."""
    frozen = self._freeze is not None and self._freeze.active(done)
    return self._frozen_step if frozen else self._whole_step

  def run(self, state, restored, signals: watch.Signals) -> None:
    """Takes the steps from a checkpoint, or from nothing, to the last.

    Raises:
      divergence.Bad: the result of a step must not be kept.
      shell.Stopped: a signal came, and the last finished step was saved.
    """
    c = self._config
    start = 0 if restored is None else restored.step
    self._waiting.clear()
    self._writer.resume(start)
    self._guard.restore(
      {} if restored is None else restored.notes,
      writers.read(self._workdir) if start else [],
    )
    rng = jax.random.key(c.seed)
    batches = reader.batches(
      c.data.reader,
      self._training.data,
      self._training.rows,
      divergence.Order(self._training.plan, self._skipped),
      self._encoder,
      target=c.data.target,
      auxiliary=loss_options.targets(c),
      groups=self._training.groups,
      start_step=start,
      stop_step=c.train.steps,
      threads=c.data.threads,
      prefetch=c.data.prefetch,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    self._clock = watch.Clock(start, c.train.steps, c.train.batch_size)
    step = start
    with (
      signals.noted(),
      watch.Ahead(batches, c.data.dir, c.train.stall_s) as ahead,
    ):
      if start and self._is_evaluated(start) and not restored.scored:
        self._judge(state, start, signals)  # a signal came in between
      while step < c.train.steps:
        try:
          batch = ahead.get(lambda waited: self._gives_up(signals, waited))
        except errors.DataError as error:
          if not self._alone:
            raise
          self._save(state, step, None)
          self._saved.wait()
          raise errors.DataError(
            f'{error}; step {step} is saved, the same command goes on from it'
          ) from error
        if batch is None:
          self._stop(state, step, signals.received, together=self._alone)
        if step == start:
          augmentation_sheet.write(self._workdir, batch, c, step)
        self._clock.waited_s = ahead.waited_s
        step += 1
        placed = parallel.place_batch(batch, c.parallel.mode, self._mesh)
        state, metrics = self._step(step - 1)(state, placed, rng)
        self._waiting.append((step, metrics, batch['id']))
        # One step late, so that the device has work while its answer is read.
        if self._is_logged(step - 1):
          self._log(step - 1)
        if self._is_evaluated(step):
          self._judge(state, step, signals)
        elif step % c.train.checkpoint_every == 0:
          self._save(state, step, None)
        stop = self._agreed(signals.received)
        if stop and step < c.train.steps:
          self._stop(state, step, stop, together=True)

  def leave_out(self, bad: divergence.Bad) -> None:
    """Takes the batch of a bad step out of the run, where that is wanted.

    Raises:
      DivergedError: it is not, or was done often enough.
    """
    c = self._config
    ids = np.asarray(bad.ids).ravel()
    if not self._alone:
      ids = multihost_utils.process_allgather(ids).ravel()
    good = self._saved.latest() or 0
    shown = ', '.join(map(str, ids[:8].tolist()))
    what = (
      f'{self._workdir}: step {bad.step}: {bad.reason}; images of the batch: '
      f'{shown}{", ..." * (len(ids) > 8)}; the last good checkpoint is step '
      f'{good}'
    )
    if c.train.on_divergence != 'skip':
      raise DivergedError(
        f'{what}; lower --config.optim.learning_rate in a new --workdir, or go '
        'on without the batch by --config.train.on_divergence=skip'
      )
    if len(self._skipped.records) >= c.train.max_skips:
      raise DivergedError(
        f'{what}; train.max_skips={c.train.max_skips} batches were left out '
        f'already, see {divergence.NAME}; lower --config.optim.learning_rate '
        'in a new --workdir'
      )
    self._skipped.add(bad, ids, jax.process_index() == 0)
    print(f'{what}; going back to it, and on without the batch', flush=True)

  def _is_evaluated(self, step: int) -> bool:
    c = self._config
    return step % c.train.eval_every == 0 or step == c.train.steps

  def _is_logged(self, step: int) -> bool:
    return step % self._config.train.log_every == 0 or self._is_evaluated(step)

  def _gives_up(self, signals: watch.Signals, waited: float) -> bool:
    """Whether the wait for a batch ends without it."""
    return bool(signals.received) and (self._alone or waited > _PATIENCE_S)

  def _agreed(self, received: int) -> int:
    """The signal that stops all processes, at the same step in each.

    A SIGTERM to one of them, or the notice of a scheduler, is told to all by
    JAX, which picks a step that none has come to.
    """
    if self._alone:
      return received
    # Counted by itself, since steps are taken again after a bad one.
    self._asked += 1
    if not multihost.reached_preemption(self._asked):
      return 0
    return received or signal.SIGTERM

  def _stop(self, state, step: int, number: int, *, together: bool) -> None:
    """Saves, unless the other processes do not, and ends the run."""
    name = signal.Signals(number).name
    if together:
      self._save(state, step, None)
      self._saved.wait()
      said = f'at step {step}; saved: the same command goes on from there'
    else:
      said = (
        f'while waiting for data after step {step}; not saved: the same '
        f'command goes on from step {self._saved.latest() or 0}'
      )
    raise shell.Stopped(128 + number, f'stopped by {name} {said}')

  def _judge(self, state, step: int, signals: watch.Signals) -> None:
    """Evaluates, and saves; where a signal comes, saves without a score."""
    self._log(step)
    score = None
    # Several processes predict together, so one cannot leave by itself.
    with contextlib.suppress(watch.Interrupted):
      with signals.raising() if self._alone else contextlib.nullcontext():
        scores = self._evaluate(state)
      score = self._report(step, scores)
    self._save(state, step, score)
    self._clock.pause_ended()
    if score is None:
      self._stop(state, step, signals.received, together=True)

  def _save(self, state, step: int, score: float | None) -> None:
    self._log(step)  # a state after a NaN must not become the latest
    ids = self._last_ids
    try:
      self._saved.save(state, step, score, self._guard.notes(), wait=False)
    except checkpoint.NotFiniteError as error:
      raise divergence.Bad(step, str(error), ids) from error

  def _log(self, last: int) -> None:
    """Fetches the metrics of the steps up to `last`, and checks each."""
    while self._waiting and self._waiting[0][0] <= last:
      step, metrics, ids = self._waiting.popleft()
      self._last_ids = ids
      values = {name: float(value) for name, value in metrics.items()}
      reason = self._guard.check(values)
      if reason:
        raise divergence.Bad(step, reason, ids)
      if self._is_logged(step):
        self._write(step, values)

  def _write(self, step: int, values) -> None:
    speed = self._clock.lap(step)
    self._writer.scalars(
      step, {f'train/{name}': value for name, value in values.items()}
    )
    self._writer.scalars(
      step,
      {'time/images_per_s': speed, 'time/waiting': self._clock.waiting},
      reproducible=False,
    )
    self._clock.say(step, values['loss'], speed)

  def _evaluate(self, state) -> dict[str, float]:
    c = self._config
    data = self._training.data
    logits = self._predict(state, data, self._held_out)
    scores = evaluate.quick_scores(c, data, self._held_out, logits)
    if c.optim.ema and c.eval.raw:
      logits = self._predict(steps.raw(state), data, self._held_out)
      beside = evaluate.quick_scores(c, data, self._held_out, logits)
      scores |= {f'raw_{name}': value for name, value in beside.items()}
    return scores

  def _report(self, step: int, scores: dict[str, float]) -> float:
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
