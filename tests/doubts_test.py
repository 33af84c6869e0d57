"""What is said at the start of a run that may not be what its maker meant."""

import pathlib

import jax
import pytest
import tiny

from rsna_jax import config, models, optim, steps, train

_CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'


@pytest.fixture(scope='module')
def state():
  c = tiny.make_config('data', model__width=0.05)
  return steps.create_state(
    models.create(c), optim.create(c), c, jax.random.key(0), meta_width=0
  )


def doubts(state, loaded=(), **fields):
  c = tiny.make_config('data', **fields)
  return list(train._doubts(c, state, loaded))


def test_a_run_that_freezes_nothing_leaves_no_doubt(state):
  assert doubts(state) == []
  assert doubts(state, optim__freeze=('trunk',), optim__freeze_steps=0) == []


@pytest.mark.parametrize(
  ('count', 'words'), [(1000, 'for the first 1000 steps'), (-1, 'for ever')]
)
def test_frozen_arrays_that_were_not_loaded_are_told(state, count, words):
  names = [
    'trunk/' + jax.tree_util.keystr(path, simple=True, separator='/')
    for path, _ in jax.tree_util.tree_leaves_with_path(state.params['trunk'])
  ]
  fields = {'optim__freeze': ('trunk',), 'optim__freeze_steps': count}
  (line,) = doubts(state, **fields)
  assert f': {len(names)} of {len(names)} arrays, as {names[0]}, ' in line
  assert words in line and 'model.init_from' in line and '\n' not in line
  assert doubts(state, names, **fields) == []
  (line,) = doubts(state, names[1:], **fields)
  assert f': 1 of {len(names)} arrays, as {names[0]}, ' in line


def test_the_config_of_a_transfer_says_when_it_has_nothing_to_transfer(state):
  c = config.load(_CONFIGS / 'xception_transfer.py')
  (line,) = train._doubts(c, state, ())
  assert line.startswith("optim.freeze=('trunk',): ")


def test_a_learning_rate_that_never_gets_up_is_told(state):
  fields = {'optim__warmup_steps': 500, 'train__steps': 100}
  (line,) = doubts(state, **fields)
  assert line.endswith('ends at 0.2 of optim.learning_rate')
  rate = optim.schedule(tiny.make_config('data', **fields))
  assert float(rate(99)) == pytest.approx(0.2 * 1e-3)
  assert doubts(state, optim__warmup_steps=100, train__steps=100) == []
