import dataclasses
import json
import shutil

import numpy as np
import pytest

import rsna_jax
from rsna_jax import ensemble, errors, explain, inference, schema


class _Stub:
  """A model by a table: what it says of an image is in its pixels.

  A real network would say too little about which images are asked.
  """

  def __init__(self, model, column: int):
    self.config, self.spec = model.config, model.spec
    self.encoder, self.step = model.encoder, model.step
    self.column, self.asked = column, []

  def logits(self, found):
    self.asked += [one.name for one in found]
    return np.array([[one.pixels[0, self.column]] for one in found], np.float32)


@pytest.fixture(scope='module')
def model(tiny_run):
  return inference.load_model(tiny_run)


@pytest.fixture(scope='module')
def pictures(tiny_layout):
  return sorted(tiny_layout.glob('test_images/*/*.png'))


@pytest.fixture(scope='module')
def folds(tiny_run, tmp_path_factory):
  """Two runs as crossvalidate lays them out: the best and the latest step."""
  folder = tmp_path_factory.mktemp('folds')
  for k in range(2):
    shutil.copytree(tiny_run, folder / f'fold{k}')
  steps = sorted((folder / 'fold1' / 'checkpoints').iterdir())
  steps = [path for path in steps if path.name.isdecimal()]
  # The newest goes, so that the two differ.
  newest = max(steps, key=lambda path: int(path.name))
  for path in newest.parent.glob(f'{newest.name}*'):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  return folder


def test_folds_answer_with_the_mean_of_their_logits(folds, pictures):
  found = rsna_jax.load_model(folds, which='latest')
  assert isinstance(found, ensemble.Ensemble)
  one, two = (
    inference.load_model(folds / f'fold{k}', which='latest') for k in range(2)
  )
  assert one.step != two.step
  prepared = [one.prepare(path, str(path)) for path in pictures[:5]]
  expected = (one.logits(prepared) + two.logits(prepared)) / 2
  np.testing.assert_allclose(found.logits(prepared), expected, atol=1e-6)
  said = found.predict(pictures[:5])
  for prediction, logit in zip(said, expected[:, 0], strict=True):
    assert prediction.cancer == pytest.approx(1 / (1 + np.exp(-logit)))


def _write(folder, content) -> None:
  text = content if isinstance(content, str) else json.dumps(content)
  (folder / 'ensemble.json').write_text(text)


def test_a_file_names_runs_weights_and_thresholds(folds, pictures, tmp_path):
  runs = [
    {'path': str(folds / 'fold0'), 'weight': 3, 'checkpoint': 'latest'},
    {'path': '../fold1', 'weight': 1},
  ]
  folder = folds / 'weighted'
  folder.mkdir()
  _write(folder, {'runs': runs, 'average': 'probability'})
  found = rsna_jax.load_model(folder, which='latest')
  one, two = (
    inference.load_model(folds / f'fold{k}', which='latest') for k in range(2)
  )
  expected = [
    (3 * a.cancer + b.cancer) / 4
    for a, b in zip(one.predict(pictures), two.predict(pictures), strict=True)
  ]
  said = [prediction.cancer for prediction in found.predict(pictures)]
  np.testing.assert_allclose(said, expected, rtol=1e-5)


def _prepared(rows, **attributes):
  """Images of which stub k says the k-th number of a row."""
  return [
    inference.Prepared(
      str(i),
      np.array([row], np.float32),
      (0.0, 0.0, 1.0, 1.0),
      {name: values[i] for name, values in attributes.items()},
    )
    for i, row in enumerate(rows)
  ]


def test_a_cheap_model_answers_clear_negatives_alone(model):
  cheap, dear = _Stub(model, 0), _Stub(model, 1)
  chances = np.array([[0.01, 0.9], [0.2, 0.4], [0.049, 0.9], [0.05, 0.5]])
  rows = np.log(chances / (1 - chances))
  found = ensemble.Ensemble(
    [
      ensemble.Member(model=cheap, reject_below=0.0499),
      ensemble.Member(model=dear),
    ]
  )
  logits, asked = found.cascade(_prepared(rows))
  assert asked.tolist() == [1, 2, 1, 2]
  assert dear.asked == ['1', '3']
  expected = rows[:, 0].copy()
  expected[[1, 3]] = rows[[1, 3]].mean(axis=1)
  np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-5)


def test_a_threshold_of_0_is_the_plain_ensemble(model):
  chance = np.random.default_rng(0)
  rows = 20 * chance.standard_normal((50, 3))
  weights = (1.0, 2.0, 0.5)
  members = [
    ensemble.Member(model=_Stub(model, k), weight=w, reject_below=0.0)
    for k, w in enumerate(weights)
  ]
  for average in ('logit', 'probability'):
    found = ensemble.Ensemble(members, average)
    logits, asked = found.cascade(_prepared(rows))
    assert (asked == 3).all()
    said = schema.cancer_probability(logits, 'cancer')
    if average == 'logit':
      mean = (rows @ weights) / 3.5
      expected = schema.cancer_probability(mean[:, None], 'cancer')
    else:
      expected = (1 / (1 + np.exp(-rows))) @ weights / 3.5
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-7)


def test_the_images_of_a_breast_go_on_together(model):
  cheap, dear = _Stub(model, 0), _Stub(model, 1)
  rows = [[-9, 0], [0, 0], [-9, 0], [-9, 0], [-9, 0]]
  prepared = _prepared(
    rows, patient_id=[1, 1, 1, 2, None], laterality=['L', 'L', 'R', 'L', '']
  )
  found = ensemble.Ensemble(
    [
      ensemble.Member(model=cheap, reject_below=0.1),
      ensemble.Member(model=dear),
    ]
  )
  assert found.cascade(prepared)[1].tolist() == [2, 2, 1, 1, 1]


def test_a_softmax_is_averaged_whatever_constant_its_logits_have(model):
  chance = np.random.default_rng(0)
  table = chance.standard_normal((2, 6, 4)).astype(np.float32)

  class Four(_Stub):
    def __init__(self, k, offset):
      super().__init__(model, k)
      self.config = model.config.copy_and_resolve_references()
      self.config.data.target = 'density'
      self.offset = offset

    def logits(self, found):
      return table[self.column] + np.float32(self.offset)

  prepared = _prepared(np.zeros((6, 1)))
  for average in ('logit', 'probability'):
    said = [
      schema.target_probabilities(
        ensemble.Ensemble(
          [
            ensemble.Member(model=Four(0, offset), weight=2.0),
            ensemble.Member(model=Four(1, 0.0)),
          ],
          average,
        ).logits(prepared),
        'density',
      )
      for offset in (0.0, 50.0)
    ]
    np.testing.assert_allclose(said[0], said[1], rtol=1e-4)
    each = [schema.target_probabilities(one, 'density') for one in table]
    if average == 'probability':
      expected = (2 * each[0] + each[1]) / 3
    else:
      expected = np.cbrt(each[0] ** 2 * each[1])
      expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(said[0], expected, rtol=1e-4)


def test_members_get_the_pixels_of_their_own_spec(model, pictures):
  stubs = [_Stub(model, 0) for _ in range(3)]
  stubs[1].spec = dataclasses.replace(model.spec, size=(96, 40))
  seen = []
  for stub in stubs:
    stub.logits = lambda found: (
      seen.append(found[0].pixels.shape) or np.zeros((len(found), 1))
    )
  found = ensemble.Ensemble([ensemble.Member(model=s) for s in stubs])
  assert len(found.specs) == 2
  found.predict(pictures[:1])
  assert seen == [(64, 32), (96, 40), (64, 32)]


def test_the_threshold_keeps_the_share_of_positives():
  chance = np.random.default_rng(0)
  labels = chance.integers(0, 2, 400)
  said = chance.uniform(size=400)
  for keep in (1.0, 0.99, 0.9):
    threshold = ensemble.rejection_threshold(labels, said, keep)
    assert (said[labels == 1] >= threshold).mean() >= keep
    higher = np.sort(said[(labels == 1) & (said > threshold)])[0]
    assert (said[labels == 1] >= higher).mean() < keep
  with pytest.raises(errors.DataError, match='no positive'):
    ensemble.rejection_threshold([0, 0], [0.1, 0.2])


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ('{', 'not JSON'),
    ({'run': []}, 'runs'),
    ({'runs': []}, 'at least one'),
    ({'runs': ['fold0'], 'mean': 1}, 'mean'),
    ({'runs': [{'weight': 1}]}, 'path'),
    ({'runs': [{'path': 'fold0', 'weigth': 1}]}, 'weigth'),
    ({'runs': [{'path': 'fold0', 'weight': 0}]}, 'weight=0'),
    ({'runs': [{'path': 'fold0', 'weight': '1'}]}, "weight='1'"),
    ({'runs': [{'path': 'fold0', 'reject_below': 1}]}, 'reject_below=1'),
    ({'runs': [{'path': 'fold0', 'checkpoint': 'first'}]}, 'first'),
    ({'runs': ['nowhere']}, 'nowhere'),
    ({'runs': ['fold0'], 'average': 'median'}, 'median'),
  ],
)
def test_a_damaged_file_is_answered_in_one_line(content, words, folds):
  _write(folds, content)
  try:
    with pytest.raises(errors.InputError, match=words) as found:
      rsna_jax.load_model(folds)
    assert '\n' not in str(found.value)
  finally:
    (folds / 'ensemble.json').unlink()


def test_an_ensemble_has_no_single_network_to_explain(folds):
  found = rsna_jax.load_model(folds)
  with pytest.raises(errors.RunError, match='2 runs'):
    explain.check(found, 'hirescam', None)
