import numpy as np
import pytest

from rsna_jax import aggregate, errors

NAMES = ['9_R', '7_L', '9_R', '7_R', '9_R', '7_L']
PATIENTS = [9, 7, 9, 7, 9, 7]
VALUES = [0.1, 0.5, 0.7, 0.2, 0.1, 0.9]
LABELS = [1, 0, 1, 0, 1, 0]


def test_breasts_come_in_order_of_first_appearance_with_mean_and_max():
  for how, expected in (('mean', [0.3, 0.7, 0.2]), ('max', [0.7, 0.9, 0.2])):
    found = aggregate.breasts(NAMES, PATIENTS, VALUES, LABELS, how=how)
    assert found['prediction_id'].tolist() == ['9_R', '7_L', '7_R']
    assert found['patient_id'].tolist() == [9, 7, 7]
    np.testing.assert_allclose(found['cancer'], expected, atol=1e-15)
    assert found['label'].tolist() == [1, 0, 0]
    assert found['n_images'].tolist() == [3, 2, 1]


def test_any_number_of_images_equals_a_loop():
  rng = np.random.default_rng(0)
  patient = rng.integers(0, 40, 500)
  names = np.array([f'{x}_{"LR"[i % 2]}' for i, x in enumerate(patient)])
  values = rng.random(500)
  for how, combine in (('mean', np.mean), ('max', np.max)):
    found = aggregate.breasts(names, patient, values, how=how)
    expected = {x: combine(values[names == x]) for x in dict.fromkeys(names)}
    assert found['prediction_id'].tolist() == list(expected)
    np.testing.assert_allclose(found['cancer'], list(expected.values()))
    assert (found['label'] == -1).all()


def test_noisy_or_and_view_max_equal_a_loop_with_duplicates_and_missing_views():
  rng = np.random.default_rng(1)
  n = 400
  patient = rng.integers(0, 50, n)
  names = np.array([f'{x}_{"LR"[i % 2]}' for i, x in enumerate(patient)])
  views = rng.choice(['CC', 'MLO', 'ML', ''], n)
  values = rng.random(n)
  values[:3] = 0.0, 1.0, 1.0
  either = aggregate.breasts(names, patient, values, how='noisy_or')
  by_view = aggregate.breasts(
    names, patient, values, how='view_max', views=views
  )
  for k, name in enumerate(dict.fromkeys(names)):
    rows = names == name
    assert either['cancer'][k] == pytest.approx(
      1 - np.prod(1 - values[rows]), abs=1e-12
    )
    means = [values[rows & (views == v)].mean() for v in set(views[rows])]
    assert by_view['cancer'][k] == pytest.approx(max(means), abs=1e-12)


@pytest.mark.parametrize('value', [0.1, 0.2, 0.35, 0.7, 1 / 3, 1e-9])
@pytest.mark.parametrize('how', ['mean', 'view_max'])
def test_images_that_are_alike_do_not_rank_by_how_many_they_are(how, value):
  counts = range(1, 9)
  names = np.repeat([f'{n}_L' for n in counts], counts)
  found = aggregate.breasts(
    names,
    np.repeat(counts, counts),
    np.full(len(names), value),
    how=how,
    views=np.full(len(names), 'CC'),
  )
  assert set(found['cancer'].tolist()) == {value}


def test_a_patient_is_positive_by_one_breast_and_negative_by_all():
  found = aggregate.patients(
    [7, 8, 7, 9, 9, 6],
    [0.2, 0.5, 0.6, 0.1, 0.3, 0.4],
    [0, 0, 1, 0, -1, -1],
  )
  assert found['patient_id'].tolist() == [7, 8, 9, 6]
  assert found['cancer'].tolist() == [0.6, 0.5, 0.3, 0.4]
  assert found['label'].tolist() == [1, 0, -1, -1]
  assert found['n_breasts'].tolist() == [2, 1, 2, 1]
  either = aggregate.patients([7, 7], [0.5, 0.5], how='noisy_or')
  assert either['cancer'][0] == pytest.approx(0.75)


def test_unusable_patients_are_named():
  with pytest.raises(errors.DataError, match='patient_id 7: the prob'):
    aggregate.patients([7], [np.nan])
  with pytest.raises(errors.DataError, match='shape'):
    aggregate.patients([7], [0.1, 0.2])
  with pytest.raises(errors.ConfigError, match="'view_max'"):
    aggregate.patients([7], [0.1], how='view_max')


def test_what_a_way_needs_is_asked_for():
  with pytest.raises(errors.ConfigError, match='needs the view'):
    aggregate.breasts(NAMES, PATIENTS, VALUES, how='view_max')
  with pytest.raises(errors.ConfigError, match='needs a fitted one'):
    aggregate.breasts(NAMES, PATIENTS, VALUES, how='learned')
  with pytest.raises(errors.DataError, match='views has shape'):
    aggregate.breasts(NAMES, PATIENTS, VALUES, how='view_max', views=['CC'])


def test_unknown_labels_give_way_to_known_ones():
  found = aggregate.breasts(
    ['a', 'a', 'b', 'c', 'c'], [1] * 5, [0.5] * 5, [-1, 1, -1, 0, -1]
  )
  assert found['label'].tolist() == [1, -1, 0]


def test_extra_columns_are_those_of_the_first_image():
  found = aggregate.breasts(
    NAMES, PATIENTS, VALUES, extra={'view': ['CC', 'ML', 'x', 'y', 'z', 'w']}
  )
  assert found['view'].tolist() == ['CC', 'ML', 'y']


def test_labels_that_differ_within_a_breast_are_named_and_counted():
  with pytest.raises(errors.DataError, match=r'7_L: cancer is 0 .* 1 .*\(1'):
    aggregate.breasts(NAMES, PATIENTS, VALUES, [1, 0, 1, 0, 1, 1])


def test_patients_that_differ_within_a_breast_are_named():
  with pytest.raises(errors.DataError, match='9_R: patient_id is 9'):
    aggregate.breasts(NAMES, [9, 7, 8, 7, 9, 7], VALUES)


def test_other_unusable_input_is_named():
  with pytest.raises(errors.DataError, match='7_R: the probability'):
    aggregate.breasts(NAMES, PATIENTS, [0, 0, 0, np.nan, 0, 0])
  with pytest.raises(errors.DataError, match='labels has shape'):
    aggregate.breasts(NAMES, PATIENTS, VALUES, [1])
  with pytest.raises(errors.ConfigError, match="'median'"):
    aggregate.breasts(NAMES, PATIENTS, VALUES, how='median')


def test_no_image_gives_no_breast():
  found = aggregate.breasts([], [], [], [])
  assert {len(column) for column in found.values()} == {0}
