"""Fine-tuning of the model that serves, on a frozen set and replayed data.

It is a run like any other, so it resumes, validates on the original validation
split, and fits its calibration and threshold there.
"""

import math
import os
import pathlib

import ml_collections

from rsna_jax import config as config_lib
from rsna_jax import errors, train
from rsna_jax import run as run_lib
from rsna_jax.data import convert, joined
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.options import data as data_options
from rsna_jax.options import unused
from rsna_jax.serve.learning.retrain_options import Options
from rsna_jax.serve.store import tables, versions

_SLOWER = 10  # times than the training, unless an option says otherwise
_EMA_STEPS = 10  # a tenth of a short run is what the average forgets
_PARTS = 10  # of the run, after each of which it is saved
_NAMED = ', retrained on set '


def parent_run(parent: versions.Version) -> run_lib.Run:
  """The run that serves.

  Raises:
    errors.RunError: it is an ensemble, or sees no pixels.
  """
  if not (parent.folder / 'config.json').is_file():
    raise errors.RunError(
      f'model {parent.number} is an ensemble, and one run is fine-tuned: serve '
      'a single run to retrain it'
    )
  run = run_lib.load(parent.folder)
  if run.spec is None:
    raise errors.RunError(f'model {parent.number} sees no pixels to learn from')
  return run


def original_data(run: run_lib.Run, options: Options) -> dataset_lib.Dataset:
  """The data that the first model was trained on.

  Raises:
    errors.DataError: they are not there; what to do is said.
  """
  c = run.config.copy_and_resolve_references()
  if options.data_dir:
    c.data.dir = os.path.abspath(options.data_dir)
  try:
    found = dataset_lib.open_dataset(c)
  except errors.DataError as error:
    raise errors.DataError(
      f'the original data are not there ({error}); without them it cannot be '
      'told whether a new model reads them worse: name their folder with '
      '--set data_dir=DIR'
    ) from error
  if found.fingerprint != run.fingerprint:
    raise errors.DataError(
      f'{c.data.dir}: other data than the model was trained on (fingerprint '
      f'{found.fingerprint[:12]}, not {run.fingerprint[:12]}): name the right '
      'folder with --set data_dir=DIR'
    )
  return found


def prepare(
  run: run_lib.Run,
  frozen: pathlib.Path,
  out: pathlib.Path,
  workers: int | None,
) -> None:
  """Makes a data set of each side of a frozen set, as the model wants it.

  Args:
    run: whose images they become.
    frozen: `datasets/<number>`.
    out: gets a folder for each side that has a picture.
    workers: child processes; None: one for each CPU.
  """
  for side in tables.SIDES:
    if (frozen / side).is_dir():
      convert.prepare(frozen / side, out / side, spec=run.spec, workers=workers)


def open_side(
  run: run_lib.Run, out: pathlib.Path, side: str
) -> dataset_lib.Dataset | None:
  """What `prepare` made of a side; None: it has no picture."""
  if not (out / side).is_dir():
    return None
  c = run.config.copy_and_resolve_references()
  c.data.extra = (str(out / side),)
  return joined.open_extra(c)[0]


def make_config(
  run: run_lib.Run,
  parent: versions.Version,
  number: int,
  extra: pathlib.Path,
  options: Options,
) -> ml_collections.ConfigDict:
  """The config of the fine-tuning: the parent's, but for what is said here.

  Args:
    run: of the parent.
    parent: the model that serves.
    number: of the frozen set.
    extra: its prepared training side.
    options: of the retraining.

  Raises:
    errors.ConfigError: an option is not usable.
  """
  c = run.config.copy_and_resolve_references()
  c.name = f'{c.name.split(_NAMED)[0]}{_NAMED}{number}'
  if options.data_dir:
    c.data.dir = os.path.abspath(options.data_dir)
  c.data.extra = (str(extra),)
  c.data.extra_rows = 'all'  # the sides were drawn when they were accepted
  c.data.extra_share = options.share
  c.model.init_from = str(parent.folder)
  if options.batch_size:
    c.train.batch_size = options.batch_size
    # Parts of a batch of another size are equal, too.
    c.train.accumulate = math.gcd(c.train.accumulate, c.train.batch_size)
  # What a batch of another size, or of less original data, can still hold.
  own = c.train.batch_size - data_options.extra_examples(c)
  c.data.positives_per_batch = min(c.data.positives_per_batch, max(own - 1, 0))
  c.data.positives_final, c.data.positives_until = -1, 0  # of the first run
  c.train.steps = options.steps
  c.train.log_every = min(c.train.log_every, options.steps)
  c.train.eval_every = options.steps
  c.train.checkpoint_every = max(1, options.steps // _PARTS)
  c.optim.learning_rate = (
    options.learning_rate or c.optim.learning_rate / _SLOWER
  )
  c.optim.schedule = 'cosine'
  c.optim.boundaries = c.optim.factors = ()
  if c.optim.freeze_steps >= 0:
    c.optim.freeze = ()  # the first phase of the first run is over
  c.optim.warmup_steps = options.steps // _PARTS
  c.optim.ema = max(0.0, min(c.optim.ema, 1 - _EMA_STEPS / options.steps))
  # An older parent may set what does nothing, or did until here.
  unused.reset(c, config_lib.default())
  # No checkpoint is chosen on the set that judges it.
  c.eval.checkpoint = 'latest'
  config_lib.validate(c)
  return c


def fine_tune(c: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Trains, or goes on where it was stopped, and evaluates."""
  train.train_and_evaluate(c, workdir)
