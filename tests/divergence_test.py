"""What is done about a batch that spoils a run."""

import json
import math
import signal

import jax
import numpy as np
import pytest

from rsna_jax import (
  checkpoint,
  config,
  divergence,
  errors,
  evaluate,
  loop,
  run,
  shell,
  train,
)
from rsna_jax.data import order, stream_np


def check_all(guard, losses):
  return [guard.check({'loss': x}) is not None for x in losses]


def test_a_loss_explodes_against_the_larger_of_two_medians():
  guard = divergence.Guard(10.0)
  chance = np.random.default_rng(0)
  healthy = 0.7 * np.exp(-np.arange(300) / 40) + chance.uniform(0, 0.02, 300)
  assert not any(check_all(guard, healthy))
  # A hard example of a set that is known by heart is none.
  assert not any(check_all(guard, [2.0]))
  assert check_all(guard, [7.5, 0.01, 1e6]) == [True, False, True]


def test_a_set_that_is_learned_at_once_gives_no_alarm():
  chance = np.random.default_rng(0)
  losses = [0.7, 0.3, 0.05, *chance.lognormal(-14, 3, 200)]
  assert not any(check_all(divergence.Guard(20.0), losses))


def test_losses_of_nothing_are_no_measure():
  assert not any(check_all(divergence.Guard(20.0), [0.0] * 30 + [0.7]))


def test_what_exploded_is_not_part_of_the_measure():
  guard = divergence.Guard(10.0)
  check_all(guard, [1.0] * 30)
  assert all(check_all(guard, [11.0] * 100))


def test_nothing_explodes_at_first_nor_where_it_is_off():
  assert not any(check_all(divergence.Guard(10.0), [1e-3, 1.0, 50.0]))
  off = divergence.Guard(0.0)
  assert check_all(off, [1.0] * 30 + [1e30, math.nan, math.inf])[-3:] == [
    False,
    True,
    True,
  ]


def test_a_guard_that_goes_on_from_its_notes_says_the_same():
  losses = np.random.default_rng(0).lognormal(0, 1.5, 400).tolist()
  whole, first, second = (divergence.Guard(8.0) for _ in range(3))
  expected = check_all(whole, losses)
  assert 3 < sum(expected) < 100
  found = check_all(first, losses[:37])
  notes = json.loads(json.dumps(first.notes()))
  second.restore(notes, [])
  assert found + check_all(second, losses[37:]) == expected


def test_without_notes_the_history_is_remembered():
  guard = divergence.Guard(10.0)
  guard.restore({}, [{'step': i, 'train/loss': 1.0} for i in range(60)])
  assert check_all(guard, [11.0, 9.0]) == [True, False]


def test_an_order_passes_over_what_is_left_out(tmp_path):
  plan = order.TrainOrder(np.arange(20) % 2, 4, 2, seed=0)
  skipped = divergence.Skipped(tmp_path)
  found = divergence.Order(plan, skipped)
  for step in (6, 5):  # batches 5 and 4
    skipped.add(divergence.Bad(step, 'nan', [1]), [1, 2], True)
  skipped.add(divergence.Bad(5, 'nan', [1]), [3], True)  # now batch 6
  again = divergence.Order(plan, divergence.Skipped(tmp_path))
  wanted = [0, 1, 2, 3, 7, 8, 9]
  for step, number in enumerate(wanted):
    for one in (found, again):
      np.testing.assert_array_equal(one.indices(step), plan.indices(number))
  assert again.batch_size == 4 and not hasattr(again, 'weights')
  said = json.loads((tmp_path / 'skipped.json').read_text())
  assert [one['batch'] for one in said] == [5, 4, 6]
  assert said[0]['image_ids'] == [1, 2] and said[0]['step'] == 6


def test_a_damaged_list_is_named(tmp_path):
  (tmp_path / 'skipped.json').write_text('[{"batch": "x"}]')
  with pytest.raises(errors.RunError, match=r'skipped\.json: damaged'):
    divergence.Skipped(tmp_path)


def make_config(layout, **fields):
  c = config.default()
  c.data.name, c.data.dir = 'csv', str(layout)
  c.data.reader, c.data.positives_per_batch = 'numpy', 2
  c.model.name, c.model.metadata = 'meta', ('age', 'view')
  c.train.steps, c.train.batch_size = 60, 8
  c.train.log_every, c.train.eval_every = 5, 20
  c.train.checkpoint_every = 10
  c.optim.ema, c.optim.learning_rate = 0.9, 0.01
  c.eval.bootstrap, c.eval.worst = 10, 0
  c.train.update(fields)
  return c


BAD_IMAGE = 131


@pytest.fixture
def spoil(monkeypatch):
  """Makes the metadata of one image something else in every batch."""

  def begin(value):
    honest = stream_np.Plan.fields

    def fields(self, step):
      batch = honest(self, step)
      batch['meta'] = batch['meta'].copy()
      batch['meta'][batch['id'] == BAD_IMAGE] = value
      return batch

    monkeypatch.setattr(stream_np.Plan, 'fields', fields)

  return begin


def finite(workdir) -> bool:
  found = run.load(workdir)
  with checkpoint.Checkpoints(workdir, read_only=True) as saved:
    steps = saved.steps()
  assert steps
  state, step = evaluate.restore(found, 'latest')
  assert step == steps[-1]
  leaves = jax.tree.leaves((state.params, state.ema_params))
  return all(np.isfinite(leaf).all() for leaf in leaves)


def bytes_of(workdir) -> list[bytes]:
  state, _ = evaluate.restore(run.load(workdir), 'latest')
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize('value', [np.nan, -3e5])
def test_a_batch_that_spoils_is_left_out_and_a_restart_is_the_same_run(
  tiny_layout, tmp_path, spoil, monkeypatch, value
):
  spoil(value)
  c = make_config(tiny_layout, on_divergence='skip', max_skips=20)
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  train.train_and_evaluate(c, whole)
  said = json.loads((whole / 'skipped.json').read_text())
  assert said and all(BAD_IMAGE in one['image_ids'] for one in said)
  word = 'nan' if np.isnan(value) else 'explode_factor=20'
  assert all(word in one['reason'] for one in said)
  assert finite(whole)

  # Stopped by it first; then told to go on; then stopped by a signal.
  with pytest.raises(
    train.DivergedError, match=f'images of the batch.*{BAD_IMAGE}'
  ):
    train.train_and_evaluate(make_config(tiny_layout), parts)
  asked = []

  def stop(self, received):
    asked.append(received)
    return signal.SIGTERM if len(asked) % 23 == 0 else 0

  with monkeypatch.context() as patch:
    patch.setattr(loop.Loop, '_agreed', stop)
    with pytest.raises(shell.Stopped):
      train.train_and_evaluate(c, parts)
  train.train_and_evaluate(c, parts)
  assert bytes_of(parts) == bytes_of(whole)
  for name in ('metrics.jsonl', 'skipped.json'):
    assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_too_many_batches_end_the_run(tiny_layout, tmp_path, spoil):
  spoil(np.nan)
  c = make_config(tiny_layout, on_divergence='skip', max_skips=1)
  with pytest.raises(train.DivergedError, match='1 batches were left out'):
    train.train_and_evaluate(c, tmp_path)
  assert len(json.loads((tmp_path / 'skipped.json').read_text())) == 1


def test_weights_that_overflow_are_never_saved(tiny_layout, tmp_path):
  c = make_config(tiny_layout, checkpoint_every=1)
  c.optim.name, c.optim.learning_rate = 'sgd', 1e25
  c.optim.clip_norm, c.optim.warmup_steps = 0.0, 0
  with pytest.raises(train.DivergedError, match=r'step \d+: .*last good'):
    train.train_and_evaluate(c, tmp_path)
  if checkpoint.finished_steps(tmp_path):
    assert finite(tmp_path)


@pytest.mark.parametrize(
  ('field', 'value', 'remedy'),
  [
    ('explode_factor', 1.0, 'more than 1, or 0 to look for NaN alone'),
    ('explode_factor', math.inf, 'more than 1'),
    ('on_divergence', 'retry', 'choose stop, skip'),
    ('max_skips', -1, 'not negative'),
    ('stall_s', 0.0, 'more than 0'),
  ],
)
def test_options_that_mean_nothing_are_refused(field, value, remedy):
  c = config.default()
  c.train[field] = value
  with pytest.raises(errors.ConfigError, match=rf'train\.{field}=.*{remedy}'):
    config.validate(c)
