"""The few chances that the tests and intervals here need, without scipy.

Each is exact or accurate to about 1e-13; the standard library has the rest.
"""

import math
import statistics

import numpy as np

_TERMS = 10_000  # far beyond what either expansion takes


def normal_quantile(level: float) -> float:
  """z with the share `level` of a normal distribution from -z to z."""
  return statistics.NormalDist().inv_cdf(0.5 + level / 2)


def normal_p(z: float) -> float:
  """The two-sided chance of a normal deviate at least as far out as z."""
  return math.erfc(abs(z) / math.sqrt(2))


def chi_square_p(x: float, freedom: int) -> float:
  """The chance that chi-square exceeds x.

  Args:
    x: not negative.
    freedom: degrees of freedom; with 0 there is nothing to test, and it is 1.

  Source: the series and the continued fraction of the incomplete gamma
  function, Abramowitz and Stegun 6.5.29 and 6.5.31.
  """
  if freedom <= 0 or x <= 0:
    return 1.0
  if math.isinf(x):
    return 0.0
  a, y = freedom / 2, x / 2
  scale = math.exp(a * math.log(y) - y - math.lgamma(a))
  if y < a + 1:
    term = total = 1 / a
    for k in range(1, _TERMS):
      term *= y / (a + k)
      total += term
      if term < total * 1e-17:
        break
    return max(0.0, 1 - scale * total)
  # Lentz's way, so that no convergent over- or underflows.
  b = y + 1 - a
  c, d = math.inf, 1 / b
  fraction = d
  for k in range(1, _TERMS):
    step = -k * (k - a)
    b += 2
    d = 1 / (step * d + b)
    c = b + step / c
    fraction *= c * d
    if abs(c * d - 1) < 1e-16:
      break
  return scale * fraction


def coin_p(heads: int, tosses: int) -> float:
  """The two-sided exact chance of so uneven a split by a fair coin."""
  fewer = min(heads, tosses - heads)
  term = total = 1
  for k in range(fewer):
    term = term * (tosses - k) // (k + 1)
    total += term
  return min(1.0, 2 * total / (1 << tosses))


def wilson(
  hits: np.ndarray, n: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """The interval of a share, hits of n; from 0 to 1 of nothing.

  Source: Wilson, "Probable inference", 1927.
  """
  z = normal_quantile(level)
  hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
  wide = n + z * z
  middle = (hits + z * z / 2) / wide
  inside = hits * (n - hits) / np.maximum(n, 1) + z * z / 4
  half = z * np.sqrt(inside) / wide
  return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
