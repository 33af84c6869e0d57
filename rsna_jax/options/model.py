"""The network."""

import ml_collections

from rsna_jax import schema
from rsna_jax.options import checks

POOLS = ('mean', 'max', 'gem', 'attention')
# Networks of single images that many_view and global_local may be made of.
TRUNKS = ('cnn', 'convnext_small', 'efficientnetv2_s', 'xception')
POOL_PADDINGS = ('auto', 'same', 'one')
FORMS = ('auto', 'fast', 'fused', 'plain')
REMAT = ('none', 'blocks')
# The fields of global_local alone.
GLOBAL_LOCAL = (
  'patches',
  'patch_size',
  'local_width',
  'global_stride',
  'top_share',
)


def default() -> ml_collections.ConfigDict:
  """The fields of `model`."""
  c = ml_collections.ConfigDict()
  c.name = 'xception'  # a key of rsna_jax.models.MODELS
  # Of many_view and global_local: what looks at images and patches.
  c.trunk = 'xception'  # cnn | convnext_small | efficientnetv2_s | xception
  # Of many_view: share of the images of which view and laterality are hidden in
  # training.
  c.hide_codes = 0.1
  # Of global_local.
  c.patches = 6  # looked at closely, in each image
  c.patch_size = 256  # their side, in pixels of data.size
  c.local_width = 0.0  # as `width`, of what looks at patches; 0: the same
  c.global_stride = 1  # side of the squares whose mean the whole is seen by
  c.top_share = 0.05  # of the places of its map, whose mean is its answer
  c.width = 1.0  # factor of the number of channels
  c.depth = 1.0  # factor of the number of repeated blocks
  c.pool = 'mean'  # of the last feature map: mean max gem attention
  c.dropout = 0.0  # before the last Dense layer
  # Share of the examples for which the last residual block is left out in
  # training; it rises linearly with depth.
  c.drop_path = 0.0
  # none | blocks: blocks are computed a second time for the gradient, which
  # needs less memory and gives the same.
  c.remat = 'none'
  c.metadata = ()  # columns beside the pixels; see METADATA_COLUMNS
  # Width of a learned vector for each category or number of the metadata, which
  # then act together; 0: each by itself, in the last Dense layer.
  c.metadata_embedding = 0
  # A run directory, or what `rsna-jax weights` wrote, to start from.
  c.init_from = ''
  # As the weights to start from were trained; 0 and auto: as they were, or the
  # network's own.
  c.epsilon = 0.0  # of normalisation
  c.pool_padding = 'auto'  # of strided pools: auto | same | one
  c.input_scale = 0.0  # the input is the image in [0, 1] times it, less 1
  # Of its layers, equal but for rounding: fast on CPUs, fused on NVIDIA GPUs,
  # plain, or auto, by the platform.
  c.forms = 'auto'
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `model`."""
  c = found.config
  found.one_of('model.trunk', TRUNKS)
  found.share('model.hide_codes')
  _check_global_local(found)
  found.one_of('model.pool', POOLS)
  found.one_of('model.pool_padding', POOL_PADDINGS)
  found.one_of('model.forms', FORMS)
  found.rate('model.dropout', 'model.drop_path')
  found.one_of('model.remat', REMAT)
  found.not_negative('model.epsilon', 'model.input_scale')
  found.positive('model.width', 'model.depth')
  found.that(
    'model.metadata_embedding',
    c.model.metadata_embedding >= 0
    and bool(c.model.metadata or not c.model.metadata_embedding),
    '0 or more, and 0 without model.metadata',
  )
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


def _check_global_local(found: checks.Checks) -> None:
  c = found.config
  found.at_least_one('model.patches', 'model.global_stride', 'model.patch_size')
  found.not_negative('model.local_width')
  found.that(
    'model.top_share',
    0 < c.model.top_share <= 1,
    'above 0, and at most 1',
  )
  if c.model.name == 'global_local':
    found.that(
      'model.patch_size',
      c.model.patch_size <= min(c.data.size),
      f'at most {min(c.data.size)}, the shorter side of data.size',
    )
