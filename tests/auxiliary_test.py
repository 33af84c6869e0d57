"""Labels and values of the targets beside the main one."""

import numpy as np
import pytest

from rsna_jax import auxiliary, schema

COLUMNS = {
  'cancer': [1, 0, 0, -1, 0],
  'biopsy': [1, 1, 0, 1, -1],
  'invasive': [1, 0, 0, -1, 0],
  'BIRADS': [0, 2, -1, 1, 5],
  'density': [4, -1, 1, 2, 3],
  'difficult_negative_case': [0, 1, 1, -1, 0],
  'age': np.array([58.5, 68.5, np.nan, 38.5, 60.0], np.float32),
  'view': np.array(['CC', 'LMO', '', 'XX', 'MLO']),
}
MISSING = None


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('density', [3, MISSING, 0, 1, 2]),
    ('birads', [0, 2, MISSING, 1, MISSING]),
    ('biopsy', [1, 1, 0, 1, MISSING]),
    ('invasive', [1, 0, 0, MISSING, 0]),
    ('benign', [0, 1, 0, MISSING, MISSING]),
    ('difficult_negative_case', [0, 1, 1, MISSING, 0]),
    ('age', [0.0, 1.0, MISSING, -2.0, 0.15]),
    ('view', [0, 5, MISSING, MISSING, 1]),
  ],
)
def test_labels_are_of_their_columns_and_missing_ones_are_marked(
  name, expected
):
  labels, known = auxiliary.labels(COLUMNS, name)
  assert labels.dtype == (np.float32 if name == 'age' else np.int32)
  assert known.tolist() == [x is not MISSING for x in expected]
  wanted = [0 if x is MISSING else x for x in expected]
  np.testing.assert_allclose(labels, wanted, rtol=1e-6)


def test_every_target_has_labels_and_a_name_for_each_value():
  for name, count in auxiliary.TARGETS.items():
    labels, known = auxiliary.labels(COLUMNS, name)
    if count > 1:
      assert labels[known].max() < count
    names = auxiliary.class_names(name)
    assert len(names) == len(set(names)) == count
    assert all(one.startswith(name) for one in names)
  with pytest.raises(KeyError, match='unknown target'):
    auxiliary.labels(COLUMNS, 'size')


def test_no_target_is_an_input_unless_a_test_row_has_it():
  inputs = {x for x in auxiliary.TARGETS if x in schema.METADATA_COLUMNS}
  assert inputs == {'age', 'view'}


def test_values_are_probabilities_or_years():
  logits = np.array([[0.0, np.log(3.0), 0.0], [5.0, 5.0, 5.0]])
  found = auxiliary.values(logits, 'birads')
  np.testing.assert_allclose(found, [[0.2, 0.6, 0.2], [1 / 3] * 3])
  np.testing.assert_allclose(
    auxiliary.values([[np.log(4.0)]], 'biopsy'), [[0.8]]
  )
  np.testing.assert_allclose(
    auxiliary.values([[0.0], [1.5]], 'age')[:, 0], [58.5, 73.5]
  )
