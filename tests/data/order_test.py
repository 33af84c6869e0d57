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
