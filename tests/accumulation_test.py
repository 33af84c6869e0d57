"""A batch in parts equals the whole batch, and needs less memory."""

import jax
import numpy as np
import pytest
import tiny_steps

from rsna_jax import accumulation, errors, optim, parallel


def one_step(c, batch, **kwargs):
  step, state = tiny_steps.make(c, augment=True, **kwargs)
  return jax.jit(step)(state, batch, jax.random.key(1))


def make_config(**fields):
  """With all that draws by an example's place, or looks at two of them."""
  return tiny_steps.make_config(
    **{
      'model__dropout': 0.3,
      'augment__mixup': 0.5,
      'optim__ema': 0.9,
      'optim__name': 'sgd',
      'optim__learning_rate': 0.1,
      **fields,
    }
  )


@pytest.fixture(scope='module')
def whole():
  return one_step(make_config(), tiny_steps.make_batch(), norm=False)


def test_parts_without_batch_normalisation_equal_the_whole(whole):
  batch = tiny_steps.make_batch()
  parts = one_step(make_config(), batch, norm=False, accumulate=4)
  assert float(whole[1]['grad_norm']) > 0.01
  tiny_steps.close(parts, whole)


def test_parts_with_frozen_batch_normalisation_equal_the_whole():
  c = make_config(optim__freeze=('trunk/bn*',))
  freeze = optim.freeze_of(c)
  batch = tiny_steps.make_batch()
  whole = one_step(c, batch, freeze=freeze)
  parts = one_step(c, batch, freeze=freeze, accumulate=2)
  tiny_steps.close(parts, whole)
  _, before = tiny_steps.make(c)
  assert not np.array_equal(
    parts[0].params['trunk']['conv2']['kernel'],
    before.params['trunk']['conv2']['kernel'],
  )
  tiny_steps.equal(parts[0].batch_stats, before.batch_stats)


def test_batch_normalisation_sees_a_part_and_its_statistics_the_mean_of_all():
  c = tiny_steps.make_config()
  batch = tiny_steps.make_batch()
  after, _ = one_step(c, batch, accumulate=2)
  halves = [
    one_step(c, {k: v[i::2] for k, v in batch.items()})[0] for i in (0, 1)
  ]
  expected = jax.tree.map(
    lambda a, b: (a + b) / 2, *(half.batch_stats for half in halves)
  )
  tiny_steps.close(after.batch_stats, expected)
  whole, _ = one_step(c, batch)
  variances = [
    state.batch_stats['trunk']['bn1']['norm']['var'] for state in (after, whole)
  ]
  assert not np.allclose(*variances, rtol=1e-5)


@pytest.mark.parametrize('mode', parallel.MODES)
def test_parts_of_each_device_equal_the_whole(mode, whole):
  batch = tiny_steps.make_batch()
  mesh = parallel.make_mesh(jax.devices()[:2])
  step, state = tiny_steps.make(
    make_config(),
    augment=True,
    norm=False,
    axis=parallel.axis_name(mode),
    accumulate=2,
  )
  found, _ = parallel.wrap(step, mode, mesh)(
    parallel.place_state(state, mesh),
    parallel.place_batch(batch, mode, mesh),
    jax.random.key(1),
  )
  tiny_steps.close(found, whole[0])


def test_parts_need_less_memory():
  batch = tiny_steps.make_batch(rows=32, size=(64, 64))
  sizes = []
  for count in (1, 4):
    step, state = tiny_steps.make(tiny_steps.make_config(), accumulate=count)
    lowered = jax.jit(step).lower(state, batch, jax.random.key(1))
    sizes.append(lowered.compile().memory_analysis().temp_size_in_bytes)
  assert sizes[1] < 0.5 * sizes[0]


def test_part_k_has_every_nth_row():
  parts = accumulation.split({'x': np.arange(6), 'none': np.zeros((6, 0))}, 3)
  np.testing.assert_array_equal(parts['x'], [[0, 3], [1, 4], [2, 5]])
  assert parts['none'].shape == (3, 2, 0)


def test_parts_that_cannot_be_equal_are_refused():
  with pytest.raises(errors.ConfigError, match=r'train.accumulate=3: .* has 8'):
    one_step(make_config(), tiny_steps.make_batch(), accumulate=3)
  mesh = parallel.make_mesh(jax.devices()[:4])
  with pytest.raises(errors.ConfigError, match=r'=3 parts; .* such as 36'):
    parallel.check_batch_size(32, mesh, accumulate=3)
  parallel.check_batch_size(36, mesh, accumulate=3)
