import numpy as np
import pytest
from scipy import stats

from rsna_jax.stats import distributions


def test_chances_equal_scipy():
  for freedom in (1, 2, 3, 9, 40):
    for x in (1e-6, 0.3, 1.0, 4.0, 12.5, 60.0, 200.0):
      expected = stats.chi2.sf(x, freedom)
      found = distributions.chi_square_p(x, freedom)
      assert found == pytest.approx(expected, rel=1e-10, abs=1e-15)
  for z in (0.0, 0.5, -1.96, 6.0):
    assert distributions.normal_p(z) == pytest.approx(
      2 * stats.norm.sf(abs(z)), rel=1e-12
    )
  assert distributions.normal_quantile(0.95) == pytest.approx(
    stats.norm.ppf(0.975), abs=1e-12
  )


def test_nothing_to_test_is_no_evidence():
  assert distributions.chi_square_p(0.0, 3) == 1.0
  assert distributions.chi_square_p(5.0, 0) == 1.0
  assert distributions.chi_square_p(float('inf'), 2) == 0.0
  assert distributions.coin_p(0, 0) == 1.0


def test_an_uneven_coin_equals_the_exact_binomial_test():
  for tosses in (1, 2, 7, 50, 4_001):
    for heads in {0, 1, tosses // 3, tosses // 2, tosses}:
      assert distributions.coin_p(heads, tosses) == pytest.approx(
        stats.binomtest(heads, tosses).pvalue, rel=1e-9, abs=1e-300
      )


def test_the_interval_of_a_share_equals_scipy():
  for hits, n in ((0, 5), (3, 7), (20, 20), (492, 23_826)):
    expected = stats.binomtest(hits, n).proportion_ci(method='wilson')
    np.testing.assert_allclose(
      distributions.wilson(hits, n), expected, atol=1e-12
    )
  assert distributions.wilson(0, 0) == (0.0, 1.0)
