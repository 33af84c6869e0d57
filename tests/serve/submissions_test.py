"""Submissions: labels, duplicates, who sees what, verdicts, deletion."""

import numpy as np
import pytest
import serve_store
import sqlalchemy as sa

from rsna_jax.serve import problems
from rsna_jax.serve.store import audit_log, near, submissions, tables


def _refused(call, code, *words):
  with pytest.raises(problems.Problem) as caught:
    call()
  assert caught.value.code == code
  for word in words:
    assert word in caught.value.message, caught.value.message
  return caught.value


def _count(store, table):
  with store.db.reading() as session:
    return session.scalar(sa.select(sa.func.count()).select_from(table))


def test_a_submission_has_its_file_its_row_and_its_audit_line(store):
  pixels = serve_store.picture(0)
  row = store.add(
    pixels, answer={'model_number': None, 'cancer': 0.9, 'density': 4}
  )
  assert row['status'] == 'pending' and row['user'] == 'contributor'
  assert row['density'] == 2 and row['cancer'] == 0
  assert row['disagreement'] == pytest.approx(max(0.9, 2 / 3))
  from PIL import Image

  with Image.open(store.blobs.path(row['image_sha256'])) as image:
    np.testing.assert_array_equal(np.asarray(image), pixels)
  with store.db.reading() as session:
    line = session.scalars(
      sa.select(tables.Audit).where(tables.Audit.object == row['id'])
    ).one()
    assert (line.actor, line.action) == ('contributor', 'submission.add')
    assert audit_log.verify(session) == []


def test_the_same_pixels_are_refused_however_they_are_saved(store):
  pixels = serve_store.picture(0)
  store.add(pixels)
  for copy in (pixels, pixels[:, ::-1].copy(), pixels[::-1].copy()):
    _refused(lambda c=copy: store.add(c, user=store.other), 'E_DUPLICATE')
  assert _count(store, tables.Submission) == 1
  assert len(list(store.blobs.all())) == 1


def test_what_was_rejected_may_be_submitted_again(store):
  pixels = serve_store.picture(0)
  first = store.add(pixels)
  with store.db.session() as session:
    submissions.reject(session, first['id'], store.reviewer, 'Wrong side.')
  second = store.add(pixels)
  assert second['image_sha256'] == first['image_sha256']


def test_a_shared_file_stays_until_its_last_submission_goes(store):
  pixels = serve_store.picture(0)
  first = store.add(pixels)
  with store.db.session() as session:
    submissions.reject(session, first['id'], store.reviewer, 'Wrong side.')
  second = store.add(pixels)
  path = store.blobs.path(first['image_sha256'])
  submissions.delete(store.db, store.blobs, first['id'], store.contributor)
  assert path.is_file() and _count(store, tables.Image) == 1
  submissions.delete(store.db, store.blobs, second['id'], None)
  assert not path.exists() and _count(store, tables.Image) == 0
  with store.db.reading() as session:
    actions = session.execute(
      sa.select(tables.Audit.object, tables.Audit.actor).where(
        tables.Audit.action == 'submission.delete'
      )
    ).all()
    assert actions == [
      (first['id'], 'contributor'),
      (second['id'], 'command line'),
    ]
    assert audit_log.verify(session) == []


def test_contributors_see_and_delete_their_own_alone(store):
  mine = store.add(serve_store.picture(0))
  with store.db.reading() as session:
    for user in (store.contributor, store.reviewer, store.administrator):
      assert submissions.get(session, mine['id'], user)['id'] == mine['id']
    _refused(
      lambda: submissions.get(session, mine['id'], store.other), 'E_NOT_FOUND'
    )
    assert submissions.of_user(session, store.other) == []
  for user in (store.other, store.reviewer):
    _refused(
      lambda u=user: submissions.delete(store.db, store.blobs, mine['id'], u),
      'E_NOT_FOUND',
    )


def test_contributors_cannot_judge(store):
  mine = store.add(serve_store.picture(0))
  with store.db.session() as session:
    for call in (
      lambda: submissions.accept(session, mine['id'], store.contributor),
      lambda: submissions.correct(session, mine['id'], store.contributor, 1, 0),
      lambda: submissions.reject(session, mine['id'], store.contributor, 'x'),
    ):
      _refused(call, 'E_FORBIDDEN')


def test_the_queue_shows_the_greatest_disagreement_first(store):
  for seed, cancer in enumerate((0.1, 0.9, 0.5)):
    store.add(serve_store.picture(seed), answer={'cancer': cancer})
  with store.db.reading() as session:
    found = submissions.queue(session)
    assert [row['disagreement'] for row in found] == [0.9, 0.5, 0.1]
    assert submissions.counts(session)['pending'] == 3


def test_accepting_takes_the_labels_and_fixes_the_side(store):
  row = store.add(serve_store.picture(0), patient='p1')
  with store.db.session() as session:
    found = submissions.accept(session, row['id'], store.reviewer)
  assert found['status'] == 'accepted'
  assert (found['final_density'], found['final_cancer']) == (2, 0)
  assert found['reviewer_id'] == store.reviewer.id
  expected = submissions.side_of(f'{store.contributor.id}:p1')
  assert found['side'] == expected


def test_correcting_keeps_both_labels(store):
  row = store.add(serve_store.picture(0))
  with store.db.session() as session:
    found = submissions.correct(session, row['id'], store.reviewer, 3, None)
    for wrong in ((0, 0), (5, 0), (True, 0), (2.0, 0), ('2', 0), (1, 2)):
      _refused(
        lambda w=wrong: submissions.correct(
          session, row['id'], store.reviewer, *w
        ),
        'E_FIELD',
      )
  assert (found['density'], found['cancer']) == (2, 0)
  assert (found['final_density'], found['final_cancer']) == (3, None)


def test_patients_are_on_one_side_in_the_stated_share():
  sides = [submissions.side_of(f'1:{n}') for n in range(4000)]
  share = sides.count('validation') / 4000
  assert abs(share - submissions.VALIDATION_SHARE) < 0.03
  assert sides == [submissions.side_of(f'1:{n}') for n in range(4000)]


def test_a_copy_of_a_frozen_picture_is_quarantined_for_good(store):
  frozen = near.Frozen.of([serve_store.picture(s) for s in (5, 6)])
  copy = serve_store.picture(5)[:, ::-1]
  row = store.add(copy.copy(), frozen=frozen)
  assert row['status'] == 'quarantined'
  with store.db.session() as session:
    _refused(
      lambda: submissions.accept(session, row['id'], store.administrator),
      'E_DUPLICATE',
      'judged on',
    )
  assert store.add(serve_store.picture(7), frozen=frozen)['status'] == 'pending'


def test_one_vote_for_what_resembles(store):
  pixels = serve_store.picture(0)
  lighter = np.where(pixels, np.clip(pixels + 3.0, 0, 255), 0).astype(np.uint8)
  first = store.add(pixels)
  second = store.add(lighter, user=store.other)
  assert second['near_id'] == first['id']
  with store.db.session() as session:
    submissions.accept(session, second['id'], store.reviewer)
    _refused(
      lambda: submissions.accept(session, first['id'], store.reviewer),
      'E_DUPLICATE',
      second['id'],
    )
    found = submissions.accept(
      session, first['id'], store.reviewer, distinct=True
    )
    other = submissions.get(session, second['id'], store.reviewer)
  assert found['side'] == other['side']
