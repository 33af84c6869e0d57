"""What training minimises."""

import math

import ml_collections

from rsna_jax import auxiliary, schema
from rsna_jax.options import checks

LOSSES = ('cross_entropy', 'focal')
SURROGATES = ('pf1', 'auc', 'average_precision')
BALANCED = ('balanced',)  # of class_weights


def default() -> ml_collections.ConfigDict:
  """The fields of `loss`."""
  c = ml_collections.ConfigDict()
  # Of the main target, data.target.
  c.name = 'cross_entropy'  # a key of rsna_jax.losses.LOSSES: | focal
  c.label_smoothing = 0.0  # share of a label that is spread over all classes
  c.smoothing = 'all'  # of which labels: all | positives (those with cancer)
  c.positive_weight = 1.0  # factor of the loss of an example with cancer
  # A factor for each class, as in (1.0, 5.0) for one logit; (): none;
  # ('balanced',): inverse to the classes' frequency among the training rows.
  c.class_weights = ()
  c.focal_gamma = 2.0  # of focal: how much less what is known counts
  c.focal_alpha = 0.25  # of focal, one logit: factor of cancer; 0: none
  # Of the whole batch's metric: '' (none) | pf1 | auc | average_precision.
  c.surrogate = ''
  c.surrogate_weight = 0.5  # its share, that of loss.name being the rest
  c.temperature = 1.0  # of average_precision, in log odds
  # Coefficients of targets that are predicted besides; 0: they are not.
  c.auxiliary = ml_collections.ConfigDict(dict.fromkeys(auxiliary.TARGETS, 0.0))
  # Factors of what a network adds while it trains: losses of further logits,
  # and penalties.
  c.supervision = 1.0
  c.penalty = 1.0
  return c


def targets(c: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The auxiliary targets of a config, in the order of `auxiliary.TARGETS`."""
  return tuple(name for name in auxiliary.TARGETS if c.loss.auxiliary[name])


def check(found: checks.Checks) -> None:
  """Checks the fields of `loss`."""
  c = found.config
  found.one_of('loss.smoothing', ('all', 'positives'))
  found.share('loss.label_smoothing', 'loss.surrogate_weight')
  found.rate('loss.focal_alpha')
  found.positive('loss.positive_weight', 'loss.temperature')
  found.not_negative('loss.focal_gamma', 'loss.supervision', 'loss.penalty')
  _check_classes(found)
  if c.data.target == 'density':
    remedy = 'data.target=density has no positives: '
    found.that(
      'loss.smoothing', c.loss.smoothing == 'all', remedy + "use 'all'"
    )
    found.that('loss.surrogate', not c.loss.surrogate, remedy + 'leave it out')
  found.that(
    'loss.surrogate',
    c.loss.surrogate in ('', *SURROGATES),
    'choose ' + ', '.join(SURROGATES) + ", or '' for none",
  )
  for name in auxiliary.TARGETS:
    _check_auxiliary(found, name)


def _check_classes(found: checks.Checks) -> None:
  c = found.config
  weights = c.loss.class_weights
  count = max(schema.TARGETS.get(c.data.target, 2), 2)
  found.that(
    'loss.class_weights',
    weights in ((), BALANCED)
    or (
      len(weights) == count
      and all(isinstance(x, int | float) and 0 <= x < math.inf for x in weights)
      and any(weights)
    ),
    f'{count} factors of 0 or more, since data.target={c.data.target} has '
    f"{count} classes, ('balanced',), or () for none",
  )


def _check_auxiliary(found: checks.Checks, name: str) -> None:
  c, field = found.config, f'loss.auxiliary.{name}'
  found.not_negative(field)
  if not c.loss.auxiliary[name]:
    return
  if name == 'density':
    found.that(
      field,
      c.data.target == 'cancer',
      f'data.target={c.data.target} predicts density already: leave it at 0',
    )
  found.that(
    field,
    name not in c.model.metadata,
    f'{name} is in model.metadata, so there is nothing to learn: leave it out '
    'of one of them',
  )
