"""Fields that do nothing beside the others of a config.

Setting one is refused, since whoever sets it expects something of it. Runs that
were made before that was so still load, go on and are fine-tuned: what is
compared and computed is the same whatever the field says.
"""

from collections.abc import Mapping

import ml_collections

# What each optimiser has no use for.
_MOMENTUM = ('momentum', 'nesterov')
_OF_OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
  'adam': _MOMENTUM,
  'adamw': _MOMENTUM,
  'lamb': _MOMENTUM,
  'lion': (*_MOMENTUM, 'eps'),
  'radam': _MOMENTUM,
  'rmsprop': ('b1',),
  'sgd': ('b1', 'b2', 'eps'),
}


def fields(c: ml_collections.ConfigDict) -> dict[str, str]:
  """The fields that do nothing, set or not, and what would mend it."""
  found = {
    f'optim.{field}': f'optim.name={c.optim.name} has no use for it: leave it '
    'out, or choose another optimiser'
    for field in _OF_OPTIMIZERS.get(c.optim.name, ())
  }
  if not c.optim.momentum:
    found.setdefault(
      'optim.nesterov', 'needs an optim.momentum above 0: leave it out'
    )
  if c.optim.schedule not in ('cosine', 'linear'):
    found['optim.floor'] = (
      f'optim.schedule={c.optim.schedule} has none: leave it out, or choose '
      'cosine or linear'
    )
  if c.optim.schedule != 'one_cycle':
    found['optim.climb'] = (
      f'optim.schedule={c.optim.schedule} has none: leave it out, or choose '
      'one_cycle'
    )
  if not c.optim.freeze:
    for field in ('freeze_steps', 'freeze_statistics'):
      found[f'optim.{field}'] = (
        "optim.freeze names nothing: leave it out, or freeze ('trunk',), say"
      )
  if not c.optim.lookahead:
    found['optim.lookahead_rate'] = (
      'optim.lookahead is off: leave it out, or set both'
    )
  if c.model.name in ('density_cnn', 'meta'):
    found['model.pool'] = (
      f'model.name={c.model.name} pools nothing at its end: leave it out'
    )
  return found


def reset(
  c: ml_collections.ConfigDict, defaults: ml_collections.ConfigDict
) -> None:
  """Gives the fields of `c` that do nothing their defaults."""
  for field in fields(c):
    group, name = field.split('.')
    c[group][name] = defaults[group][name]


def changed(
  c: ml_collections.ConfigDict, defaults: ml_collections.ConfigDict
) -> dict[str, str]:
  """Those of `fields` that are set to something, and what would mend it."""
  found = {}
  for field, remedy in fields(c).items():
    group, name = field.split('.')
    if c[group][name] != defaults[group][name]:
      found[field] = remedy
  return found
