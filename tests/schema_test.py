import numpy as np
import pytest
from scipy import special

from rsna_jax import schema


def test_train_and_test_columns_are_the_14_and_9_of_rsna():
  assert len(schema.TRAIN_COLUMNS) == 14 and len(schema.TEST_COLUMNS) == 9
  both = set(schema.TRAIN_COLUMNS) | set(schema.TEST_COLUMNS)
  assert both == set(schema.COLUMNS)


def test_inputs_are_columns_that_a_test_row_has():
  assert set(schema.METADATA_COLUMNS) <= set(schema.TEST_COLUMNS)


def test_ids_up_to_two_to_the_31_and_all_words_fit_their_dtypes():
  for name in ('patient_id', 'image_id'):
    assert np.array([2**31], schema.COLUMNS[name])[0] == 2**31
  for words, name in (
    (schema.LATERALITIES, 'laterality'),
    (schema.VIEWS, 'view'),
    ([f'{2**31}_R'], 'prediction_id'),
  ):
    assert np.array(words, schema.COLUMNS[name]).tolist() == list(words)


def test_labels_of_every_target_by_hand():
  columns = {
    'cancer': [0, 1, -1, 0, 1, 1],
    'density': [1, 4, 2, -1, -1, 1],
  }
  for target, expected in (
    ('cancer', [0, 1, -1, 0, 1, 1]),
    ('density', [0, 3, 1, -1, -1, 0]),
    ('density_cancer', [0, 7, -1, -1, -1, 1]),
  ):
    labels = schema.target_labels(columns, target)
    assert labels.tolist() == expected and labels.dtype == np.int64


def test_labels_are_no_view_of_the_column():
  columns = {'cancer': np.array([0, 1]), 'density': np.array([1, 1])}
  schema.target_labels(columns, 'cancer')[:] = 9
  assert columns['cancer'].tolist() == [0, 1]


def test_names_of_the_8_classes_agree_with_their_numbers():
  assert len(schema.DENSITY_CANCER_CLASSES) == 8
  for density in (1, 2, 3, 4):
    for cancer, word in enumerate(('Benign', 'Malignant')):
      columns = {'cancer': [cancer], 'density': [density]}
      (label,) = schema.target_labels(columns, 'density_cancer')
      name = schema.DENSITY_CANCER_CLASSES[label]
      assert name == f'Density{density}{word}'


@pytest.mark.parametrize('target', sorted(schema.TARGETS))
def test_probabilities_are_sigmoid_or_softmax(target):
  logits = np.random.default_rng(0).normal(0, 5, (20, schema.TARGETS[target]))
  probabilities = schema.target_probabilities(logits.astype('f4'), target)
  logits = logits.astype('f4').astype('f8')
  if target == 'cancer':
    expected = special.expit(logits)
  else:
    expected = special.softmax(logits, axis=1)
  assert probabilities.dtype == np.float64
  np.testing.assert_allclose(probabilities, expected, rtol=1e-12)


def test_extreme_logits_give_probabilities_without_warnings():
  with np.errstate(over='raise', invalid='raise', divide='raise'):
    small, big = schema.target_probabilities([[-700.0], [700.0]], 'cancer')
    rows = schema.target_probabilities([[1e30, 0, 0, 0]], 'density')
  assert 0 < small[0] < 1e-300 and big[0] == 1
  assert rows.tolist() == [[1, 0, 0, 0]]


def test_cancer_is_the_sum_of_the_malignant_classes():
  logits = np.random.default_rng(0).normal(size=(9, 8))
  expected = special.softmax(logits, axis=1)[:, [1, 3, 5, 7]].sum(axis=1)
  got = schema.cancer_probability(logits, 'density_cancer')
  np.testing.assert_allclose(got, expected)
  got = schema.cancer_probability(logits[:, :1], 'cancer')
  np.testing.assert_allclose(got, special.expit(logits[:, 0]))
  assert schema.cancer_probability(logits[:, :4], 'density') is None


def test_an_unknown_target_is_named():
  with pytest.raises(KeyError, match='nonsense'):
    schema.target_labels({'cancer': [0], 'density': [1]}, 'nonsense')
