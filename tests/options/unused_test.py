"""Fields that do nothing beside others, and runs of a time that allowed it."""

import pytest

from rsna_jax import config, errors, run
from rsna_jax.options import unused

# What no optimiser, schedule or network of the others has a use for.
_UNUSED = [
  ({'optim.nesterov': True}, 'optim.name', ('sgd', 'rmsprop')),
  ({'optim.momentum': 0.5}, 'optim.name', ('sgd', 'rmsprop')),
  (
    {'optim.b1': 0.8},
    'optim.name',
    ('adam', 'adamw', 'lamb', 'lion', 'radam'),
  ),
  (
    {'optim.b2': 0.9},
    'optim.name',
    ('adam', 'adamw', 'lamb', 'lion', 'radam', 'rmsprop'),
  ),
  (
    {'optim.eps': 1e-4},
    'optim.name',
    ('adam', 'adamw', 'lamb', 'radam', 'rmsprop'),
  ),
  ({'optim.floor': 0.1}, 'optim.schedule', ('cosine', 'linear')),
  ({'optim.climb': 0.1}, 'optim.schedule', ('one_cycle',)),
  ({'optim.freeze_steps': 5}, 'optim.freeze', (('trunk',),)),
  ({'optim.freeze_statistics': False}, 'optim.freeze', (('trunk',),)),
  ({'optim.lookahead_rate': 0.4}, 'optim.lookahead', (6,)),
  (
    {'model.pool': 'max'},
    'model.name',
    ('cnn', 'xception', 'many_view', 'global_local'),
  ),
]
_CHOICES = {
  'optim.name': ('adam', 'adamw', 'lamb', 'lion', 'radam', 'rmsprop', 'sgd'),
  'optim.schedule': ('constant', 'cosine', 'linear', 'one_cycle'),
  'optim.freeze': ((), ('trunk',)),
  'optim.lookahead': (0, 6),
  'model.name': ('cnn', 'density_cnn', 'meta', 'xception', 'global_local'),
}


@pytest.mark.parametrize(
  ('fields', 'by', 'users'), _UNUSED, ids=[next(iter(x[0])) for x in _UNUSED]
)
def test_a_field_that_does_nothing_is_refused_where_it_does(fields, by, users):
  ((field, value),) = fields.items()
  for choice in _CHOICES[by]:
    c = config.default()
    c.model.metadata = ('age',)
    _set(c, by, choice)
    config.validate(c)  # as it comes
    _set(c, field, value)
    if choice in users:
      config.validate(c)
      continue
    with pytest.raises(errors.ConfigError) as caught:
      config.validate(c)
    message = str(caught.value)
    assert message.startswith(f'config: {field}={value!r}: ')
    assert 'leave it out' in message and '\n' not in message
    # A run that was made before this was refused still loads, and may go on
    # with the field or without it, but not with another that counts.
    old = config.from_json(config.to_json(c))
    assert old.to_dict() == c.to_dict()
    new = config.from_json(config.to_json(c))
    unused.reset(new, config.default())
    config.validate(new)
    assert not run._differences(old, new)
    new.optim.learning_rate = 0.5
    assert len(run._differences(old, new)) == 1


def test_momentum_of_nesterov_has_to_be_there():
  c = config.default()
  c.optim.name, c.optim.momentum, c.optim.nesterov = 'sgd', 0.0, True
  with pytest.raises(errors.ConfigError, match=r'an optim\.momentum above 0'):
    config.validate(c)


def test_a_field_that_counts_now_is_a_difference():
  old = config.default()
  old.optim.name, old.optim.nesterov = 'adam', True
  new = config.from_json(config.to_json(old))
  new.optim.name, new.optim.nesterov = 'sgd', False
  assert len(run._differences(old, new)) == 2


def _set(c, field, value):
  group, name = field.split('.')
  with c.ignore_type():
    c[group][name] = value
