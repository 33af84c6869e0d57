import numpy as np
import pytest
from scipy import stats

from rsna_jax.stats import delong, heterogeneity


def test_independent_figures_have_cochrans_q():
  values, errors = np.array([0.8, 0.75, 0.9, 0.6]), np.array([1, 2, 3, 4]) / 50
  weight = 1 / errors**2
  common = (weight * values).sum() / weight.sum()
  q = (weight * (values - common) ** 2).sum()
  found = heterogeneity.test(values, np.diag(errors**2))
  assert found['q'] == pytest.approx(q, abs=1e-10)
  assert found['freedom'] == 3
  assert found['p'] == pytest.approx(stats.chi2.sf(q, 3), abs=1e-12)
  assert found['i_squared'] == pytest.approx(max(0, 1 - 3 / q))


def test_figures_that_are_the_same_one_are_no_evidence():
  found = heterogeneity.test([0.8, 0.8], np.full((2, 2), 0.01))
  assert (found['freedom'], found['p']) == (0, 1.0)


def groups(seed, worse=0.0):
  """Three sites whose patients' two breasts depend on one another."""
  rng = np.random.default_rng(seed)
  n = 600
  patients = np.arange(n) // 2
  site = patients % 3
  labels = (rng.random(n) < 0.3).astype(int)
  signal = np.where(site == 0, 1.2 - worse, 1.2)
  p = rng.normal(size=n) + rng.normal(size=n // 2)[patients] + signal * labels
  return labels, p, patients, site


def test_the_covariance_is_delongs_for_groups_apart_and_full_for_the_same():
  labels, p, patients, site = groups(0)
  areas, found = heterogeneity.of_aucs(
    labels, p, patients, [site == 0, site == 1, site == 0]
  )
  rows = site == 0
  expected = delong.covariance(labels[rows], [p[rows]], patients[rows])
  assert areas[0] == pytest.approx(expected[0][0], abs=1e-12)
  assert found[0, 0] == pytest.approx(expected[1][0, 0], rel=0.03)
  assert found[0, 1] == 0
  assert found[0, 2] == pytest.approx(found[0, 0], rel=1e-12)


@pytest.mark.parametrize('column', ['site', 'side'])
def test_chance_alone_is_called_a_difference_one_time_in_twenty(column):
  """The sides share their patients, which a plain Q would not know."""
  called, repeats = 0, 200
  for seed in range(repeats):
    labels, p, patients, site = groups(seed)
    of = site if column == 'site' else np.arange(len(p)) % 2
    areas, covariance = heterogeneity.of_aucs(
      labels, p, patients, [of == k for k in np.unique(of)]
    )
    called += heterogeneity.test(areas, covariance)['p'] < 0.05
  assert 0.01 <= called / repeats <= 0.10


def test_a_planted_difference_is_found():
  labels, p, patients, site = groups(0, worse=1.2)
  areas, covariance = heterogeneity.of_aucs(
    labels, p, patients, [site == k for k in range(3)]
  )
  assert heterogeneity.test(areas, covariance)['p'] < 1e-3
  gap = heterogeneity.gap(labels, p, patients, site != 0, site == 0)
  assert gap['gap'] > 0.15
  assert 0 < gap['low'] < gap['gap'] < gap['high']
