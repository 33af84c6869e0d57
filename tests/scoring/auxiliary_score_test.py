"""Figures of auxiliary targets against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from rsna_jax import auxiliary
from rsna_jax.scoring import auxiliary_score

N = 40


def some():
  rng = np.random.default_rng(0)
  columns = {
    'cancer': rng.integers(0, 2, N),
    'biopsy': rng.integers(-1, 2, N),
    'density': rng.choice([-1, 1, 2, 3, 4], N),
    'age': np.where(rng.uniform(size=N) < 0.2, np.nan, rng.normal(60, 9, N)),
  }
  outputs = {
    'biopsy': rng.normal(size=(N, 1)),
    'density': rng.normal(size=(N, 4)),
    'age': rng.normal(size=(N, 1)),
  }
  return columns, outputs


def score(columns, outputs):
  return auxiliary_score.score_auxiliary(
    columns, {k: auxiliary.values(v, k) for k, v in outputs.items()}
  )


def test_figures_are_of_the_images_with_a_label():
  columns, outputs = some()
  found = score(columns, outputs)
  known = columns['biopsy'] >= 0
  assert 0 < found['biopsy']['n'] == known.sum() < N
  assert found['biopsy']['positives'] == (columns['biopsy'] == 1).sum()
  assert found['biopsy']['roc_auc'] == pytest.approx(
    theirs.roc_auc_score(columns['biopsy'][known], outputs['biopsy'][known, 0])
  )
  known = columns['density'] > 0
  labels = columns['density'][known] - 1
  assert found['density'] == {
    'n': known.sum(),
    'accuracy': pytest.approx(
      theirs.accuracy_score(labels, outputs['density'][known].argmax(axis=1))
    ),
    'commonest': pytest.approx(np.bincount(labels).max() / known.sum()),
  }
  known = ~np.isnan(columns['age'])
  years = outputs['age'][known, 0] * 10 + 58.5
  assert found['age'] == {
    'n': known.sum(),
    'mean_absolute_error': pytest.approx(
      theirs.mean_absolute_error(columns['age'][known], years)
    ),
    'mean_absolute_deviation': pytest.approx(
      np.abs(columns['age'][known] - np.median(columns['age'][known])).mean()
    ),
  }


def test_what_is_not_defined_is_none():
  columns, outputs = some()
  columns['biopsy'] = np.zeros(N, int)
  columns['density'] = np.full(N, -1)
  columns['age'] = np.full(N, np.nan)
  found = score(columns, outputs)
  assert found['biopsy'] == {'n': N, 'positives': 0, 'roc_auc': None}
  assert found['density'] == {'n': 0, 'accuracy': None, 'commonest': None}
  assert found['age']['mean_absolute_error'] is None
