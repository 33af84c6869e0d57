import json

import numpy as np
import pytest

from rsna_jax import errors, schema
from rsna_jax.data import metadata, table


def _table(n=400, seed=0):
  rng = np.random.default_rng(seed)
  age = np.round(rng.normal(58, 10, n), 1).astype(np.float32)
  age[rng.random(n) < 0.1] = np.nan
  return table.Table.from_columns(
    {
      'patient_id': np.arange(n),
      'image_id': np.arange(n),
      'laterality': rng.choice(['L', 'R'], n),
      'view': rng.choice(['CC', 'MLO', ''], n),
      'age': age,
      'implant': rng.choice([0, 1, -1], n),
      'site_id': rng.choice([1, 2], n),
      'machine_id': rng.choice([49, 216, 29], n),
    }
  )


def _slot(encoder, encoded, name):
  return encoded[:, encoder.names.index(name)]


def test_slots_are_named_and_ordered_like_the_columns():
  encoder = metadata.Encoder.fit(_table(), ('view', 'machine_id', 'implant'))
  assert encoder.names == (
    'view_CC',
    'view_MLO',
    'view_unknown',
    'view_missing',
    'machine_id_29',
    'machine_id_49',
    'machine_id_216',
    'machine_id_unknown',
    'machine_id_missing',
    'implant_0',
    'implant_1',
    'implant_unknown',
    'implant_missing',
  )
  encoded = encoder.encode(_table())
  assert encoded.shape == (400, encoder.width) == (400, 13)
  assert encoded.dtype == np.float32


def test_each_category_has_one_slot_that_is_set():
  rows = _table()
  columns = ('implant', 'view', 'laterality', 'site_id', 'machine_id')
  encoder = metadata.Encoder.fit(rows, columns)
  encoded = encoder.encode(rows)
  for i, row in enumerate(rows.rows()):
    expected = {
      f'{name}_{"missing" if row[name] in ("", -1) else row[name]}'
      for name in columns
    }
    assert {encoder.names[j] for j in np.flatnonzero(encoded[i])} == expected
  assert set(np.unique(encoded)) == {0, 1}


def test_a_category_that_training_lacks_is_unknown_and_not_missing():
  encoder = metadata.Encoder.fit(_table(), ('machine_id', 'view'))
  new = table.Table.from_columns(
    {'image_id': [1, 2], 'machine_id': [7, -1], 'view': ['LMO', '']}
  )
  encoded = encoder.encode(new)
  for name in ('machine_id', 'view'):
    assert _slot(encoder, encoded, f'{name}_unknown').tolist() == [1, 0]
    assert _slot(encoder, encoded, f'{name}_missing').tolist() == [0, 1]
  assert encoded.sum() == 4


def test_age_is_standardised_by_the_training_rows():
  rows = _table()
  encoder = metadata.Encoder.fit(rows, ('age',))
  values = _slot(encoder, encoder.encode(rows), 'age')
  known = ~np.isnan(rows['age'])
  assert abs(values[known].mean()) < 1e-5
  assert abs(values[known].std() - 1) < 1e-5
  # Rows of validation are put on the scale of training, not on their own.
  other = _table(seed=1)
  ages = rows['age'][known].astype(float)
  expected = (other['age'] - ages.mean()) / ages.std()
  got = _slot(encoder, encoder.encode(other), 'age')
  known = ~np.isnan(other['age'])
  np.testing.assert_allclose(got[known], expected[known], rtol=1e-5)


def test_a_missing_age_sets_its_flag_and_nothing_else():
  rows = _table()
  encoder = metadata.Encoder.fit(rows, ('age',))
  encoded = encoder.encode(rows)
  missing = np.isnan(rows['age'])
  flag = _slot(encoder, encoded, 'age_missing')
  np.testing.assert_array_equal(flag == 1, missing)
  assert missing.any() and (encoded[missing].sum(axis=1) == 1).all()


def test_hats_peak_at_their_knots_and_sum_to_one():
  encoder = metadata.Encoder.fit(_table(), ('age',))
  knots = encoder.age_knots
  assert len(knots) == len(metadata.AGE_QUANTILES)
  ages = [20, *knots, (knots[0] + knots[1]) / 2, 100]
  rows = {'image_id': np.arange(len(ages)), 'age': np.array(ages)}
  hats = encoder.encode(rows)[:, 1:-1]
  np.testing.assert_allclose(hats.sum(axis=1), 1, rtol=1e-6)
  np.testing.assert_array_equal(hats[1:-2], np.eye(len(knots)))
  np.testing.assert_allclose(hats[-2][:2], 0.5)
  assert hats[0][0] == 1 and hats[-1][-1] == 1


@pytest.mark.parametrize('columns', [schema.METADATA_COLUMNS, ('age',), ()])
def test_json_brings_back_the_same_encoder(columns):
  rows = _table()
  encoder = metadata.Encoder.fit(rows, columns)
  again = metadata.Encoder.from_json(json.loads(json.dumps(encoder.to_json())))
  assert again.names == encoder.names
  assert again.to_json() == encoder.to_json()
  np.testing.assert_array_equal(again.encode(rows), encoder.encode(rows))


def test_no_columns_encode_to_a_width_of_zero():
  encoder = metadata.Encoder.fit(_table(), ())
  assert encoder.width == 0 and encoder.encode(_table()).shape == (400, 0)


@pytest.mark.parametrize('ages', [[np.nan] * 3, [50, 50, np.nan]])
def test_ages_that_are_all_missing_or_equal_encode_finitely(ages):
  rows = {'image_id': np.arange(3), 'age': np.array(ages, np.float32)}
  encoder = metadata.Encoder.fit(rows, ('age',))
  encoded = encoder.encode(rows)
  assert np.isfinite(encoded).all() and encoded[:, 0].tolist() == [0, 0, 0]
  odd = {'image_id': np.arange(1), 'age': np.array([90], np.float32)}
  assert np.isfinite(encoder.encode(odd)).all()


@pytest.mark.parametrize('name', ['BIRADS', 'density', 'cancer', 'nonsense'])
def test_columns_that_a_test_row_lacks_are_refused(name):
  with pytest.raises(errors.ConfigError, match=name):
    metadata.Encoder.fit(_table(), ('age', name))


def test_a_stored_encoder_of_other_fields_is_refused():
  value = metadata.Encoder.fit(_table(), ('age', 'view')).to_json()
  for broken in ({**value, 'extra': 1}, {**value, 'categories': {}}):
    with pytest.raises(errors.RunError, match='train again'):
      metadata.Encoder.from_json(broken)
