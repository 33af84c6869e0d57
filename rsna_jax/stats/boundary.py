"""Intervals of shares of exactly 0 or 1.

All resamples of a set without a single error are without one, so that the
bootstrap's interval is a point, and 12 cancers of 12 would pass for certainty.
"""

from collections.abc import Mapping

import numpy as np

from rsna_jax.stats import bootstrap, distributions

_NEAR = 1e-9


def patients_behind(labels, patients, called=None) -> dict[str, int]:
  """How many patients each figure rests on, by its name.

  Args:
    labels: (N,) 0 or 1.
    patients: (N,).
    called: (N,) bool decisions, or None.

  Returns:
    Of a ranking the patients of the smaller class, of a share those of its
    denominator, of F1 those with cancer.
  """
  labels, patients = np.asarray(labels), np.asarray(patients)

  def count(rows) -> int:
    return len(np.unique(patients[rows]))

  ill, well = count(labels == 1), count(labels == 0)
  found = dict.fromkeys(bootstrap.OF_COUNTS, min(ill, well))
  found |= {'f1': ill, 'sensitivity': ill, 'specificity': well}
  if called is not None:
    called = np.asarray(called, bool)
    found |= {
      'ppv': count(called),
      'npv': count(~called),
      'recall_rate': count(labels >= 0),
    }
  return found


def mended(figure: Mapping, n: int | None) -> dict:
  """A figure whose interval is Wilson's where the bootstrap's is a point.

  Args:
    figure: {'value', 'low', 'high'}, a share; others are left as they are.
    n: patients behind it, each taken for one trial; None: leave it.
  """
  value, low, high = (figure[x] for x in ('value', 'low', 'high'))
  if not n or None in (value, low, high):
    return dict(figure)
  hits = round(value) * n
  if max(abs(x - round(value)) for x in (value, low, high)) > _NEAR:
    return dict(figure)
  low, high = distributions.wilson(hits, n)
  return {'value': value, 'low': float(low), 'high': float(high)}
