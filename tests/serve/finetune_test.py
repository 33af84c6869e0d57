"""The config of a fine-tuning, of parents that were trained in other ways."""

import types

import pytest

from rsna_jax import config
from rsna_jax.serve.learning import finetune, retrain_options


def made(tmp_path, *options, older=False, **fields):
  """The config that a parent with these fields is fine-tuned by.

  Args:
    older: of a time in which they were not refused.
  """
  c = config.default()
  for name, value in fields.items():
    group, field = name.split('__')
    c[group][field] = value
  if not older:
    config.validate(c)
  return finetune.make_config(
    types.SimpleNamespace(config=c),
    types.SimpleNamespace(folder=tmp_path / 'parent'),
    1,
    tmp_path / 'extra',
    retrain_options.parse(options),
  )


def test_a_parent_with_a_schedule_of_steps_can_be_fine_tuned(tmp_path):
  c = made(
    tmp_path,
    optim__schedule='piecewise',
    optim__boundaries=(100, 200),
    optim__factors=(0.1, 0.1),
  )
  assert (c.optim.schedule, c.optim.boundaries) == ('cosine', ())
  assert c.optim.factors == ()


@pytest.mark.parametrize('steps, frozen', [(1000, ()), (-1, ('trunk',))])
def test_what_has_thawed_learns_and_what_is_frozen_for_ever_does_not(
  tmp_path, steps, frozen
):
  c = made(tmp_path, optim__freeze=('trunk',), optim__freeze_steps=steps)
  assert c.optim.freeze == frozen


def test_an_older_parent_may_set_what_does_nothing(tmp_path):
  fields = {'optim__nesterov': True, 'optim__freeze_statistics': False}
  c = made(tmp_path, older=True, **fields)
  assert not c.optim.nesterov and c.optim.freeze_statistics


def test_a_batch_of_another_size_still_has_equal_parts(tmp_path):
  fields = {'train__batch_size': 32, 'train__accumulate': 4}
  assert made(tmp_path, **fields).train.accumulate == 4
  c = made(tmp_path, 'batch_size=6', **fields)
  assert (c.train.batch_size, c.train.accumulate) == (6, 2)
