"""Every option of a run, its default, and the checks that a config must pass.

A file in `configs/` returns `default()` with its differences; derived numbers
are computed in code, never stored here.
"""

import importlib.util
import json
import math
import os
import pathlib

import ml_collections

from rsna_jax import errors, schema

MODES = ('pmap', 'shard_map', 'jit')
DATA_SETS = ('rsna_mammography', 'mammography_folders', 'csv')
READERS = ('auto', 'tf', 'numpy')
WINDOWS = ('full', 'linear', 'none')
QUALITIES = ('fast', 'fine', 'exact')
SPLITS = ('folds', 'public', 'site', 'machine')
POOLS = ('mean', 'max', 'gem', 'attention')
POOL_PADDINGS = ('auto', 'same', 'one')
DTYPES = ('float32', 'bfloat16')
SCHEDULES = ('constant', 'cosine', 'linear')
AGGREGATES = ('mean', 'max', 'noisy_or', 'view_max', 'learned')
CALIBRATIONS = ('none', 'temperature', 'platt', 'beta', 'isotonic')
CHECKPOINTS = ('best', 'latest')
EXTRA_ROWS = ('train', 'all')
VIEWS = ('flip_vertical', 'shift', 'scale', 'intensity')
AVERAGES = ('logit', 'probability')


def default() -> ml_collections.ConfigDict:
  """Returns all fields with their defaults, locked against unknown names."""
  c = ml_collections.ConfigDict()
  c.name = 'default'  # names the run in reports
  c.seed = 0  # of the weights, the order of examples, augmentation, dropout

  c.parallel = ml_collections.ConfigDict()
  c.parallel.mode = 'pmap'  # pmap (one host) | shard_map | jit (any number)

  c.data = ml_collections.ConfigDict()
  c.data.name = 'rsna_mammography'  # | mammography_folders | csv (no images)
  c.data.dir = 'data'  # what `rsna-jax prepare --data-dir` wrote; csv: a folder
  c.data.size = (512, 256)  # height and width of the prepared images
  c.data.bits = 8  # 8 | 16 bits a pixel
  c.data.window = 'full'  # VOI: full (any function) | linear (alone) | none
  c.data.quality = 'fast'  # fast | fine | exact, as the data were prepared
  c.data.for_processing = 'refuse'  # refuse | accept raw images
  c.data.reader = 'auto'  # tf (tf.data) | numpy | auto: tf where installed
  c.data.threads = 2  # that decode images
  c.data.prefetch = 2  # batches held ready
  c.data.split = 'folds'  # folds | public | site | machine: see data/folds.py
  c.data.held_out = -1  # the site_id or machine_id that is the test split
  c.data.folds = 4  # k of the patient-grouped folds
  c.data.fold = 0  # the fold that is the validation split
  c.data.split_seed = 0  # of the folds
  c.data.target = 'cancer'  # cancer | density | density_cancer
  c.data.positives_per_batch = 1  # with cancer, at least; 0: as they come
  # More folders that `prepare` wrote with the same spec, to train on besides.
  c.data.extra = ()
  c.data.extra_share = 0.5  # of every training batch, that is drawn from them
  c.data.extra_rows = 'train'  # of them: train, as data.split has it, or all

  c.augment = ml_collections.ConfigDict()
  c.augment.flip_vertical = 0.5  # probability
  c.augment.rotation_deg = 10.0  # up to, either way
  c.augment.scale = 0.1  # up to, relative, either way
  c.augment.shift = 0.05  # up to, of height and width, either way
  c.augment.brightness = 0.1  # up to, either way, where white is 1
  c.augment.contrast = 0.1  # up to, relative, either way

  c.model = ml_collections.ConfigDict()
  c.model.name = 'xception'  # a key of rsna_jax.models.MODELS
  c.model.width = 1.0  # factor of the number of channels
  c.model.depth = 1.0  # factor of the number of repeated blocks
  c.model.pool = 'mean'  # of the last feature map: mean max gem attention
  c.model.dropout = 0.0  # before the last Dense layer
  c.model.metadata = ()  # columns beside the pixels; see METADATA_COLUMNS
  # A run directory, or what `rsna-jax weights` wrote, to start from.
  c.model.init_from = ''
  # As the weights to start from were trained; 0 and auto: as they were, or the
  # network's own.
  c.model.epsilon = 0.0  # of normalisation
  c.model.pool_padding = 'auto'  # of strided pools: auto | same | one
  c.model.input_scale = 0.0  # the input is the image in [0, 1] times it, less 1

  c.train = ml_collections.ConfigDict()
  c.train.steps = 10_000
  c.train.batch_size = 32  # of all devices together
  c.train.dtype = 'float32'  # of the computation: float32 | bfloat16
  c.train.log_every = 20  # steps
  c.train.eval_every = 1_000  # steps
  c.train.checkpoint_every = 1_000  # steps
  c.train.keep = 2  # latest checkpoints kept beside the best one

  c.loss = ml_collections.ConfigDict()
  c.loss.name = 'cross_entropy'  # a key of rsna_jax.losses.LOSSES
  c.loss.label_smoothing = 0.0
  c.loss.positive_weight = 1.0  # weight of a positive example

  c.optim = ml_collections.ConfigDict()
  c.optim.name = 'adamw'  # a key of rsna_jax.optim.OPTIMIZERS
  c.optim.learning_rate = 1e-3  # at the peak
  c.optim.schedule = 'cosine'  # constant | cosine | linear
  c.optim.warmup_steps = 0
  c.optim.weight_decay = 1e-4  # of kernels alone
  c.optim.clip_norm = 1.0  # of the gradient; 0: off
  c.optim.ema = 0.0  # decay of the averaged weights that predict; 0: off

  c.eval = ml_collections.ConfigDict()
  c.eval.batch_size = 64  # of all devices together
  c.eval.aggregate = 'mean'  # to a breast: mean max noisy_or view_max learned
  # Of breasts, fitted out of fold: none temperature platt beta isotonic.
  c.eval.calibration = 'none'
  # pf1 | best_f1 | recall_rate=R | sensitivity=S | specificity=S | a number
  c.eval.rule = 'best_f1'
  c.eval.per_site = False  # calibration and threshold of a site's own
  c.eval.checkpoint = 'best'  # on the validation split | latest
  c.eval.bootstrap = 2_000  # resamples of patients behind each interval
  c.eval.tta = ()  # views averaged: flip_vertical, shift, scale, intensity
  c.eval.average = 'logit'  # of an ensemble's models: logit | probability
  c.eval.worst = 12  # pictures of errors in the report; 0: none
  c.eval.reject_below = 0.0  # an ensemble's first model answers alone below it
  return c.lock()


def validate(c: ml_collections.ConfigDict) -> None:
  """Checks the values of a config.

  Raises:
    errors.ConfigError: names every field that is wrong, each with its value
      and what it may be.
  """
  found = []

  def check(field: str, ok: bool, remedy: str) -> None:
    value = c
    for part in field.split('.'):
      value = value[part]
    if not ok:
      found.append(f'{field}={value!r}: {remedy}')

  def one_of(field: str, choices) -> None:
    value = c
    for part in field.split('.'):
      value = value[part]
    check(field, value in choices, 'choose ' + ', '.join(map(str, choices)))

  one_of('parallel.mode', MODES)
  one_of('data.name', DATA_SETS)
  one_of('data.reader', READERS)
  one_of('data.window', WINDOWS)
  one_of('data.quality', QUALITIES)
  one_of('data.for_processing', ('refuse', 'accept'))
  one_of('data.bits', (8, 16))
  one_of('data.split', SPLITS)
  one_of('data.target', tuple(schema.TARGETS))
  one_of('data.extra_rows', EXTRA_ROWS)
  one_of('model.pool', POOLS)
  one_of('model.pool_padding', POOL_PADDINGS)
  one_of('train.dtype', DTYPES)
  one_of('optim.schedule', SCHEDULES)
  one_of('eval.aggregate', AGGREGATES)
  one_of('eval.calibration', CALIBRATIONS)
  one_of('eval.checkpoint', CHECKPOINTS)
  one_of('eval.average', AVERAGES)
  check('eval.worst', c.eval.worst >= 0, 'at least 0')
  check('eval.reject_below', 0 <= c.eval.reject_below < 1, 'from 0 to below 1')
  views = set(c.eval.tta)
  check(
    'eval.tta',
    views <= set(VIEWS) and len(views) == len(c.eval.tta),
    'name each once, from ' + ', '.join(VIEWS),
  )
  size = c.data.size
  check(
    'data.size',
    len(size) == 2
    and all(isinstance(n, int) and 16 <= n <= 8192 for n in size),
    'two whole numbers from 16 to 8192, height and width',
  )
  check('data.folds', c.data.folds >= 2, 'at least 2')
  check(
    'data.fold',
    0 <= c.data.fold < max(c.data.folds, 1),
    'from 0 to data.folds - 1',
  )
  if c.data.split in ('site', 'machine'):
    check(
      'data.held_out',
      c.data.held_out >= 0,
      f'the {c.data.split}_id that is to be the test split',
    )
  check(
    'data.positives_per_batch',
    0 <= c.data.positives_per_batch < c.train.batch_size,
    'from 0 to train.batch_size - 1',
  )
  extra = c.data.extra
  check(
    'data.extra',
    all(isinstance(x, str) and x for x in extra)
    and len({os.path.abspath(x) for x in (*extra, c.data.dir)})
    == len(extra) + 1,
    'folders that rsna-jax prepare wrote, each once, and not data.dir',
  )
  if extra:
    check(
      'data.extra_share',
      0 < c.data.extra_share < 1 and 0 < extra_examples(c) < c.train.batch_size,
      'above 0 and below 1, so that data.dir and data.extra each have an '
      f'example of the {c.train.batch_size} of a batch',
    )
  leaks = [n for n in c.model.metadata if n not in schema.METADATA_COLUMNS]
  known = [n for n in leaks if n in schema.TRAIN_COLUMNS]
  check(
    'model.metadata',
    not leaks,
    (
      f'{", ".join(known)} exist for training rows only and leak the label; '
      if known
      else ''
    )
    + 'choose from '
    + ', '.join(schema.METADATA_COLUMNS),
  )
  check(
    'model.metadata',
    len(set(c.model.metadata)) == len(c.model.metadata),
    'name each column once',
  )
  if c.data.name == 'csv' or c.model.name == 'meta':
    check(
      'model.name',
      c.model.name == 'meta',
      'data.name=csv has no images: choose meta',
    )
    check(
      'model.metadata', bool(c.model.metadata), 'meta needs at least one column'
    )
  for field in (
    'train.steps',
    'train.batch_size',
    'train.log_every',
    'train.eval_every',
    'train.checkpoint_every',
    'train.keep',
    'eval.batch_size',
    'data.threads',
    'data.prefetch',
  ):
    group, name = field.split('.')
    check(field, c[group][name] >= 1, 'at least 1')
  for field in (
    'augment.flip_vertical',
    'model.dropout',
    'loss.label_smoothing',
    'optim.ema',
  ):
    group, name = field.split('.')
    below = 1.0 if field in ('model.dropout', 'optim.ema') else 1.0 + 1e-9
    check(field, 0 <= c[group][name] < below, 'from 0 to 1 (below, for rates)')
  for field in (
    'augment.rotation_deg',
    'augment.scale',
    'augment.shift',
    'augment.brightness',
    'augment.contrast',
    'model.epsilon',
    'model.input_scale',
    'optim.warmup_steps',
    'optim.weight_decay',
    'optim.clip_norm',
    'eval.bootstrap',
  ):
    group, name = field.split('.')
    check(field, 0 <= c[group][name] < math.inf, 'not negative, and finite')
  for field in (
    'model.width',
    'model.depth',
    'loss.positive_weight',
    'optim.learning_rate',
  ):
    group, name = field.split('.')
    check(field, 0 < c[group][name] < math.inf, 'more than 0, and finite')
  if found:
    raise errors.ConfigError('config: ' + '; '.join(found))


def extra_examples(c: ml_collections.ConfigDict) -> int:
  """How many examples of each training batch come from `data.extra`."""
  if not c.data.extra:
    return 0
  return round(c.data.extra_share * c.train.batch_size)


def load(path: str | os.PathLike) -> ml_collections.ConfigDict:
  """Returns what `get_config()` of a file in `configs/` returns.

  Raises:
    errors.ConfigError: the file is missing, does not run, or has no
      `get_config`.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.ConfigError(f'{path}: no such config; see the folder configs/')
  spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
  if spec is None or spec.loader is None:
    raise errors.ConfigError(f'{path}: a config is a Python file, name.py')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    c = module.get_config()
  except errors.InputError:
    raise
  except Exception as error:
    text = str(error).splitlines()[0] if str(error) else ''
    raise errors.ConfigError(
      f'{path}: {type(error).__name__}: {text}'.strip()
    ) from error
  if not isinstance(c, ml_collections.ConfigDict):
    raise errors.ConfigError(
      f'{path}: get_config() returns {type(c).__name__}: return '
      'config.default() with your differences'
    )
  return c


def to_json(c: ml_collections.ConfigDict) -> str:
  """The config as JSON text, tuples as lists."""
  return c.to_json_best_effort(indent=2) + '\n'


def from_json(
  text: str, where: str = 'config.json'
) -> ml_collections.ConfigDict:
  """The config that `to_json` wrote.

  Fields that the text lacks keep their defaults, so that runs of an older
  version still load.

  Raises:
    errors.ConfigError: not JSON, an unknown field, or an ill-typed value.
  """
  c = default()
  try:
    values = json.loads(text)
    c.update(_with_tuples(values))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    # ml_collections appends the whole config to what it says.
    text = ' '.join(str(error).split())[:300]
    raise errors.ConfigError(f'{where}: {text}') from error
  return c


def _with_tuples(value):
  if isinstance(value, dict):
    return {key: _with_tuples(item) for key, item in value.items()}
  return tuple(value) if isinstance(value, list) else value
