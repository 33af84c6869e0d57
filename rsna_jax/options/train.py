"""The loop of training, and the devices it runs on."""

import math

import ml_collections

from rsna_jax.options import checks

MODES = ('pmap', 'shard_map', 'jit')
DTYPES = ('float32', 'bfloat16')
ON_DIVERGENCE = ('stop', 'skip')


def default_parallel() -> ml_collections.ConfigDict:
  """The fields of `parallel`."""
  c = ml_collections.ConfigDict()
  c.mode = 'pmap'  # pmap (one host) | shard_map | jit (any number)
  # Devices that share each image by its rows, under jit, so that images train
  # that the memory of one device does not hold.
  c.space = 1
  return c


def default() -> ml_collections.ConfigDict:
  """The fields of `train`."""
  c = ml_collections.ConfigDict()
  c.steps = 10_000
  c.batch_size = 32  # of all devices together
  # Parts in which a device's share of a batch goes through the network, for a
  # batch that memory does not hold.
  c.accumulate = 1
  c.dtype = 'float32'  # of the computation: float32 | bfloat16
  c.log_every = 20  # steps
  c.eval_every = 1_000  # steps
  c.checkpoint_every = 1_000  # steps
  c.keep = 2  # latest checkpoints kept beside the best one
  # A loss has exploded above this many times the median of the first 5 losses,
  # or of the latest 50 where that is higher; 0: none has, short of NaN.
  c.explode_factor = 20.0
  # stop | skip: after a loss that is no number, or has exploded, goes back to
  # the last checkpoint and leaves the batch out.
  c.on_divergence = 'stop'
  c.max_skips = 3  # batches left out before the run is stopped all the same
  c.stall_s = 60.0  # seconds without data after which a line says so
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `parallel` and `train`."""
  found.one_of('parallel.mode', MODES)
  found.one_of('train.dtype', DTYPES)
  found.one_of('train.on_divergence', ON_DIVERGENCE)
  found.that(
    'train.explode_factor',
    found.config.train.explode_factor == 0
    or 1 < found.config.train.explode_factor < math.inf,
    'more than 1, or 0 to look for NaN alone',
  )
  found.not_negative('train.max_skips')
  found.positive('train.stall_s')
  found.at_least_one(
    'parallel.space',
    'train.steps',
    'train.batch_size',
    'train.accumulate',
    'train.log_every',
    'train.eval_every',
    'train.checkpoint_every',
    'train.keep',
  )
  c = found.config
  found.that(
    'train.accumulate',
    c.train.accumulate <= 1 or not c.loss.surrogate,
    f'loss.surrogate={c.loss.surrogate} looks at a whole batch at once: leave '
    'one of them out',
  )
  space, rows = c.parallel.space, next(iter(c.data.size), 0)
  found.that(
    'parallel.space',
    space <= 1 or c.parallel.mode == 'jit',
    f'parallel.mode={c.parallel.mode} gives each device whole images: choose '
    'parallel.mode=jit, or parallel.space=1',
  )
  found.that(
    'parallel.space',
    space <= 1 or not isinstance(rows, int) or rows % space == 0,
    f'the {rows} rows of data.size are no equal shares: choose a '
    'divisor of them',
  )
  found.that(
    'parallel.space',
    space <= 1 or c.model.forms in ('auto', 'plain'),
    f'model.forms={c.model.forms} needs whole images: choose plain or auto',
  )
