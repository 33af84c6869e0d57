"""Who contradicts the models, on made-up contributors."""

import numpy as np
import pytest

from rsna_jax.serve.learning import contradiction


def _labels(seed, users=10, each=20, strength=1.5, flipped=()):
  """Contributors, their labels, and what a model says of the pictures.

  Args:
    strength: log odds of the model for the truth, on average.
    flipped: (user, share of their labels that are wrong).
  """
  chance = np.random.default_rng(seed)
  who = np.repeat(np.arange(users), each)
  truth = chance.integers(0, 2, len(who))
  odds = strength * (2 * truth - 1) + strength * chance.standard_normal(
    len(who)
  )
  labels = truth.copy()
  for user, share in flipped:
    mine = np.flatnonzero(who == user)
    wrong = mine[: round(share * len(mine))]
    labels[wrong] = 1 - labels[wrong]
  return who, labels, 1 / (1 + np.exp(-odds))


def _scan(*cases, **more):
  return contradiction.scan(*cases, permutations=299, **more)


def test_one_who_flips_all_labels_is_found():
  """A tenth of all labels, by one of ten."""
  for seed in range(5):
    found = _scan(*_labels(seed, flipped=[(3, 1.0)]))
    assert found.contributors == (3,) and found.p < 0.01
    assert found.cases == 20 and found.agreement < 0.4 < found.others


def test_five_who_collude_are_found_together():
  """Five of twenty flip 8 of their 10 labels, which hides none of them."""
  for seed in range(5):
    flipped = [(user, 0.8) for user in range(5)]
    found = _scan(*_labels(seed, users=20, each=10, flipped=flipped))
    assert found.p < 0.01
    assert len(set(found.contributors) & set(range(5))) >= 4


def test_a_model_that_knows_little_suffices_where_all_labels_are_flipped():
  caught = sum(
    _scan(*_labels(seed, strength=0.5, flipped=[(0, 1.0)])).p < 0.05
    for seed in range(10)
  )
  assert caught >= 6


def test_honest_contributors_are_seldom_suspected():
  p = [_scan(*_labels(seed)).p for seed in range(100)]
  assert sum(x < 0.05 for x in p) <= 12  # 5 expected
  assert sum(x < 0.01 for x in p) <= 4


def test_who_sees_more_cancers_is_not_suspected_for_that():
  """Labels are compared with those of their own kind alone."""
  caught = 0
  for seed in range(20):
    chance = np.random.default_rng(seed)
    who = np.repeat(np.arange(10), 20)
    truth = (chance.random(200) < np.where(who == 0, 0.9, 0.1)).astype(int)
    # The model finds cancers less surely than it finds none.
    odds = np.where(truth == 1, 0.3, -2.0) + chance.standard_normal(200)
    found = _scan(who, truth, 1 / (1 + np.exp(-odds)))
    caught += found.p < 0.01
  assert caught <= 1


def test_strata_keep_two_models_apart():
  """One model is always less sure; its cases are all of one contributor."""
  who, labels, said = _labels(0)
  unsure = 0.5 + (said - 0.5) / 20
  mixed = np.where(who == 4, unsure, said)
  together = _scan(who, labels, mixed)
  apart = _scan(who, labels, mixed, strata=who == 4)
  assert together.contributors[0] == 4 and together.p < 0.05
  assert apart.p > 0.05 or 4 not in apart.contributors


def test_pictures_of_one_patient_are_one_case():
  """Hard patients with many pictures, all with the same contributor or not."""
  by_picture, by_patient = [], []
  for seed in range(60):
    chance = np.random.default_rng(seed)
    patients = np.arange(60)
    truth = chance.integers(0, 2, 60)
    odds = 1.5 * (2 * truth - 1) + 1.5 * chance.standard_normal(60)
    who = patients % 10
    cases = [
      np.repeat(x, 6) for x in (who, truth, 1 / (1 + np.exp(-odds)), patients)
    ]
    more = {'permutations': 99}
    by_picture.append(contradiction.scan(*cases[:3], **more).p)
    one = contradiction.scan(*cases[:3], patients=cases[3], **more)
    by_patient.append(one.p)
    assert one.cases % 6 == 0
  assert sum(p <= 0.05 for p in by_picture) > 15  # far more than chance
  assert sum(p <= 0.05 for p in by_patient) <= 8  # 3 expected


def test_without_another_contributor_or_enough_cases_nothing_is_told():
  who, labels, said = _labels(0)
  assert _scan(np.zeros_like(who), labels, said) is None
  assert _scan(who[:19], labels[:19], said[:19]) is None


def test_the_result_depends_on_the_seed_alone_and_is_json():
  cases = _labels(1, flipped=[(2, 0.5)])
  one, other = _scan(*cases, seed=3), _scan(*cases, seed=3)
  assert one == other
  assert one.to_json()['contributors'] == list(one.contributors)


def test_leanings_are_log_odds_towards_the_label():
  said = np.array([0.9, 0.9, 0.2, 1.0])
  found = contradiction.leanings([1, 0, 0, 1], said)
  wanted = [np.log(9), -np.log(9), np.log(4), np.log(0.995 / 0.005)]
  assert found == pytest.approx(wanted)
