"""The network."""

import ml_collections

from rsna_jax import schema
from rsna_jax.options import checks

POOLS = ('mean', 'max', 'gem', 'attention')
POOL_PADDINGS = ('auto', 'same', 'one')
FORMS = ('auto', 'fast', 'plain')


def default() -> ml_collections.ConfigDict:
  """The fields of `model`."""
  c = ml_collections.ConfigDict()
  c.name = 'xception'  # a key of rsna_jax.models.MODELS
  c.width = 1.0  # factor of the number of channels
  c.depth = 1.0  # factor of the number of repeated blocks
  c.pool = 'mean'  # of the last feature map: mean max gem attention
  c.dropout = 0.0  # before the last Dense layer
  c.metadata = ()  # columns beside the pixels; see METADATA_COLUMNS
  # A run directory, or what `rsna-jax weights` wrote, to start from.
  c.init_from = ''
  # As the weights to start from were trained; 0 and auto: as they were, or the
  # network's own.
  c.epsilon = 0.0  # of normalisation
  c.pool_padding = 'auto'  # of strided pools: auto | same | one
  c.input_scale = 0.0  # the input is the image in [0, 1] times it, less 1
  # Of its layers, equal but for rounding: fast on CPUs, plain, or auto: fast on
  # CPUs and plain elsewhere.
  c.forms = 'auto'
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `model`."""
  c = found.config
  found.one_of('model.pool', POOLS)
  found.one_of('model.pool_padding', POOL_PADDINGS)
  found.one_of('model.forms', FORMS)
  found.rate('model.dropout')
  found.not_negative('model.epsilon', 'model.input_scale')
  found.positive('model.width', 'model.depth')
  leaks = [n for n in c.model.metadata if n not in schema.METADATA_COLUMNS]
  known = [n for n in leaks if n in schema.TRAIN_COLUMNS]
  found.that(
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
  found.that(
    'model.metadata',
    len(set(c.model.metadata)) == len(c.model.metadata),
    'name each column once',
  )
  if c.data.name == 'csv' or c.model.name == 'meta':
    found.that(
      'model.name',
      c.model.name == 'meta',
      'data.name=csv has no images: choose meta',
    )
    found.that(
      'model.metadata', bool(c.model.metadata), 'meta needs at least one column'
    )
