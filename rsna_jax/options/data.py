"""Which images a run is about, and how their batches are made."""

import os

import ml_collections

from rsna_jax import schema
from rsna_jax.options import checks

DATA_SETS = ('rsna_mammography', 'mammography_folders', 'csv')
READERS = ('auto', 'tf', 'numpy')
WINDOWS = ('full', 'linear', 'none')
QUALITIES = ('fast', 'fine', 'exact')
SPLITS = ('folds', 'public', 'site', 'machine')
EXTRA_ROWS = ('train', 'all')
HARD_NEGATIVES = ('difficult_negative_case', 'birads_0')
GROUPS = ('image', 'breast', 'exam')


def default() -> ml_collections.ConfigDict:
  """The fields of `data`."""
  c = ml_collections.ConfigDict()
  c.name = 'rsna_mammography'  # | mammography_folders | csv (no images)
  c.dir = 'data'  # what `rsna-jax prepare --data-dir` wrote; csv: a folder
  c.size = (512, 256)  # height and width of the prepared images
  c.bits = 8  # 8 | 16 bits a pixel
  c.window = 'full'  # VOI: full (any function) | linear (alone) | none
  c.quality = 'fast'  # fast | fine | exact, as the data were prepared
  c.for_processing = 'refuse'  # refuse | accept raw images
  c.reader = 'auto'  # tf (tf.data) | numpy | auto: tf where installed
  c.threads = 2  # that decode images
  c.prefetch = 2  # batches held ready
  c.split = 'folds'  # folds | public | site | machine: see data/folds.py
  c.held_out = -1  # the site_id or machine_id that is the test split
  c.folds = 4  # k of the patient-grouped folds
  c.fold = 0  # the fold that is the validation split
  c.split_seed = 0  # of the folds
  c.target = 'cancer'  # cancer | density | density_cancer
  # What an example is: one image; the images of a breast; or those of a breast
  # and of the other side, to compare. The last two need a many-view model.
  c.group = 'image'  # image | breast | exam
  c.views = 2  # images of a breast in a training example; more are drawn from
  # With cancer, in every batch; 0: as they come. 1 for each 7 others is 1/8 of
  # train.batch_size: 4 of 32.
  c.positives_per_batch = 1
  # The number goes there in a line over so many steps, to the nearest whole
  # one, and stays; -1: it does not change.
  c.positives_final = -1
  c.positives_until = 0
  # Which examples without cancer are hard, and how many times as often as
  # others without cancer they are drawn; 1: as all others are.
  c.hard_negatives = HARD_NEGATIVES
  c.hard_weight = 1.0
  # More folders that `prepare` wrote with the same spec, to train on besides.
  c.extra = ()
  c.extra_share = 0.5  # of every training batch, that is drawn from them
  c.extra_rows = 'train'  # of them: train, as data.split has it, or all
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `data`."""
  c = found.config
  found.one_of('data.name', DATA_SETS)
  found.one_of('data.reader', READERS)
  found.one_of('data.window', WINDOWS)
  found.one_of('data.quality', QUALITIES)
  found.one_of('data.for_processing', ('refuse', 'accept'))
  found.one_of('data.bits', (8, 16))
  found.one_of('data.split', SPLITS)
  found.one_of('data.target', tuple(schema.TARGETS))
  found.one_of('data.group', GROUPS)
  found.one_of('data.extra_rows', EXTRA_ROWS)
  found.at_least_one('data.threads', 'data.prefetch')
  found.views('data.views')
  size = c.data.size
  found.that(
    'data.size',
    len(size) == 2
    and all(isinstance(n, int) and 16 <= n <= 8192 for n in size),
    'two whole numbers from 16 to 8192, height and width',
  )
  found.that('data.folds', c.data.folds >= 2, 'at least 2')
  found.that(
    'data.fold',
    0 <= c.data.fold < max(c.data.folds, 1),
    'from 0 to data.folds - 1',
  )
  if c.data.split in ('site', 'machine'):
    found.that(
      'data.held_out',
      c.data.held_out >= 0,
      f'the {c.data.split}_id that is to be the test split',
    )
  _check_sampling(found)
  _check_extra(found)
  _check_group(found)


def extra_examples(c: ml_collections.ConfigDict) -> int:
  """How many examples of each training batch come from `data.extra`."""
  if not c.data.extra:
    return 0
  return round(c.data.extra_share * c.train.batch_size)


def _check_sampling(found: checks.Checks) -> None:
  c = found.config
  largest = c.train.batch_size - 1
  found.that(
    'data.positives_per_batch',
    0 <= c.data.positives_per_batch <= largest,
    'from 0 to train.batch_size - 1',
  )
  if c.data.positives_final != -1:
    found.that(
      'data.positives_final',
      0 < c.data.positives_final <= largest and c.data.positives_per_batch > 0,
      'from 1 to train.batch_size - 1, beside a data.positives_per_batch of at '
      'least 1; or -1',
    )
    found.at_least_one('data.positives_until')
  else:
    found.that(
      'data.positives_until',
      c.data.positives_until == 0,
      'set data.positives_final, too, or leave both out',
    )
  found.each_of('data.hard_negatives', HARD_NEGATIVES)
  found.positive('data.hard_weight')
  if c.data.hard_weight != 1:
    found.that(
      'data.hard_negatives',
      bool(c.data.hard_negatives),
      f'name what data.hard_weight={c.data.hard_weight} is of',
    )


def _check_extra(found: checks.Checks) -> None:
  c = found.config
  extra = c.data.extra
  found.that(
    'data.extra',
    all(isinstance(x, str) and x for x in extra)
    and len({os.path.abspath(x) for x in (*extra, c.data.dir)})
    == len(extra) + 1,
    'folders that rsna-jax prepare wrote, each once, and not data.dir',
  )
  if extra:
    found.that(
      'data.extra_share',
      0 < c.data.extra_share < 1 and 0 < extra_examples(c) < c.train.batch_size,
      'above 0 and below 1, so that data.dir and data.extra each have an '
      f'example of the {c.train.batch_size} of a batch',
    )


def _check_group(found: checks.Checks) -> None:
  """That what is grouped is joined by the network, and by nothing else."""
  c = found.config
  many = c.model.name == 'many_view'
  found.that(
    'data.group',
    many == (c.data.group != 'image'),
    'model.name=many_view looks at the images of a breast: choose breast or '
    'exam'
    if many
    else f'model.name={c.model.name} looks at one image: choose image, or '
    'model.name=many_view',
  )
  if c.data.group in ('breast', 'exam'):
    found.that(
      'eval.aggregate',
      c.eval.aggregate in ('mean', 'max', 'view_max'),
      f'data.group={c.data.group}: all images of a breast have its answer: '
      'choose mean',
    )
    # They would be of whichever image comes first.
    found.that(
      'loss.auxiliary.view',
      not c.loss.auxiliary.view,
      f'data.group={c.data.group}: an example has images of several views: '
      'set it to 0',
    )
    found.that(
      'model.metadata',
      'view' not in c.model.metadata,
      f'data.group={c.data.group}: the network knows the view of each image: '
      'leave view out',
    )
