"""The loop of training: steps, and what is done between them.

It takes a state from one step to another, and says by exceptions why it ended
before the last: a signal, a batch that spoils, data that cannot be read.
"""

import collections
import contextlib
import functools
import signal

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from rsna_jax import (
  checkpoint,
  divergence,
  errors,
  evaluate,
  losses,
  optim,
  parallel,
  shell,
  steps,
  watch,
  writers,
)
from rsna_jax.data import reader
from rsna_jax.options import loss as loss_options
from rsna_jax.report import augmentation_sheet

# A signal that several processes do not answer together is answered alone.
_PATIENCE_S = 20.0


class Loop:
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
      divergence.DivergedError: it is not, or was done often enough.
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
      raise divergence.DivergedError(
        f'{what}; lower --config.optim.learning_rate in a new --workdir, or go '
        'on without the batch by --config.train.on_divergence=skip'
      )
    if len(self._skipped.records) >= c.train.max_skips:
      raise divergence.DivergedError(
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
