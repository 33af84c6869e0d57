"""The optimiser, its learning rates, and what it leaves as it is."""

import ml_collections

from rsna_jax.options import checks

SCHEDULES = ('constant', 'cosine', 'linear', 'one_cycle', 'piecewise')


def default() -> ml_collections.ConfigDict:
  """The fields of `optim`."""
  c = ml_collections.ConfigDict()
  c.name = 'adamw'  # adam adamw lamb lion radam rmsprop sgd
  c.learning_rate = 1e-3  # at the peak
  c.schedule = 'cosine'  # constant | cosine | linear | one_cycle | piecewise
  c.warmup_steps = 0  # before any schedule
  c.floor = 0.0  # where cosine and linear end, as a share of the peak
  c.climb = 0.3  # share of the steps in which one_cycle climbs
  c.boundaries = ()  # of piecewise: steps, rising
  c.factors = ()  # that the rate is multiplied by from each boundary on
  c.momentum = 0.9  # of sgd and rmsprop
  c.nesterov = False  # of sgd and rmsprop
  c.b1 = 0.9  # decay of the first moment
  c.b2 = 0.0  # of the second; 0: 0.999, of lion 0.99, of rmsprop 0.9
  c.eps = 0.0  # 0: 1e-8, of lamb 1e-6; lion has none
  c.weight_decay = 1e-4  # of kernels alone
  c.clip_value = 0.0  # of each entry of the gradient, before its norm; 0: off
  c.clip_norm = 1.0  # of the gradient; 0: off
  # Learning rate of each part of the network, a block say, as a share of that
  # of the part after it; the head has the whole one.
  c.layer_decay = 1.0
  # Paths of parameters that stay as they are, such as ('trunk',) or
  # ('trunk/block[1-4]_*',).
  c.freeze = ()
  c.freeze_steps = -1  # for so many steps; -1: for ever
  c.freeze_statistics = True  # batch normalisation of those parts, too
  c.lookahead = 0  # steps between meetings of fast and slow weights; 0: off
  c.lookahead_rate = 0.5  # share of the way that the slow ones follow
  c.ema = 0.0  # decay of the averaged weights that predict; 0: off
  return c


def check(found: checks.Checks) -> None:
  """Checks the fields of `optim`."""
  found.one_of('optim.schedule', SCHEDULES)
  found.rate('optim.ema', 'optim.momentum', 'optim.b1', 'optim.b2')
  found.positive('optim.learning_rate')
  found.not_negative(
    'optim.warmup_steps',
    'optim.weight_decay',
    'optim.clip_norm',
    'optim.clip_value',
    'optim.eps',
    'optim.lookahead',
  )
  found.share('optim.floor')
  c = found.config.optim
  found.that('optim.climb', 0 < c.climb < 1, 'above 0 and below 1')
  for field in ('layer_decay', 'lookahead_rate'):
    found.that(f'optim.{field}', 0 < c[field] <= 1, 'above 0, up to 1')
  _check_piecewise(found)
  found.that(
    'optim.freeze_steps', c.freeze_steps >= -1, 'steps, or -1 for ever'
  )
  found.that(
    'optim.freeze',
    all(
      isinstance(path, str) and path and all(path.split('/'))
      for path in c.freeze
    ),
    "paths of parameters, such as ('trunk',), without a slash at either end",
  )


def _check_piecewise(found: checks.Checks) -> None:
  c = found.config.optim
  steps, factors = c.boundaries, c.factors
  found.that(
    'optim.boundaries',
    all(isinstance(step, int) and step > 0 for step in steps)
    and list(steps) == sorted(set(steps)),
    'whole steps, 1 or more, each above the one before',
  )
  found.that(
    'optim.factors',
    all(isinstance(x, int | float) and 0 < x <= 1000 for x in factors),
    'numbers above 0, up to 1000',
  )
  found.that(
    'optim.factors',
    len(steps) == len(factors),
    f'one for each of the {len(steps)} optim.boundaries',
  )
  found.that(
    'optim.boundaries',
    bool(steps) == (c.schedule == 'piecewise'),
    'steps for optim.schedule=piecewise, and () for the others',
  )
