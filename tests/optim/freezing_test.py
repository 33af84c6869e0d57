"""Frozen parts keep every bit, and thaw where they should."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_steps

from rsna_jax import checkpoint, errors, optim, steps
from rsna_jax.optim import freezing

STEPS, THAW = 5, 3


def make_config(**fields):
  return tiny_steps.make_config(
    **{
      'optim__freeze': ('trunk',),
      'optim__freeze_steps': THAW,
      'optim__weight_decay': 0.1,
      'optim__ema': 0.9,
      'optim__learning_rate': 0.01,
      **fields,
    }
  )


@pytest.fixture(scope='module')
def run():
  """A function from state and first step to the states after each step."""
  freeze = optim.freeze_of(make_config())
  compiled = {}
  for held in (freeze, None):
    step, first = tiny_steps.make(make_config(), freeze=held)
    compiled[held] = jax.jit(step)

  def train(state=None, start=0, stop=STEPS):
    states = [first if state is None else state]
    for done in range(start, stop):
      held = freeze if freeze.active(done) else None
      batch = tiny_steps.make_batch(done)
      state, _ = compiled[held](states[-1], batch, jax.random.key(1))
      states.append(state)
    return states

  return train


def parts(state, name):
  """What a state has of one of the first names."""
  return [
    tree[name]
    for tree in (
      state.params,
      state.batch_stats,
      state.ema_params,
      state.ema_batch_stats,
    )
    if name in tree
  ]


def test_what_is_frozen_keeps_every_bit_and_then_thaws(run):
  states = run()
  for before, after in itertools.pairwise(states):
    frozen = after.step <= THAW
    for old, new in zip(
      jax.tree.leaves(parts(before, 'trunk')),
      jax.tree.leaves(parts(after, 'trunk')),
      strict=True,
    ):
      assert np.array_equal(old, new) == frozen
    heads = [jax.tree.leaves(parts(state, 'head')) for state in (before, after)]
    assert not any(map(np.array_equal, *heads))
  # The moments of what is frozen, and their count, stand still.
  waiting, started = (
    state.opt_state[1] for state in (states[THAW], states[-1])
  )
  tiny_steps.equal(waiting.frozen, states[0].opt_state[1].frozen)
  assert int(optax.tree.get(started.frozen, 'count', filtering=_adam)) == 2


def _adam(path, value):
  del value
  return 'ScaleByAdam' in str(path)


def test_what_is_kept_of_the_state_before_is_what_is_frozen():
  c = make_config()
  _, before = tiny_steps.make(c)
  after = jax.tree.map(lambda x: x + 1, before)
  found = steps.kept(before, after, optim.freeze_of(c))
  tiny_steps.equal(parts(found, 'trunk'), parts(before, 'trunk'))
  tiny_steps.equal(parts(found, 'head'), parts(after, 'head'))
  assert len(parts(found, 'trunk')) == 4
  c.optim.freeze_statistics = False
  found = steps.kept(before, after, optim.freeze_of(c))
  tiny_steps.equal(found.batch_stats, after.batch_stats)


def test_the_first_step_after_the_thaw_is_a_first_step_of_adam(run):
  states = run(stop=THAW + 1)
  c = make_config()
  before, after = (state.params['trunk'] for state in states[-2:])
  # Of a first step without decay each entry moves by the rate, whatever the
  # gradient; a count that had run on would have it move three times as far.
  rate = float(optim.schedule(c)(THAW))
  decayed = jax.tree.map(
    lambda p: p - rate * 0.1 * p if p.ndim > 1 else p, before
  )
  moved = jax.tree.map(lambda a, b: np.abs(a - b), after, decayed)
  for leaf in jax.tree.leaves(moved):
    np.testing.assert_allclose(np.median(leaf), rate, rtol=0.01)


def test_a_run_stopped_and_continued_across_the_thaw_is_the_same(run, tmp_path):
  whole = run()[-1]
  half = run(stop=2)[-1]
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(half, 2)
    restored = saved.restore(half)
  assert restored.step == 2
  tiny_steps.equal(run(restored.state, start=2)[-1], whole)


def test_frozen_normalisation_works_as_in_prediction():
  c = make_config(optim__ema=0.0)
  freeze = optim.freeze_of(c)
  step, state = tiny_steps.make(c, freeze=freeze)
  moved = jax.tree.map(lambda x: x + 0.3, state.batch_stats)
  state = state.replace(batch_stats=moved)
  batch = tiny_steps.make_batch()
  model = tiny_steps.Network()
  logits = model.apply(
    {'params': state.params, 'batch_stats': moved},
    jnp.asarray(batch['image'] / np.float32(255)),
    batch['meta'],
    False,
  )['cancer'][:, 0]
  each = optax.sigmoid_binary_cross_entropy(
    logits, batch['label_cancer'].astype(np.float32)
  )
  expected = np.average(each, weights=batch['weight'])
  _, metrics = jax.jit(step)(state, batch, jax.random.key(0))
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
  # By option the batch's own statistics are used, and followed.
  c.optim.freeze_statistics = False
  step, _ = tiny_steps.make(c, freeze=optim.freeze_of(c))
  after, metrics = jax.jit(step)(state, batch, jax.random.key(0))
  assert abs(metrics['loss'] - expected) > 1e-3
  tiny_steps.equal(after.params['trunk'], state.params['trunk'])
  assert not np.array_equal(
    *(x['trunk']['bn1']['norm']['mean'] for x in (after.batch_stats, moved))
  )


PARAMS = {
  'a': {'x': jnp.ones((2, 2)), 'y': jnp.ones(2)},
  'b1': jnp.ones((1, 2)),
}


def test_what_is_frozen_for_ever_has_no_moments_and_is_not_clipped_for():
  c = make_config(optim__freeze=('a',), optim__freeze_steps=-1)
  tx = optim.create(c)
  state = tx.init(PARAMS)
  alone = optim.create(make_config(optim__freeze=()))
  expected = alone.init({'b1': PARAMS['b1']})

  def sizes(tree):
    return sorted(x.size for x in jax.tree.leaves(tree))

  assert sizes(state) == sizes(expected)
  assert optim.freeze_of(c).active(10**9)


@pytest.mark.parametrize(
  ('pattern', 'held'),
  [
    ('a', {'a/x', 'a/y'}),
    ('a/x', {'a/x'}),
    ('a/*', {'a/x', 'a/y'}),
    ('?[1-3]', {'b1'}),
    ('*/y', {'a/y'}),
  ],
)
def test_patterns_name_paths_from_their_start(pattern, held):
  mask = freezing.Freeze((pattern,), 1).mask(PARAMS)
  found = {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, frozen in jax.tree_util.tree_leaves_with_path(mask)
    if frozen
  }
  assert found == held


@pytest.mark.parametrize(
  ('patterns', 'message'),
  [
    (('a', 'trunc'), r"'trunc' is the path of no parameter; .* are: a, b1"),
    (('x',), 'of no parameter'),
    (('a/x/z',), r"the names in 'a' are: x, y$"),
    (('?/z*',), r"the names in '\?' are: x, y$"),
    (('*',), 'nothing is left to train'),
  ],
)
def test_a_pattern_that_freezes_nothing_or_all_is_refused(patterns, message):
  tx = optim.create(make_config(optim__freeze=patterns))
  with pytest.raises(errors.ConfigError, match=message) as caught:
    tx.init(PARAMS)
  assert '\n' not in str(caught.value)


def test_without_patterns_or_steps_nothing_is_frozen():
  assert optim.freeze_of(make_config(optim__freeze=())) is None
  assert optim.freeze_of(make_config(optim__freeze_steps=0)) is None
