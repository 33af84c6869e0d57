"""`rsna-jax retrain`: learns from accepted submissions, judges, and promotes.

Each stage leaves something whole behind and is passed over when that is there,
so that a retraining that was killed is finished by the next one: the frozen set
(rows and folder), the run, the decision, the model. Until the one row that says
which model serves is changed, in the last step, the old model serves.
"""

import contextlib
import dataclasses
import fcntl
import pathlib
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import sqlalchemy as sa

from rsna_jax import errors, files
from rsna_jax.serve.learning import (
  finetune,
  freeze,
  frozen_files,
  judging,
  promotion,
  retrain_jobs,
  retrain_options,
)
from rsna_jax.serve.store import blobs, database, frozen_index, tables, versions

Options = retrain_options.Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """How a retraining ended.

  Attributes:
    model: the new version, promoted or refused.
    outcome: why, and the figures.
  """

  model: versions.Version
  outcome: promotion.Outcome


def command(options) -> None:
  """The verb: options `store`, `database`, `workdir`, `by` and `set`."""
  chosen = retrain_options.parse(options.set)
  db = database.Database(options.database, options.store)
  try:
    db.migrate()
    versions.Models(db, options.store).register_first(options.workdir)
    result = run(db, chosen, options.by)
    print(f'model {result.model.number}: {result.outcome.reason}')
  finally:
    db.close()


def run(
  db: database.Database,
  options: Options | None = None,
  by: str = 'command line',
  say: Callable[[str], None] | None = None,
) -> Result:
  """Retrains, or finishes what was begun.

  Args:
    db: of a store that has a model.
    options: what a person may choose.
    by: who does it, for the audit log.
    say: takes a line at the begin of each stage; None: printed.

  Raises:
    errors.InputError: there is nothing to learn from, too little to judge by,
      or another retraining is under way.
    shell.Stopped: a signal came; the next one goes on from there.
    OSError: the disk is full; likewise.
  """
  options = options or Options()
  say = say or (lambda line: print(line, flush=True))
  with _lock(db.store):
    return _Retraining(db, options, by, say).run()


class _Retraining:
  """A retraining, stage by stage."""

  def __init__(self, db, options: Options, by: str, say):
    self._db = db
    self._options = options
    self._by = by
    self._say = say
    self._models = versions.Models(db, db.store)

  def run(self) -> Result:
    self._parent = self._models.serving()
    if self._parent is None:
      raise errors.RunError(
        'the store has no model yet: name a run with --workdir'
      )
    self._run = finetune.parent_run(self._parent)
    original = finetune.original_data(self._run, self._options)
    frozen_index.ensure(
      self._db,
      self._db.store,
      self._parent.folder,
      self._options.data_dir or None,
    )
    for changed in frozen_files.forget_deleted(self._db):
      shutil.rmtree(self._folder(changed), ignore_errors=True)
    number = retrain_jobs.unfinished(
      self._db, self._models, self._parent, self._by, self._options.fresh
    )
    if number is None:
      number = self._freeze()
    else:
      self._say(f'retraining {number}: goes on where it was left')
    self._clean(number)
    work = self._folder(number)
    self._begin(work, number)
    if not (work / retrain_jobs.DECISION).is_file():
      self._learn(work, number)
      self._judge(work, number, original)
    result = self._install(work, number)
    shutil.rmtree(work, ignore_errors=True)
    return result

  def _freeze(self) -> int:
    """Freezes what is accepted, if it can be learned from and judged by."""
    with self._db.reading() as session:
      rows = freeze.accepted(session)
      retrain_jobs.check_enough(
        rows, self._run.config.data.target, self._options
      )
      retrain_jobs.check_new(
        session, rows, self._models, self._parent, self._options
      )
    return freeze.create(self._db, frozen_index.load(self._db), self._by)

  def _folder(self, number: int) -> pathlib.Path:
    return self._db.store / 'retrain' / str(number)

  def _clean(self, number: int) -> None:
    """Removes the work of other sets, which have ended or were given up."""
    for folder in (self._db.store / 'retrain').glob('*'):
      if folder.name.isdigit() and folder.name != str(number):
        shutil.rmtree(folder, ignore_errors=True)

  def _begin(self, work: pathlib.Path, number: int) -> None:
    """Notes what the work is of; what is half done otherwise is done anew."""
    job = {
      'weights': self._parent.weights_sha256,
      'training': self._options.of_training(),
      'judging': self._options.of_judging(),
    }
    before = retrain_jobs.read(work / retrain_jobs.JOB)
    if (work / retrain_jobs.DECISION).is_file():
      if before != job:
        self._say(
          f'retraining {number}: is decided already, with other options; '
          'retrain again for these'
        )
      return
    for name in ('weights', 'training'):
      if before is not None and before[name] != job[name]:
        self._say(f'retraining {number}: another {name}, so it trains anew')
        shutil.rmtree(work / 'run', ignore_errors=True)
    files.write_json(work / retrain_jobs.JOB, job)

  def _learn(self, work: pathlib.Path, number: int) -> None:
    self._say(f'retraining {number}: freezing')
    frozen = frozen_files.write(
      self._db, blobs.Blobs(self._db.store / 'blobs'), number
    )
    if not (frozen / 'train').is_dir():
      raise errors.DataError(
        f'dataset {number}: nothing is left to train on: accept more, and '
        'retrain with --set fresh=true'
      )
    self._say(f'retraining {number}: preparing')
    finetune.prepare(
      self._run, frozen, work / 'data', self._options.workers or None
    )
    self._say(f'retraining {number}: training')
    c = finetune.make_config(
      self._run, self._parent, number, work / 'data' / 'train', self._options
    )
    finetune.fine_tune(c, work / 'run')

  def _judge(self, work: pathlib.Path, number: int, original) -> None:
    self._say(f'retraining {number}: judging')
    old, new = (judging.Reader(x) for x in (self._parent.folder, work / 'run'))
    rows = judging.validation_rows(self._run.config, original)
    on_original = judging.cases(
      *(one.read(original, rows, fitted_here=True) for one in (old, new))
    )
    sides = {
      side: finetune.open_side(self._run, work / 'data', side)
      for side in tables.SIDES
    }
    on_submissions = {}
    held = sides['validation']
    if held is not None:
      everything = np.arange(len(held))
      on_submissions = judging.cases(
        *(one.read(held, everything) for one in (old, new))
      )
    outcome = promotion.decide(
      on_original,
      on_submissions,
      judging.suspicion(old, new, sides, self._contributors(number)),
      self._options.rule(),
    )
    files.write_json(work / retrain_jobs.DECISION, dataclasses.asdict(outcome))

  def _contributors(self, number: int) -> dict[int, str]:
    with self._db.reading() as session:
      names = dict(
        session.execute(sa.select(tables.User.id, tables.User.name)).all()
      )
    folder = frozen_files.folder_of(self._db, number)
    return {
      one.image_id: names[one.contributor]
      for one in frozen_files.members(folder)
    }

  def _install(self, work: pathlib.Path, number: int) -> Result:
    self._say(f'retraining {number}: installing')
    outcome = promotion.Outcome(
      **retrain_jobs.read(work / retrain_jobs.DECISION)
    )
    job = retrain_jobs.read(work / retrain_jobs.JOB)
    scores = outcome.scores | {'options': job['training'] | job['judging']}
    model = retrain_jobs.candidate(self._models, number)
    if model is None:
      model = self._models.add(
        work / 'run',
        parent=self._parent.number,
        dataset_number=number,
        scores=scores,
        reason=outcome.reason,
        by=self._by,
      )
    settle = self._models.promote if outcome.promote else self._models.refuse
    model = settle(model.number, self._by, scores=scores, reason=outcome.reason)
    return Result(model=model, outcome=outcome)


@contextlib.contextmanager
def _lock(store: pathlib.Path) -> Iterator[None]:
  """One retraining at a time; a killed one leaves no lock behind."""
  folder = store / 'retrain'
  folder.mkdir(exist_ok=True)
  with (folder / '.lock').open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.RunError(
        'another retraining of this store is under way: wait for its end'
      ) from error
    yield
