"""What training minimises."""

import ml_collections

from rsna_jax.options import checks


def default() -> ml_collections.ConfigDict:
  """The fields of `loss`."""
  c = ml_collections.ConfigDict()
  c.name = 'cross_entropy'  # a key of rsna_jax.losses.LOSSES
  c.label_smoothing = 0.0
  c.positive_weight = 1.0  # weight of a positive example
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `loss`."""
  found.share('loss.label_smoothing')
  found.positive('loss.positive_weight')
