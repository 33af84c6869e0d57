"""Logistic regression of a few columns by Newton's method, in float64.

Calibration, its slope and the learned pooling of views stand on it.
"""

from typing import NamedTuple

import numpy as np

_STEPS = 100
_NEAR = 1e-6  # log odds; a step so short leaves about its square to go
EDGE = 1e-9  # a probability nearer to 0 or 1 than this counts as this


class Fit(NamedTuple):
  """`coefficients` (P,), `hessian` (P, P), and whether Newton arrived."""

  coefficients: np.ndarray
  hessian: np.ndarray
  converged: bool


def sigmoid(logits: np.ndarray) -> np.ndarray:
  """(...,) 1 / (1 + exp(-logits)), without overflow."""
  logits = np.asarray(logits, np.float64)
  small = np.exp(-np.abs(logits))
  return np.where(logits >= 0, 1, small) / (1 + small)


def logit(probabilities: np.ndarray) -> np.ndarray:
  """(...,) log odds; a probability at 0 or 1 is taken for one at `EDGE`."""
  p = np.clip(np.asarray(probabilities, np.float64), EDGE, 1 - EDGE)
  return np.log(p) - np.log1p(-p)


def smoothed(labels: np.ndarray) -> np.ndarray:
  """(N,) targets a little inside 0 and 1, so that a fit is always finite.

  Source: Platt, "Probabilistic outputs for support vector machines", 1999.
  """
  labels = np.asarray(labels, np.float64)
  positives = labels.sum()
  high = (positives + 1) / (positives + 2)
  low = 1 / (len(labels) - positives + 2)
  return np.where(labels == 1, high, low)


def fit(
  columns: np.ndarray,
  targets: np.ndarray,
  *,
  offset: np.ndarray | float = 0.0,
  ridge: np.ndarray | float = 0.0,
  towards: np.ndarray | float = 0.0,
) -> Fit:
  """The coefficients with the least cross-entropy.

  Args:
    columns: (N, P) float, a column of ones included where wanted.
    targets: (N,) from 0 to 1.
    offset: (N,) added to the logits.
    ridge: weight, or (P,) weights, of half the squared distance to `towards`.
    towards: (P,) what the ridge draws to, and where Newton starts.

  Returns:
    The fit; `converged` is False where the best coefficients are infinite.
  """
  x, t = np.asarray(columns, np.float64), np.asarray(targets, np.float64)
  towards = np.broadcast_to(np.asarray(towards, np.float64), x.shape[1:])
  ridge = np.broadcast_to(np.asarray(ridge, np.float64), towards.shape)
  w = towards.copy()

  def loss_of(w):
    z = x @ w + offset
    away = w - towards
    return (np.logaddexp(0, z) - t * z).sum() + (ridge * away) @ away / 2

  loss = loss_of(w)
  converged, hessian = False, np.eye(len(w))
  for _ in range(_STEPS):
    p = sigmoid(x @ w + offset)
    gradient = x.T @ (p - t) + ridge * (w - towards)
    hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
    try:
      step = np.linalg.solve(hessian, gradient)
    except np.linalg.LinAlgError:
      break
    # What is left to gain vanishes towards infinity too; steps do not.
    if np.abs(x @ step).max(initial=0.0) < _NEAR:
      w, converged = w - step, bool(np.isfinite(step).all())
      break
    gain = float(gradient @ step)  # twice what a full step promises
    length = 1.0
    while length > 1e-10:
      tried = loss_of(w - length * step)
      if tried <= loss - 1e-4 * length * gain:
        break
      length /= 2
    else:
      break
    w, loss = w - length * step, tried
    if np.abs(w).max(initial=0) > 1e6:
      break
  return Fit(w, hessian, converged)
