from rsna_jax.data import cells
from rsna_jax.serve.learning import frozen_layout


def _row(name, patient='p', laterality='L', cancer=0, **more):
  return {
    'submission_id': name,
    'patient': patient,
    'laterality': laterality,
    'cancer': cancer,
    'side': 'train',
    **more,
  }


def test_numbers_are_those_that_a_table_takes_and_stay_the_same():
  rows = [_row(f'id{i}', f'p{i // 2}') for i in range(200)]
  kept, left_out = frozen_layout.arrange(rows)
  assert left_out == []
  assert len({row['image_id'] for row in kept}) == 200
  assert len({row['patient_id'] for row in kept}) == 100
  for row in kept:
    assert 2**30 <= row['image_id'] <= cells.MAX_ID
    assert 2**30 <= row['patient_id'] <= cells.MAX_ID
  some, _ = frozen_layout.arrange(rows[50:120])
  assert [row['image_id'] for row in some] == [
    row['image_id'] for row in kept[50:120]
  ]


def test_numbers_that_coincide_are_moved_on(monkeypatch):
  monkeypatch.setattr(frozen_layout, '_COUNT', 8)
  kept, _ = frozen_layout.arrange([_row(f'id{i}') for i in range(8)])
  assert sorted(row['image_id'] - 2**30 for row in kept) == list(range(8))


def test_images_of_a_breast_that_contradict_one_another_are_left_out():
  rows = [
    *(_row('a', cancer=1), _row('b', cancer=0), _row('c', laterality='R')),
    *(_row('d', cancer=-1), _row('e', 'q', cancer=1)),
  ]
  kept, left_out = frozen_layout.arrange(rows)
  assert [row['submission_id'] for row in kept] == ['c', 'e']
  assert [name for name, _ in left_out] == ['a', 'b', 'd']
  assert left_out[0][1] == 'images of its breast have different labels'


def test_an_unknown_side_goes_to_the_breast_with_its_label():
  rows = [
    *(_row('a', cancer=1), _row('b', laterality='', cancer=0)),
    *(_row('c', laterality='', cancer=1), _row('d', laterality='', cancer=0)),
  ]
  kept, left_out = frozen_layout.arrange(rows)
  assert [row['laterality'] for row in kept] == ['L', 'R', 'L', 'R']
  assert left_out == []


def test_an_unknown_side_that_fits_no_breast_is_left_out():
  rows = [
    *(_row('a', cancer=0), _row('b', laterality='R', cancer=0)),
    *(_row('c', laterality='', cancer=1), _row('d', laterality='', cancer=-1)),
  ]
  kept, left_out = frozen_layout.arrange(rows)
  assert [row['submission_id'] for row in kept] == ['a', 'b', 'd']
  assert left_out == [('c', 'both breasts of the patient have another label')]


def test_of_a_patient_on_both_sides_only_what_is_held_out_is_used():
  rows = [
    *(_row('a'), _row('b', side='validation'), _row('c', 'q')),
    _row('d', laterality='', side='validation'),
  ]
  kept, left_out = frozen_layout.arrange(rows)
  assert [row['submission_id'] for row in kept] == ['b', 'c', 'd']
  assert left_out == [('a', 'its patient is held out')]
