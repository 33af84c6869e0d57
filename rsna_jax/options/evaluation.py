"""How a run is evaluated and reported."""

import ml_collections

from rsna_jax.options import checks

AGGREGATES = ('mean', 'max', 'noisy_or', 'view_max', 'learned')
CALIBRATIONS = ('none', 'temperature', 'platt', 'beta', 'isotonic')
CHECKPOINTS = ('best', 'latest')
VIEWS = ('flip_vertical', 'shift', 'scale', 'intensity')
AVERAGES = ('logit', 'probability')


def default() -> ml_collections.ConfigDict:
  """The fields of `eval`."""
  c = ml_collections.ConfigDict()
  c.batch_size = 64  # of all devices together
  c.views = 4  # images of a breast that a many-view model sees at once
  c.aggregate = 'mean'  # to a breast: mean max noisy_or view_max learned
  # Of breasts, fitted out of fold: none temperature platt beta isotonic.
  c.calibration = 'none'
  # pf1 | best_f1 | recall_rate=R | sensitivity=S | specificity=S | a number
  c.rule = 'best_f1'
  c.per_site = False  # calibration and threshold of a site's own
  c.checkpoint = 'best'  # on the validation split | latest
  c.bootstrap = 2_000  # resamples of patients behind each interval
  # With optim.ema: judges the weights as they are, too, while training.
  c.raw = True
  c.tta = ()  # views averaged: flip_vertical, shift, scale, intensity
  c.average = 'logit'  # of an ensemble's models: logit | probability
  c.worst = 12  # pictures of errors in the report; 0: none
  c.reject_below = 0.0  # an ensemble's first model answers alone below it
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `eval`."""
  found.one_of('eval.aggregate', AGGREGATES)
  found.one_of('eval.calibration', CALIBRATIONS)
  found.one_of('eval.checkpoint', CHECKPOINTS)
  found.one_of('eval.average', AVERAGES)
  found.each_of('eval.tta', VIEWS)
  found.at_least_one('eval.batch_size')
  found.views('eval.views')
  found.not_negative('eval.bootstrap', 'eval.worst')
  found.rate('eval.reject_below')
