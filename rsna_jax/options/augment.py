"""How training images are changed at random."""

import ml_collections

from rsna_jax.options import checks


def default() -> ml_collections.ConfigDict:
  """The fields of `augment`; what is 0 is off."""
  c = ml_collections.ConfigDict()
  c.flip_vertical = 0.5  # probability
  c.rotation_deg = 10.0  # up to, either way
  c.scale = 0.1  # up to, relative, either way
  c.shift = 0.05  # up to, of height and width, either way
  c.brightness = 0.1  # up to, either way, where white is 1
  c.contrast = 0.1  # up to, relative, either way
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `augment`."""
  found.share('augment.flip_vertical')
  found.not_negative(
    'augment.rotation_deg',
    'augment.scale',
    'augment.shift',
    'augment.brightness',
    'augment.contrast',
  )
