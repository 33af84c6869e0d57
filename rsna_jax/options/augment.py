"""How training images are changed at random."""

import ml_collections

from rsna_jax.options import checks

# The largest share of a cell that cannot fold an image; see
# `data.augment.geometry.elastic`.
UNFOLDED = 0.48


def default() -> ml_collections.ConfigDict:
  """The fields of `augment`; what is 0 is off."""
  c = ml_collections.ConfigDict()
  # Geometry, in one resampling. The chest wall is at the left.
  c.flip_vertical = 0.5  # probability
  # Probability; breasts are turned to one side when they are prepared, so this
  # is for sets that mean to forget it.
  c.flip_horizontal = 0.0
  c.rotation_deg = 10.0  # up to, either way
  c.scale = 0.1  # up to, relative, either way
  c.shift = 0.05  # up to, of height and width, either way
  c.shear_deg = 0.0  # up to, either way, of rows and of columns
  # Each edge of the breast box moves by up to this share of height or width,
  # the left one inwards alone: both axes stretch by themselves.
  c.box_jitter = 0.0
  # Up to this share of each edge is cut off without a change of scale: top,
  # bottom and right turn black, at the left the rest moves up to the wall.
  c.crop = 0.0
  # Smooth random displacement, up to this share of a cell (at most 0.48: more
  # may fold the image), and how many cells span the shorter side.
  c.elastic = 0.0
  c.elastic_cells = 4
  # Rows and columns of a grid get wider or narrower by up to this share, and
  # how many there are.
  c.grid = 0.0
  c.grid_cells = 5
  # Grey values. All but polarity leave black black.
  c.brightness = 0.1  # up to, either way, where white is 1
  c.contrast = 0.1  # up to, relative, either way
  c.gamma = 0.0  # exponents from 1 / (1 + gamma) to 1 + gamma
  c.tone_curve = 0.0  # a random rising curve; slopes 1 +- this, before scaling
  c.polarity = 0.0  # probability that black and white change places
  # What takes away of an image.
  c.downscale = 0.0  # pixels become up to 1 + this times larger
  c.noise = 0.0  # standard deviation, up to, where white is 1
  c.cutout = 0  # black rectangles, at most so many
  c.cutout_size = 0.2  # of height and width, at most; at least half of it
  # Two examples of a batch become one, with the labels of both: probabilities
  # that an example is blended with its neighbour (mixup), or gets a rectangle
  # of it (cutmix), and the parameter of the beta distribution of the share.
  c.mixup = 0.0
  c.mixup_alpha = 0.4
  c.cutmix = 0.0
  c.cutmix_alpha = 1.0
  # Examples of the first batch in plots/augmentations.png; 0: no such picture.
  c.sheet = 6
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `augment`."""
  c = found.config.augment
  found.share(
    'augment.flip_vertical',
    'augment.flip_horizontal',
    'augment.polarity',
    'augment.mixup',
    'augment.cutmix',
    'augment.cutout_size',
  )
  found.not_negative(
    'augment.rotation_deg',
    'augment.shift',
    'augment.brightness',
    'augment.contrast',
    'augment.gamma',
    'augment.downscale',
    'augment.noise',
    'augment.cutout',
    'augment.sheet',
  )
  # From 1 on, what is divided by or kept may be nothing.
  found.rate('augment.scale', 'augment.grid', 'augment.tone_curve')
  for field in ('augment.box_jitter', 'augment.crop'):
    found.that(field, 0 <= found.value(field) < 0.5, 'from 0 to below 0.5')
  found.that('augment.shear_deg', 0 <= c.shear_deg <= 45, 'from 0 to 45')
  found.that(
    'augment.elastic', 0 <= c.elastic <= UNFOLDED, f'from 0 to {UNFOLDED}'
  )
  if c.elastic:
    found.at_least_one('augment.elastic_cells')
  if c.grid:
    found.at_least_one('augment.grid_cells')
  if c.mixup:
    found.positive('augment.mixup_alpha')
  if c.cutmix:
    found.positive('augment.cutmix_alpha')
  if c.mixup or c.cutmix:
    field = 'augment.cutmix' if c.cutmix else 'augment.mixup'
    found.that(
      field,
      c.mixup + c.cutmix <= 1,
      'augment.mixup and augment.cutmix add up to 1 at most',
    )
    found.that(
      field,
      found.config.train.batch_size % 2 == 0,
      'mixes pairs: take an even train.batch_size',
    )
