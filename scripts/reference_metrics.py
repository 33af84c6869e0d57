"""The figures of `check_metrics.py` a second time, by scikit-learn or by plain
sums that share no code with the package, but for the deal of the patients.
"""

import numpy as np
from sklearn import linear_model
from sklearn import metrics as sk

from rsna_jax.stats import thresholds


def joined(names, *columns):
  """Columns by group, in order of first appearance, as lists."""
  groups = {}
  for name, *values in zip(names.tolist(), *columns, strict=True):
    groups.setdefault(name, []).append(values)
  return groups


def mean(values):
  """The mean, which rounding does not carry beyond the values."""
  return min(max(sum(values) / len(values), min(values)), max(values))


def best_f1(y, p):
  """The highest threshold with the highest F1, by scikit-learn's curve."""
  precision, recall, cuts = sk.precision_recall_curve(y, p)
  total = precision + recall
  f1 = np.where(
    total > 0, 2 * precision * recall / np.maximum(total, 1e-300), 0
  )
  place = np.flatnonzero(f1[:-1] >= f1[:-1].max() - 1e-12)
  return cuts[place[-1]]


def pf1(y, p):
  hits = sum(
    x for x, label in zip(p.tolist(), y.tolist(), strict=True) if label
  )
  return 2 * hits / (p.sum() + y.sum())


def ece(y, p):
  total = 0.0
  for low in range(10):
    rows = (np.minimum((p * 10).astype(int), 9)) == low
    if rows.any():
      total += rows.mean() * abs(y[rows].mean() - p[rows].mean())
  return total


def ranked(y, p):
  """name -> (value, reference) of figures of a ranking and of the values."""
  fpr, tpr, _ = sk.roc_curve(y, p, drop_intermediate=False)
  rate = tpr * y.mean() + fpr * (1 - y.mean())
  by = 'scikit-learn'
  return {
    'roc_auc': (sk.roc_auc_score(y, p), by),
    'average_precision': (sk.average_precision_score(y, p), by),
    'sensitivity_at_90_specificity': (
      tpr[fpr <= 0.1 + 1e-12].max(),
      f'{by}, roc_curve',
    ),
    'specificity_at_90_sensitivity': (
      1 - fpr[tpr >= 0.9 - 1e-12].min(),
      f'{by}, roc_curve',
    ),
    'sensitivity_at_10_recall_rate': (
      tpr[rate <= 0.1 + 1e-12].max(),
      f'{by}, roc_curve',
    ),
    'partial_auc_10': (sk.roc_auc_score(y, p, max_fpr=0.1), by),
    'pf1': (pf1(y, p), 'plain sum'),
    'brier': (sk.brier_score_loss(y, p), by),
    'log_loss': (sk.log_loss(y, p), by),
    'ece': (ece(y, p), 'plain sum'),
    'calibration_in_the_large': (y.mean() - p.mean(), 'plain sum'),
  }


def delong_errors(y, p, patients):
  """Standard errors by each pair of a positive and a negative."""
  positive, negative = p[y == 1], p[y == 0]
  area = np.zeros(len(y))
  rows = np.flatnonzero(y == 1)
  below = np.zeros(len(negative))
  for row, value in zip(rows, positive, strict=True):
    wins = (value > negative) + 0.5 * (value == negative)
    area[row] = wins.mean()
    below += wins
  area[y == 0] = below / len(positive)
  auc = area[y == 1].mean()
  simple = np.sqrt(
    area[y == 1].var(ddof=1) / len(positive)
    + area[y == 0].var(ddof=1) / len(negative)
  )
  sums = {}
  for patient, label, value in zip(
    patients.tolist(), y.tolist(), area.tolist(), strict=True
  ):
    sums.setdefault(patient, [0.0, 0.0, 0, 0])
    sums[patient][label] += value - auc
    sums[patient][2 + label] += 1
  s = np.array(list(sums.values()))
  ill, well, every = (s[:, 3] > 0).sum(), (s[:, 2] > 0).sum(), len(s)
  m, n = len(positive), len(negative)
  clustered = np.sqrt(
    ill / (ill - 1) * (s[:, 1] ** 2).sum() / m**2
    + well / (well - 1) * (s[:, 0] ** 2).sum() / n**2
    + 2 * every / (every - 1) * (s[:, 0] * s[:, 1]).sum() / (m * n)
  )
  return simple, clustered


def platt(y, p):
  """Platt's calibration by scikit-learn, each row once as 1 and once as 0."""

  def logit(x):
    x = np.clip(x, 1e-9, 1 - 1e-9)
    return np.log(x / (1 - x))[:, None]

  positives, negatives = y.sum(), (1 - y).sum()
  target = np.where(
    y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2)
  )
  model = linear_model.LogisticRegression(C=1e12, tol=1e-12, max_iter=10_000)
  model.fit(
    np.concatenate([logit(p)] * 2),
    np.repeat([1, 0], len(y)),
    sample_weight=np.concatenate([target, 1 - target]),
  )
  return lambda x: model.predict_proba(logit(x))[:, 1]


def out_of_fold(y, p, patients, seed):
  """Calibrated probabilities and calls by the rule pf1, fitted once more."""
  part = thresholds.divide(y, patients, seed, 5)
  calibrated, called = np.empty(len(p)), np.empty(len(p), bool)
  for own in range(5):
    mine = part == own
    fitted = platt(y[~mine], p[~mine])
    others = np.sort(fitted(p[~mine]))[::-1]
    expected = (
      2 * np.cumsum(others) / (np.arange(len(others)) + 1 + others.sum())
    )
    calibrated[mine] = fitted(p[mine])
    called[mine] = calibrated[mine] >= expected.max() / 2
  return calibrated, called
