import itertools
import types

import numpy as np
import pytest

from rsna_jax import schema
from rsna_jax.data import groups

# Two people; the first one has the right breast alone seen three times.
EXAM = np.array([7, 7, 7, 7, 9, 9, 7, 9, -1, 9])
SIDE = np.array(['R', 'L', 'R', 'L', 'L', 'R', 'R', '', 'L', 'R'])
VIEW = np.array(
  ['CC', 'CC', 'MLO', 'MLO', 'CC', 'ML', 'CC', 'CC', 'MLO', 'new']
)


def _make(views=2, compare=False, seed=None, order=None):
  order = np.arange(len(EXAM)) if order is None else order
  return groups.Groups(
    EXAM[order],
    SIDE[order],
    VIEW[order],
    views=views,
    compare=compare,
    seed=seed,
  )


def test_a_breast_is_an_exam_and_a_side_and_the_unknown_stand_alone():
  found = _make()
  members = [found.members(i).tolist() for i in range(len(found))]
  assert members == [[0, 2, 6], [1, 3], [4], [5, 9], [7], [8]]
  assert found.first.tolist() == [0, 1, 4, 5, 7, 8]
  assert found.of_image.tolist() == [0, 1, 0, 1, 2, 3, 0, 4, 5, 3]
  assert found.other.tolist() == [1, 0, 3, 2, -1, -1]


def test_slots_say_view_side_and_laterality():
  images, slots = _make(compare=True).choose(np.array([1, 3, 4]))
  assert images.tolist() == [[1, 3, 0, 2], [5, 9, 4, -1], [7, -1, -1, -1]]
  view, unknown = schema.VIEWS.index, len(schema.VIEWS)
  cc, mlo, ml = view('CC'), view('MLO'), view('ML')
  empty = [unknown, -1, 2]
  assert slots.dtype == np.int32
  assert slots.tolist() == [
    [[cc, 0, 0], [mlo, 0, 0], [cc, 1, 1], [mlo, 1, 1]],
    [[ml, 0, 1], [unknown, 0, 1], [cc, 1, 0], empty],
    [[cc, 0, 2], empty, empty, empty],
  ]


def test_of_more_images_than_slots_one_of_each_view_comes_first():
  found = groups.Groups(
    np.zeros(5), ['L'] * 5, ['CC', 'CC', 'MLO', 'MLO', ''], views=4, compare=0
  )
  assert found.choose([0])[0].tolist() == [[0, 2, 4, 1]]


def test_what_is_drawn_depends_on_seed_step_and_breast_alone():
  def seen(seed, step, breasts=(0, 1)):
    return _make(seed=seed).choose(np.array(breasts), step)[0].tolist()

  assert seen(3, 5) == seen(3, 5)
  assert seen(3, 5, (1, 0)) == seen(3, 5)[::-1]
  for step in range(30):
    right = seen(0, step)[0]
    assert 2 in right  # the only MLO, whatever is drawn
  assert {tuple(seen(0, step)[0]) for step in range(30)} == {
    (0, 2),
    (2, 0),
    (6, 2),
    (2, 6),
  }
  assert len({tuple(seen(seed, 0)[0]) for seed in range(30)}) == 4
  assert seen(0, 1)[1] == [1, 3]  # nothing to draw
  twins = groups.Groups(
    [0, 0, 0, 1, 1, 1], ['L'] * 6, ['CC'] * 6, views=1, compare=False, seed=0
  )
  drawn = [twins.choose(np.arange(2), step)[0][:, 0] for step in range(10)]
  assert any(first + 3 != second for first, second in drawn)


@pytest.mark.parametrize('compare', [False, True])
def test_it_equals_a_grouping_by_hand(compare):
  chance = np.random.default_rng(0)
  n = 60
  exam = chance.integers(-1, 8, n)
  side = chance.choice(['L', 'R', ''], n, p=[0.4, 0.4, 0.2])
  found = groups.Groups(exam, side, [''] * n, views=3, compare=compare)
  by_hand = {}
  for i in range(n):
    alone = exam[i] == -1 or side[i] == ''
    by_hand.setdefault(
      ('alone', i) if alone else (exam[i], side[i]), []
    ).append(i)
  assert [found.members(g).tolist() for g in range(len(found))] == list(
    by_hand.values()
  )
  images, _ = found.choose(np.arange(len(found)))
  for key, row in zip(by_hand, images.tolist(), strict=True):
    wanted = [by_hand[key]]
    if compare:
      other = {'L': 'R', 'R': 'L'}.get(key[1])
      wanted.append(by_hand.get((key[0], other), []))
    padded = [(part[:3] + [-1] * 3)[:3] for part in wanted]
    assert row == list(itertools.chain(*padded))


def test_the_lead_is_the_first_image_that_says_something():
  found = _make()
  known = np.zeros(len(EXAM), bool)
  known[[2, 6, 3, 9]] = True
  assert found.lead(known).tolist() == [2, 3, 4, 9, 7, 8]


def test_people_of_joined_sets_stay_apart():
  table = {
    'patient_id': np.array([5, 5, 5, 5]),
    'laterality': np.array(['L', 'L', 'L', 'R']),
    'view': np.array(['CC', 'MLO', 'CC', 'CC']),
  }
  first, second = [0, 1], [2, 3]
  joined = types.SimpleNamespace(table=table, sets=(first, second))
  found = groups.of_rows(joined, np.arange(4), views=2, compare=True)
  assert found.of_image.tolist() == [0, 0, 1, 2]
  assert found.other.tolist() == [-1, 2, 1]
  alone = types.SimpleNamespace(table=table)
  found = groups.of_rows(alone, np.arange(4), views=2, compare=True)
  assert found.of_image.tolist() == [0, 0, 0, 1]
