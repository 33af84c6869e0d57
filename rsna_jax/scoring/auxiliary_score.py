"""What metrics.json says of the targets beside the main one."""

from collections.abc import Mapping

import numpy as np

from rsna_jax import auxiliary, metrics


def score_auxiliary(
  columns: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
) -> dict[str, dict]:
  """A figure of each auxiliary target, over the images that have its label.

  They tell whether a target was learned, and are not what a model is chosen
  by: they have no intervals.

  Args:
    columns: the columns of a table, (N,) each.
    values: (N, K) by target: probabilities or years, as `auxiliary.values`.

  Returns:
    For each target 'n', its images with a label, and of one class 'positives'
    and 'roc_auc'; of several 'accuracy' and 'commonest', which is what always
    naming the commonest class would reach; of age 'mean_absolute_error' and
    'mean_absolute_deviation', which is what always naming the median would
    reach, in years. A figure that is not defined is None.
  """
  found = {}
  for name, each in values.items():
    labels, known = auxiliary.labels(columns, name)
    said = np.asarray(each, np.float64)[known]
    found[name] = {'n': int(known.sum()), **_figures(name, labels[known], said)}
  return found


def _figures(name: str, labels: np.ndarray, said: np.ndarray) -> dict:
  if name == 'age':
    years = labels * auxiliary.AGE_SD + auxiliary.AGE_MEAN
    middle = np.median(years) if len(years) else 0.0
    return {
      'mean_absolute_error': _mean(np.abs(said[:, 0] - years)),
      'mean_absolute_deviation': _mean(np.abs(years - middle)),
    }
  if said.shape[1] == 1:
    auc = metrics.roc_auc(labels, said[:, 0]) if len(labels) else np.nan
    return {
      'positives': int(labels.sum()),
      'roc_auc': None if np.isnan(auc) else float(auc),
    }
  commonest = np.bincount(labels).max() if len(labels) else 0
  return {
    'accuracy': _mean(said.argmax(axis=1) == labels),
    'commonest': float(commonest / len(labels)) if len(labels) else None,
  }


def _mean(values: np.ndarray) -> float | None:
  return float(np.mean(values)) if len(values) else None
