import collections

import numpy as np
import pytest

from rsna_jax import errors
from rsna_jax.data import order


def _labels(n=1000, positives=37, seed=0):
  labels = np.zeros(n, np.int64)
  rng = np.random.default_rng(seed)
  labels[rng.permutation(n)[:positives]] = 1
  return labels


@pytest.mark.parametrize('share', [1, 2, 5])
def test_every_batch_has_exactly_its_positives(share):
  labels = _labels()
  train = order.TrainOrder(labels, 16, share, seed=0)
  for step in range(200):
    batch = train.indices(step)
    assert batch.shape == (16,) and batch.dtype == np.int64
    assert (labels[batch] == 1).sum() == share


@pytest.mark.parametrize('share', [0, 3])
def test_all_of_a_kind_are_drawn_once_before_any_returns(share):
  labels = _labels(n=130, positives=30)
  train = order.TrainOrder(labels, 13, share, seed=5)
  # Lots of 10 batches: all of 130, or 100 negatives and 30 positives.
  for lot in range(5):
    drawn = [train.indices(10 * lot + step) for step in range(10)]
    assert sorted(np.concatenate(drawn)) == list(range(130))


def test_epochs_that_end_within_a_batch_lose_nothing():
  labels = _labels(n=101, positives=7)
  train = order.TrainOrder(labels, 8, 2, seed=1)
  drawn = np.concatenate([train.indices(t) for t in range(94 * 7)])
  counts = np.bincount(drawn, minlength=101)
  # 94 * 7 * 6 negatives are 42 epochs of 94, 94 * 7 * 2 positives 188 of 7.
  assert set(counts[labels == 0]) == {42} and set(counts[labels == 1]) == {188}


def test_a_batch_depends_on_seed_and_step_alone():
  labels = _labels()
  one = order.TrainOrder(labels, 16, 1, seed=3)
  forward = [one.indices(t) for t in range(150)]
  other = order.TrainOrder(labels, 16, 1, seed=3)
  for step in (149, 0, 77, 148):
    np.testing.assert_array_equal(other.indices(step), forward[step])
  changed = order.TrainOrder(labels, 16, 1, seed=4)
  assert any((changed.indices(t) != forward[t]).any() for t in range(3))


def test_every_epoch_and_every_kind_is_shuffled_anew():
  labels = _labels(n=64, positives=32)
  train = order.TrainOrder(labels, 64, 32, seed=0)
  epochs = [train.indices(t) for t in range(4)]
  for i in range(4):
    for j in range(i):
      assert (epochs[i] == epochs[j]).mean() < 0.2


def test_positives_stand_anywhere_in_the_batch():
  labels = _labels()
  train = order.TrainOrder(labels, 8, 1, seed=0)
  places = collections.Counter(
    int(np.argmax(labels[train.indices(t)])) for t in range(1600)
  )
  # 200 expected at each place, standard deviation 13.
  assert len(places) == 8 and all(140 < k < 260 for k in places.values())


def test_negatives_are_drawn_uniformly_within_an_epoch():
  labels = _labels(n=400, positives=4)
  train = order.TrainOrder(labels, 12, 1, seed=2)
  # The first 9 of 36 batches of an epoch: each negative with chance 1/4.
  rate = np.zeros(400)
  for epoch in range(200):
    for step in range(36 * epoch, 36 * epoch + 9):
      rate[train.indices(step)] += 1
  rate = rate[labels == 0] / 200
  assert abs(rate.mean() - 0.25) < 1e-9
  assert np.abs(rate - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 200)


def test_a_batch_may_be_larger_than_the_rows():
  labels = np.array([1, 0, 0])
  batch = order.TrainOrder(labels, 12, 2, seed=0).indices(7)
  assert np.bincount(batch).tolist() == [2, 5, 5]


def test_a_missing_label_is_no_positive():
  labels = np.array([1, -1, -1, 0])
  batch = order.TrainOrder(labels, 4, 1, seed=0).indices(0)
  assert sorted(batch) == [0, 1, 2, 3]


@pytest.mark.parametrize(
  ('labels', 'share', 'message'),
  [
    ([0, 0], 1, '1 positive'),
    ([1, 1], 1, '3 negative'),
    ([], 0, 'training rows have none'),
    ([0, 1], 5, 'from 0 to the batch size, 4'),
    ([0, 1], -1, 'from 0'),
  ],
)
def test_kinds_that_are_not_there_are_named(labels, share, message):
  with pytest.raises(errors.DataError, match=message):
    order.TrainOrder(np.array(labels, int), 4, share, seed=0)


@pytest.mark.parametrize(('n', 'batch_size'), [(10, 4), (8, 4), (3, 8), (0, 4)])
def test_evaluation_counts_every_example_once(n, batch_size):
  evaluation = order.EvalOrder(n, batch_size)
  counted = np.zeros(n)
  for step in range(evaluation.steps):
    indices, weights = evaluation.indices(step), evaluation.weights(step)
    assert indices.shape == weights.shape == (batch_size,)
    assert weights.dtype == np.float32 and indices.max() < n
    np.add.at(counted, indices, weights)
  assert (counted == 1).all() and evaluation.steps == int(
    np.ceil(n / batch_size)
  )
  with pytest.raises(IndexError):
    evaluation.indices(evaluation.steps)


def _mixed(labels=None, extra=None, size=16, share=6, positives=3, seed=0):
  labels = _labels(n=100, positives=10) if labels is None else labels
  extra = _labels(n=40, positives=8, seed=1) if extra is None else extra
  return order.MixedOrder(labels, extra, size, share, positives, seed)


def test_every_batch_has_its_share_of_the_second_set_and_its_positives():
  joined = np.concatenate(
    [_labels(n=100, positives=10), _labels(n=40, positives=8, seed=1)]
  )
  mixed = _mixed()
  for step in range(60):
    batch = mixed.indices(step)
    assert batch.shape == (16,) and batch.dtype == np.int64
    assert (batch >= 100).sum() == 6
    assert (joined[batch] == 1).sum() == 3
    assert (joined[batch[batch >= 100]] == 1).sum() == 1


def test_each_set_of_a_mixture_goes_through_epochs_of_its_own():
  mixed = _mixed(positives=0)
  # 10 of 100 and 6 of 40 examples a batch: 60 batches are 6 and 9 epochs.
  drawn = np.concatenate([mixed.indices(t) for t in range(60)])
  counts = np.bincount(drawn, minlength=140)
  assert set(counts[:100]) == {6} and set(counts[100:]) == {9}


def test_a_mixed_batch_depends_on_seed_and_step_alone():
  one, other = _mixed(seed=3), _mixed(seed=3)
  forward = [one.indices(t) for t in range(80)]
  for step in (79, 0, 41):
    np.testing.assert_array_equal(other.indices(step), forward[step])
  assert any((_mixed(seed=4).indices(t) != forward[t]).any() for t in range(3))


def test_equal_sets_are_not_drawn_in_step():
  labels = np.zeros(64, np.int64)
  mixed = _mixed(labels, labels, size=64, share=32, positives=0)
  batch = np.sort(mixed.indices(0))
  assert (batch[:32] != batch[32:] - 64).any()


def test_the_first_set_is_drawn_as_it_is_alone():
  labels = _labels(n=100, positives=10)
  mixed = _mixed(labels, np.zeros(9, np.int64), positives=2)
  alone = order.TrainOrder(labels, 10, 2, seed=0)
  for step in range(5):
    batch = mixed.indices(step)
    assert sorted(batch[batch < 100]) == sorted(alone.indices(step))


@pytest.mark.parametrize('extra', [[0, 0, 0], [1, 1, 1]])
def test_a_second_set_of_one_kind_is_drawn_as_it_comes(extra):
  mixed = _mixed(extra=np.array(extra), share=6, positives=3)
  batch = mixed.indices(0)
  assert np.bincount(batch[batch >= 100] - 100).tolist() == [2, 2, 2]
  with pytest.raises(errors.DataError, match=r'data\.positives_per_batch=12'):
    _mixed(extra=np.array(extra), share=6, positives=12)


def test_a_share_that_leaves_a_set_out_is_refused():
  for share in (0, 16):
    with pytest.raises(errors.DataError, match=r'data\.extra_share'):
      _mixed(share=share)


def test_counts_of_batches_add_up():
  counts = order.Counts([3, 1, 4, 2])
  found = [counts.at(t) for t in range(8)]
  assert found == [3, 1, 4, 2, 2, 2, 2, 2]
  assert [counts.before(t) for t in range(9)] == [0, *np.cumsum(found)]


def test_a_schedule_goes_from_one_number_to_another_in_a_line():
  assert order.linear(4, 1, 6).tolist() == [4, 4, 3, 2, 2, 2, 1]
  assert order.linear(1, 3, 4).tolist() == [1, 2, 2, 2, 3]
  line = order.linear(16, 2, 1000)
  exact = 16 - 14 * np.arange(1001) / 1000
  assert np.abs(line - exact).max() <= 0.5 and line[0] == 16 and line[-1] == 2


def test_positives_follow_their_schedule_and_each_kind_its_epochs():
  labels = _labels(n=101, positives=7)
  wanted = order.linear(5, 2, 40)
  train = order.TrainOrder(labels, 8, wanted, seed=1)
  seen = np.zeros(101, np.int64)
  for step in range(300):
    batch = train.indices(step)
    expected = wanted[step] if step < 40 else 2
    assert (labels[batch] == 1).sum() == expected and len(batch) == 8
    np.add.at(seen, batch, 1)
    for kind in (0, 1):  # none is drawn again before all others were
      assert np.ptp(seen[labels == kind]) <= 1
  again = order.TrainOrder(labels, 8, wanted, seed=1)
  for step in (299, 17, 40):
    np.testing.assert_array_equal(again.indices(step), train.indices(step))


def test_a_batch_of_a_schedule_equals_that_of_its_last_number_when_it_ends():
  labels = _labels(n=60, positives=6)
  constant = order.TrainOrder(labels, 8, 2, seed=1)
  short = order.TrainOrder(labels, 8, np.array([2, 2, 2]), seed=1)
  for step in range(30):
    np.testing.assert_array_equal(constant.indices(step), short.indices(step))


@pytest.mark.parametrize(('weight', 'share'), [(3.0, 1), (0.5, 1), (2.5, 0)])
def test_hard_negatives_are_drawn_so_many_times_as_often(weight, share):
  labels = _labels(n=200, positives=20)
  hard = np.zeros(200, bool)
  hard[::9] = True
  train = order.TrainOrder(
    labels, 16, share, seed=4, hard=hard, hard_weight=weight
  )
  hard &= labels == 0
  easy = ~hard & (labels == 0) if share else ~hard
  seen = np.zeros(200, np.int64)
  for step in range(400):
    batch = train.indices(step)
    assert len(batch) == 16
    if share:
      assert (labels[batch] == 1).sum() == share
    np.add.at(seen, batch, 1)
    assert np.ptp(seen[hard]) <= 1 and np.ptp(seen[easy]) <= 1
    # So many hard ones as their weight asks for, but for one draw.
    heavy = weight * hard.sum()
    exact = (step + 1) * (16 - share) * heavy / (heavy + easy.sum())
    assert -1 < seen[hard].sum() - exact <= 0
  rate = seen[hard].mean() / seen[easy].mean()
  assert rate == pytest.approx(weight, rel=0.02)


def test_hard_negatives_of_weight_one_change_nothing():
  labels = _labels(n=100, positives=10)
  plain = order.TrainOrder(labels, 8, 1, seed=0)
  hard = order.TrainOrder(labels, 8, 1, seed=0, hard=labels == 0)
  for step in range(20):
    np.testing.assert_array_equal(plain.indices(step), hard.indices(step))


def test_hard_negatives_alone_are_all_negatives():
  labels = np.array([1, 0, 0, 0])
  train = order.TrainOrder(
    labels, 4, 1, seed=0, hard=np.ones(4, bool), hard_weight=5.0
  )
  assert sorted(train.indices(3)) == [0, 1, 2, 3]


def test_a_mixture_shares_out_a_schedule_and_weighs_within_each_set():
  first, second = _labels(100, 10), _labels(60, 12, seed=1)
  joined = np.concatenate([first, second])
  wanted = order.linear(8, 2, 20)
  hard = np.arange(160) % 4 == 0
  mixed = order.MixedOrder(
    first,
    second,
    16,
    6,
    wanted,
    seed=2,
    hard=hard[:100],
    extra_hard=hard[100:],
    hard_weight=4.0,
  )
  seen = np.zeros(160, np.int64)
  for step in range(400):
    batch = mixed.indices(step)
    assert (joined[batch] == 1).sum() == wanted[min(step, 20)]
    assert (batch >= 100).sum() == 6
    np.add.at(seen, batch, 1)
  for own in (np.arange(160) < 100, np.arange(160) >= 100):
    of = own & (joined == 0)
    rate = seen[of & hard].mean() / seen[of & ~hard].mean()
    assert rate == pytest.approx(4, rel=0.03)


def test_a_schedule_beyond_the_batch_is_refused():
  with pytest.raises(errors.DataError, match='=2 to 9: from 0 to the batch'):
    order.TrainOrder(_labels(), 8, order.linear(2, 9, 5), seed=0)
