import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax.stats import multiclass

EXACT = 1e-12


def cases(classes):
  rng = np.random.default_rng(classes)
  for n in (1, 5, 40, 500):
    labels = rng.integers(0, classes, n)
    right = rng.random(n) < 0.5
    yield labels, np.where(right, labels, rng.integers(0, classes, n))
  # Classes that never occur, and one that is only predicted.
  yield np.array([0, 0, 1]), np.array([0, 2, 1])


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('classes', [4, 8])
def test_figures_equal_scikit_learn(classes):
  for labels, predicted in cases(classes):
    matrix = multiclass.confusion(labels, predicted, classes)
    np.testing.assert_array_equal(
      matrix,
      sk.confusion_matrix(labels, predicted, labels=np.arange(classes)),
    )
    assert multiclass.accuracy(matrix) == pytest.approx(
      sk.accuracy_score(labels, predicted), abs=EXACT
    )
    assert multiclass.macro_f1(matrix) == pytest.approx(
      sk.f1_score(labels, predicted, average='macro', zero_division=0),
      abs=EXACT,
    )
    np.testing.assert_allclose(
      multiclass.quadratic_kappa(matrix),
      sk.cohen_kappa_score(
        labels, predicted, labels=np.arange(classes), weights='quadratic'
      ),
      atol=EXACT,
    )
    for power, weights in ((0, None), (1, 'linear')):
      np.testing.assert_allclose(
        multiclass.kappa(matrix, power),
        sk.cohen_kappa_score(
          labels, predicted, labels=np.arange(classes), weights=weights
        ),
        atol=EXACT,
      )
    half = classes // 2
    np.testing.assert_allclose(
      multiclass.dense_kappa(matrix),
      sk.cohen_kappa_score(labels >= half, predicted >= half),
      atol=EXACT,
    )
    assert multiclass.ordinal_mae(matrix) == pytest.approx(
      sk.mean_absolute_error(labels, predicted), abs=EXACT
    )
    found = multiclass.recalls(matrix)
    true = np.unique(labels)
    np.testing.assert_allclose(
      found[true],
      sk.recall_score(labels, predicted, labels=true, average=None),
      atol=EXACT,
    )
    assert np.isnan(np.delete(found, true)).all()


def test_a_stack_of_matrices_gives_a_stack_of_figures():
  rng = np.random.default_rng(0)
  stack = rng.integers(0, 9, (5, 4, 4))
  for name, found in multiclass.figures(stack).items():
    one_by_one = [multiclass.figures(matrix)[name] for matrix in stack]
    np.testing.assert_allclose(found, one_by_one, atol=EXACT)


def test_figures_of_nothing_are_nan():
  empty = multiclass.confusion([], [], 4)
  for name, value in multiclass.figures(empty).items():
    assert np.isnan(value).all(), name
