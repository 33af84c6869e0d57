import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import multiclass

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


def test_a_stack_of_matrices_gives_a_stack_of_figures():
  rng = np.random.default_rng(0)
  stack = rng.integers(0, 9, (5, 4, 4))
  for figure in (
    multiclass.accuracy,
    multiclass.macro_f1,
    multiclass.quadratic_kappa,
  ):
    one_by_one = [float(figure(matrix)) for matrix in stack]
    np.testing.assert_allclose(figure(stack), one_by_one, atol=EXACT)


def test_figures_of_nothing_are_nan():
  empty = multiclass.confusion([], [], 4)
  assert np.isnan(multiclass.accuracy(empty))
  assert np.isnan(multiclass.macro_f1(empty))
  assert np.isnan(multiclass.quadratic_kappa(empty))
