import json

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import errors, metrics
from rsna_jax.stats import bootstrap, logistic, operating, rules

RULES = (
  'pf1',
  'best_f1',
  'recall_rate=0.1',
  'sensitivity=0.9',
  'specificity=0.9',
)


def example(n=400, seed=0, levels=None):
  rng = np.random.default_rng(seed)
  z = 1.5 * rng.normal(size=n) - 2
  p = logistic.sigmoid(z)
  if levels:
    p = np.ceil(p * levels) / levels
  labels = (rng.random(n) < logistic.sigmoid(z)).astype(int)
  labels[:2] = 0, 1
  return labels, p, np.arange(n) // 2


def searched(rule, labels, p):
  """The threshold of a rule by trying every score, highest first."""
  name, asked = rules.parse(rule)
  found = []
  for t in np.unique(p)[::-1]:
    called = p >= t
    if name == 'recall_rate' and called.mean() <= asked + 1e-12:
      found.append(t)
    if name == 'specificity' and (~called)[labels == 0].mean() >= asked - 1e-12:
      found.append(t)
    if name == 'sensitivity' and called[labels == 1].mean() >= asked - 1e-12:
      return t
    if name == 'best_f1':
      found.append((sk.f1_score(labels, called), t))
    if name == 'pf1':
      found.append(2 * p[called].sum() / (called.sum() + p.sum()))
  if name == 'pf1':
    return max(found) / 2
  if name == 'best_f1':
    return max(found)[1]
  return found[-1]


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('levels', [None, 30])
def test_each_rule_equals_a_search_over_every_score(rule, levels):
  for seed in range(4):
    labels, p, _ = example(seed=seed, levels=levels)
    found = operating.choose(rule, labels, p)
    assert found.threshold['value'] == pytest.approx(
      searched(rule, labels, p), abs=1e-12
    )


@pytest.mark.parametrize('rule', RULES)
def test_each_resample_is_the_rule_on_the_rows_it_stands_for(rule):
  labels, p, patients = example(levels=60)
  resamples = bootstrap.Resamples(patients, n=12, seed=1)
  ranked = rules.Sorted(labels, p)
  place = resamples.members(patients)[ranked.order]
  found, _ = ranked.thresholds(rule, resamples.counts[:, place])
  for k in range(12):
    rows = np.repeat(np.arange(len(p)), resamples.counts[k][patients])
    assert found[k] == pytest.approx(
      searched(rule, labels[rows], p[rows]), abs=1e-12
    )
  chosen = operating.choose(
    rule, labels, p, patients=patients, resamples=resamples
  )
  low, high = bootstrap.interval(found)
  assert chosen.threshold['low'] == pytest.approx(low)
  assert chosen.threshold['high'] == pytest.approx(high)


def test_half_of_the_highest_expected_f1_is_the_best_cut_of_a_posterior():
  """By the truth of a large sample, no other threshold has a higher pF1."""
  labels, p, _ = example(n=200_000)
  found = operating.choose('pf1', None, p)
  best, f1 = metrics.best_threshold(labels, p)
  reached = metrics.f1_at(labels, p, found.threshold['value'])
  assert reached == pytest.approx(f1, abs=0.003)
  assert found.reached == pytest.approx(f1, abs=0.01)
  assert found.threshold['value'] == pytest.approx(best, abs=0.05)
  assert reached > metrics.pf1(labels, p) + 0.05


def test_sites_have_their_own_thresholds_where_they_have_enough():
  labels, p, _ = example(n=1_000)
  site = np.arange(1_000) % 2 + 1
  site[:20] = 3
  found = operating.choose('recall_rate=0.1', labels, p, sites=site)
  assert set(found.sites) == {'1', '2'}
  called = found.call(p, site)
  for k in (1, 2):
    rows = site == k
    assert 0.09 < called[rows].mean() <= 0.1
  np.testing.assert_array_equal(
    called[site == 3], p[site == 3] >= found.threshold['value']
  )
  np.testing.assert_array_equal(found.call(p), p >= found.threshold['value'])


def test_an_operating_point_survives_json():
  labels, p, patients = example()
  found = operating.choose(
    'sensitivity=0.9',
    labels,
    p,
    patients=patients,
    sites=np.arange(400) % 2,
    resamples=bootstrap.Resamples(patients, n=20, seed=0),
  )
  text = json.dumps(found.to_json(), allow_nan=False)
  assert operating.OperatingPoint.from_json(json.loads(text)) == found


def test_a_fixed_number_is_itself_even_without_data():
  assert operating.choose(0.31, None, []).threshold['value'] == 0.31
  assert operating.choose('0.31', [0, 1], [0.2, 0.4]).call([0.31]).all()


@pytest.mark.parametrize(
  ('rule', 'labels', 'p', 'said'),
  [
    ('best_f1', [0, 0], [0.1, 0.2], 'none of 2 examples is positive'),
    ('sensitivity=0.9', [0, 0], [0.1, 0.2], 'none of 2 examples is positive'),
    ('specificity=0.9', [1, 1], [0.1, 0.2], 'none of 2 examples is negative'),
    ('specificity=0.9', [1, 0], [0.3, 0.3], 'shared by 2 of 2'),
    ('recall_rate=0.1', [1, 0], [0.3, 0.3], 'shared by 2 of 2'),
    ('pf1', [1, 0], [0.0, 0.0], 'all 2 probabilities are 0'),
    ('best_f1', [], [], 'no labelled example'),
    ('best_f1', None, [0.1], 'needs labels'),
    ('pf1', [0, 1], [0.1, 1.5], r'1\.5 is not from 0 to 1'),
    ('pf1', [0, 1], [0.1, np.nan], 'nan is not from 0 to 1'),
  ],
)
def test_data_that_define_no_threshold_say_why(rule, labels, p, said):
  with pytest.raises(errors.DataError, match=said):
    operating.choose(rule, labels, p)


@pytest.mark.parametrize(
  'rule', ['f2', 'pf1=0.3', '1.5', -0.1, 'nan', 'recall_rate=0', 'sensitivity=']
)
def test_what_is_no_rule_is_refused(rule):
  with pytest.raises(errors.ConfigError):
    rules.parse(rule)


@pytest.mark.parametrize(
  'found',
  [
    None,
    {'rule': 'pf1'},
    {'rule': 'x', 'threshold': {'value': 0.1}},
    {'rule': 'pf1', 'threshold': {'value': 1.2}},
    {'rule': 'pf1', 'threshold': {'value': None}},
    {'rule': 'pf1', 'threshold': {'value': 0.1}, 'sites': {'1': {}}},
  ],
)
def test_what_is_not_an_operating_point_is_refused(found):
  with pytest.raises(errors.DataError, match='not an operating point'):
    operating.OperatingPoint.from_json(found)
