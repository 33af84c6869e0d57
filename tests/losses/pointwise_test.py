"""Losses of single examples against definitions in float64, and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rsna_jax.losses import pointwise


def definition(logits, labels, how, gamma=0.0, alpha=0.0):
  """-sum q (1 - p)^gamma log p for each example, one by one."""
  found = []
  for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
    if len(row) == 1:
      p = 1 / (1 + np.exp(-row[0]))
      p, q = np.array([1 - p, p]), np.eye(2)[label]
    else:
      p = np.exp(row) / np.exp(row).sum()
      q = np.eye(len(row))[label]
    positive = len(row) in (1, 8) and label % 2 == 1
    share = how.get('label_smoothing', 0.0)
    if how.get('smoothing', 'all') == 'all' or positive:
      q = q * (1 - share) + share / len(q)
    terms = q * (1 - p) ** gamma * np.log(p)
    if len(row) == 1 and alpha:
      terms = terms * [1 - alpha, alpha]
    factor = how.get('positive_weight', 1.0) if positive else 1.0
    if how.get('class_weights'):
      factor *= how['class_weights'][label]
    found.append(-terms.sum() * factor)
  return found


def some(count, n=12):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(n, count)).astype(np.float32) * 3
  return logits, rng.integers(0, max(count, 2), n).astype(np.int32)


HOW = (
  {},
  {'label_smoothing': 0.1},
  {'label_smoothing': 0.2, 'smoothing': 'positives'},
  {'positive_weight': 3.0, 'label_smoothing': 0.1},
  {'class_weights': (0.5, 2.0, 3.0, 0.0, 1.0, 1.0, 4.0, 1.5)},
)


@pytest.mark.parametrize('count', [1, 4, 8])
@pytest.mark.parametrize('how', HOW)
def test_losses_equal_their_definitions(count, how):
  logits, labels = some(count)
  found = pointwise.cross_entropy(logits, labels, **how)
  assert found.shape == (12,) and found.dtype == jnp.float32
  expected = definition(logits, labels, how)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
  found = pointwise.focal(
    logits, labels, focal_gamma=1.5, focal_alpha=0.3, **how
  )
  expected = definition(logits, labels, how, 1.5, 0.3)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_optax_gives_the_same_losses_and_slopes():
  one, labels = some(1)
  many, classes = some(4)
  weights = jnp.array([1.0, 2.0, 0.5, 3.0])
  pairs = (
    (
      lambda x: pointwise.cross_entropy(x, labels),
      lambda x: optax.sigmoid_binary_cross_entropy(x[:, 0], labels),
      one,
    ),
    (
      lambda x: pointwise.focal(x, labels, focal_gamma=3.0, focal_alpha=0.1),
      lambda x: optax.sigmoid_focal_loss(
        x[:, 0], labels.astype(np.float32), alpha=0.1, gamma=3.0
      ),
      one,
    ),
    (
      lambda x: pointwise.cross_entropy(
        x, classes, class_weights=tuple(weights.tolist())
      ),
      lambda x: (
        optax.softmax_cross_entropy_with_integer_labels(x, classes)
        * weights[classes]
      ),
      many,
    ),
    (
      lambda x: pointwise.huber(x, one[:, 0] * 0.3),
      lambda x: optax.huber_loss(x[:, 0], one[:, 0] * 0.3),
      one,
    ),
  )

  @jax.jit
  def both(logits):
    return [
      (
        ours(x),
        theirs(x),
        *(jax.grad(lambda x, f=f: f(x).sum())(x) for f in two),
      )
      for two, x in zip([pair[:2] for pair in pairs], logits, strict=True)
      for ours, theirs in [two]
    ]

  for value, value_there, slope, slope_there in both([x for *_, x in pairs]):
    np.testing.assert_allclose(value, value_there, rtol=2e-5)
    np.testing.assert_allclose(slope, slope_there, rtol=1e-4, atol=1e-6)


def test_a_softmax_is_focal_without_exponent_as_cross_entropy():
  logits, labels = some(4)
  np.testing.assert_allclose(
    pointwise.focal(logits, labels, focal_gamma=0.0),
    pointwise.cross_entropy(logits, labels),
    rtol=1e-6,
  )


def test_two_classes_as_softmax_are_focal_as_one_logit_is():
  logits, labels = some(1)
  both = np.concatenate([np.zeros_like(logits), logits], axis=1)
  np.testing.assert_allclose(
    pointwise.focal(both, labels, focal_gamma=2.0),
    pointwise.focal(logits, labels, focal_gamma=2.0, focal_alpha=0.0),
    rtol=1e-5,
  )


@pytest.mark.parametrize('count', [1, 4])
def test_large_logits_give_finite_values_and_gradients(count):
  logits = jnp.full((2, count), 1e4).at[:, 0].set(-1e4)
  labels = jnp.array([1, 1 if count == 1 else 0])  # the second is wrong
  if count == 1:
    labels = jnp.array([0, 1])

  def each(logits, gamma):
    if gamma is None:
      return pointwise.cross_entropy(logits, labels)
    return pointwise.focal(logits, labels, focal_gamma=gamma, focal_alpha=0)

  @jax.jit
  def slopes(logits):
    return [
      (
        each(logits, gamma),
        jax.grad(lambda x, g=gamma: each(x, g).sum())(logits),
      )
      for gamma in (None, 0.5, 2.0)
    ]

  for value, slope in slopes(logits):
    assert np.isfinite(value).all() and np.isfinite(slope).all()
    assert value[1] >= 1e4


def test_half_precision_is_raised_before_the_logarithm():
  logits, labels = some(4)
  low = jnp.asarray(logits, jnp.bfloat16)
  np.testing.assert_allclose(
    pointwise.cross_entropy(low, labels),
    pointwise.cross_entropy(low.astype(jnp.float32), labels),
  )
