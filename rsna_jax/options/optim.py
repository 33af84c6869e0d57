"""The optimiser and its learning rate."""

import ml_collections

from rsna_jax.options import checks

SCHEDULES = ('constant', 'cosine', 'linear')


def default() -> ml_collections.ConfigDict:
  """The fields of `optim`."""
  c = ml_collections.ConfigDict()
  c.name = 'adamw'  # a key of rsna_jax.optim.OPTIMIZERS
  c.learning_rate = 1e-3  # at the peak
  c.schedule = 'cosine'  # constant | cosine | linear
  c.warmup_steps = 0
  c.weight_decay = 1e-4  # of kernels alone
  c.clip_norm = 1.0  # of the gradient; 0: off
  c.ema = 0.0  # decay of the averaged weights that predict; 0: off
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `optim`."""
  found.one_of('optim.schedule', SCHEDULES)
  found.rate('optim.ema')
  found.positive('optim.learning_rate')
  found.not_negative(
    'optim.warmup_steps', 'optim.weight_decay', 'optim.clip_norm'
  )
