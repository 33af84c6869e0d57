"""Labels and attributes: what cannot be is refused by its name."""

import pytest

from rsna_jax.serve import problems
from rsna_jax.serve.store import labels

_GOOD = {
  'density': 'B',
  'cancer': 'malignant',
  'evidence': 'biopsy',
  'confidence': '5',
  'patient': 'p-1',
  'text_checked': 'on',
  'note': 'seen by two',
}


def _field(call) -> str:
  with pytest.raises(problems.Problem) as caught:
    call()
  assert caught.value.code == 'E_FIELD' and caught.value.status == 422
  assert len(caught.value.message) < 200 and '\n' not in caught.value.message
  return caught.value.message.partition(':')[0]


def test_a_form_and_json_say_the_same():
  found = labels.Labels.parse(_GOOD)
  assert found == labels.Labels.parse(
    _GOOD | {'density': 2, 'cancer': 1, 'confidence': 5, 'text_checked': True}
  )
  assert found == labels.Labels(
    density=2,
    cancer=1,
    evidence='biopsy',
    confidence=5,
    patient='p-1',
    text_checked=True,
    note='seen by two',
  )


def test_one_label_is_enough():
  assert labels.Labels.parse(_GOOD | {'density': ''}).density is None
  assert labels.Labels.parse(_GOOD | {'cancer': None}).cancer is None


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    *(
      ('density', value)
      for value in (
        *(0, 5, 2.5, 2.0, -1, True, float('nan'), [2], {'a': 1}),
        *('2 OR 1=1', '2.5', 'E', 'AB', '٢', '²', '9' * 5000),
      )
    ),
    *(
      ('cancer', value)
      for value in (2, -1, True, 0.0, 'maybe', 'yes', [1], float('nan'))
    ),
    *(('evidence', value) for value in ('', None, 'hearsay', 1, ['biopsy'])),
    *(('confidence', value) for value in ('', None, 0, 6, '3.5', True, [3])),
    *(
      ('patient', value)
      for value in ('a b', '../x', 'p' * 65, 'ä', 'a\n', 1.5, ['p'], 'a\0')
    ),
    *(
      ('text_checked', value)
      for value in ('', None, False, 'off', 'perhaps', 2, ['on'])
    ),
    *(
      ('note', value)
      for value in ('n' * 501, 'n' * 10_000_000, ['n'], 1, '\ud800')
    ),
  ],
  ids=lambda value: repr(value)[:20],
)
def test_a_label_that_cannot_be_is_refused_by_its_name(name, value):
  assert _field(lambda: labels.Labels.parse(_GOOD | {name: value})) == name


def test_neither_label_is_refused():
  parse = labels.Labels.parse
  assert _field(lambda: parse(_GOOD | {'density': '', 'cancer': ''})) == (
    'density'
  )


def test_a_field_that_is_not_there_is_refused():
  for name in ('status', 'side', 'user_id', 'final_cancer', '<script>'):
    assert _field(lambda n=name: labels.Labels.parse(_GOOD | {n: 1})) == (
      'labels'
    )


def test_notes_keep_their_words_and_lose_control_characters():
  note = "<b>x</b> '; DROP TABLE users; --\n\u202ecba\x07\0"
  found = labels.Labels.parse(_GOOD | {'note': note})
  assert found.note == "<b>x</b> '; DROP TABLE users; --\n cba"


def test_attributes_are_checked_and_others_passed_over():
  assert labels.parse_attributes(
    {'laterality': 'L', 'view': 'MLO', 'age': '51', 'implant': 0, 'name': 'X'}
  ) == {'laterality': 'L', 'view': 'MLO', 'age': 51.0, 'implant': 0}
  assert labels.parse_attributes(
    {'laterality': '', 'age': float('nan'), 'implant': -1}
  ) == {'laterality': '', 'view': '', 'age': None, 'implant': None}


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('laterality', 'left'),
    ('view', 'XX'),
    ('age', '-1'),
    ('age', 'old'),
    ('age', 1e9),
    ('age', float('inf')),
    ('age', [50]),
    ('implant', 2),
    ('implant', 'yes'),
  ],
)
def test_an_attribute_that_cannot_be_is_refused_by_its_name(name, value):
  assert _field(lambda: labels.parse_attributes({name: value})) == name
