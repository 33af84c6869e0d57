"""What reviewers are told of submissions and of those who made them."""

import numpy as np
import pytest
import serve_loop
import serve_store

from rsna_jax.serve.learning import review
from rsna_jax.serve.store import accounts, near, submissions, verdicts


@pytest.fixture
def people(sqlite_store):
  with sqlite_store.db.session() as session:
    return [
      accounts.create(session, f'user{i}', serve_store.PASSWORD, 'contributor')
      for i in range(5)
    ]


def _submit(store, users, each=8, flip=()):
  """Pictures whose truth the model knows fairly well; `flip` label wrongly."""
  chance = np.random.default_rng(0)
  found = []
  for i, user in enumerate(users):
    for k in range(each):
      truth = k % 2
      said = float(np.clip(0.15 + 0.7 * truth + 0.1 * chance.normal(), 0, 1))
      label = truth ^ (user.name in flip)
      found.append(
        store.add(
          serve_loop.picture(100 * i + k, False),
          user=user,
          cancer=str(label),
          patient=f'p{k}',
          answer={'cancer': said},
        )
      )
  return found


def _contributors(store) -> dict:
  with store.db.reading() as session:
    return {one.name: one for one in review.contributors(session)}


def test_one_whose_labels_contradict_the_model_is_flagged_and_comes_first(
  sqlite_store, people
):
  _submit(sqlite_store, people, flip=('user3',))
  found = _contributors(sqlite_store)
  assert next(iter(found)) == 'user3'
  assert 'contradict the model' in found['user3'].flags[0]
  assert found['user3'].model_agreement == 0
  assert found['user3'].disagreement > 0.5
  for name in ('user0', 'user1', 'user2', 'user4'):
    assert found[name].flags == () and found[name].model_agreement == 1
  assert found['user0'].statuses['pending'] == 8


def test_honest_people_are_not_flagged(sqlite_store, people):
  _submit(sqlite_store, people)
  assert all(not x.flags for x in _contributors(sqlite_store).values())


def test_agreement_with_reviewers_counts_what_was_accepted_as_it_came(
  sqlite_store, people
):
  rows = _submit(sqlite_store, people[:1])
  with sqlite_store.db.session() as session:
    for row in rows[:4]:
      verdicts.accept(session, row['id'], sqlite_store.reviewer, distinct=True)
    verdicts.correct(
      *(session, rows[4]['id'], sqlite_store.reviewer),
      *(rows[4]['density'], 1 - rows[4]['cancer']),
      distinct=True,
    )
    verdicts.reject(session, rows[5]['id'], sqlite_store.reviewer, 'Blurred.')
  one = _contributors(sqlite_store)['user0']
  assert (one.reviewed, one.agreed) == (6, 4)
  assert one.agreement == pytest.approx(4 / 6)
  assert 'changed or rejected 2 of 6' in one.flags[0]
  assert one.statuses == {
    'pending': 2,
    'accepted': 5,
    'rejected': 1,
    'quarantined': 0,
  }


def test_copies_and_look_alikes_are_flagged(sqlite_store, people):
  pixels = serve_store.picture(1, (96, 60))
  sqlite_store.add(pixels, user=people[0])
  for i in range(3):  # the same but for a pixel
    other = pixels.copy()
    other[48, 10 + i] += 1
    sqlite_store.add(other, user=people[1])
  secret = serve_store.picture(2, (96, 60))
  sqlite_store.add(secret, user=people[2], frozen=near.Frozen.of([secret]))
  found = _contributors(sqlite_store)
  assert found['user0'].flags == ()
  assert '3 submissions of this contributor resemble' in found['user1'].flags[0]
  assert 'copy images that models are judged on' in found['user2'].flags[0]


def test_reasons_name_what_is_odd_about_a_submission(sqlite_store, people):
  row = sqlite_store.add(
    serve_store.picture(1, (96, 60)),
    user=people[0],
    cancer='1',
    evidence='opinion',
    confidence='2',
    answer={'cancer': 0.1},
  )
  said = ' '.join(review.reasons(row))
  for words in ('far apart (90%', 'an opinion', 'is not sure'):
    assert words in said
  plain = sqlite_store.add(
    serve_store.picture(2, (96, 60)), user=people[0], answer={'cancer': 0.1}
  )
  assert review.reasons(plain) == []
  with sqlite_store.db.reading() as session:
    listed = submissions.queue(session)
    whose = review.contributors(session)[0]
  assert [x['id'] for x in listed] == [row['id'], plain['id']]
  assert review.reasons(listed[1], whose) == list(whose.flags)
