"""Answers against figures that were counted, one woman at a time."""

import dataclasses
import types

import numpy as np
import pytest

from rsna_jax import inference, schema
from rsna_jax.serve.answering import answers, loaded
from rsna_jax.stats import calibration, decision, operating, pooling

_PLATT = decision.Decision(
  calibration=calibration.Calibration(
    method='platt', pooled={'slope': 0.5, 'intercept': -1.0}
  ),
  point=operating.choose(0.3, None, []),
)
_METRICS = {
  'breast': {'n': 200, 'positives': 20, 'prevalence': 0.1},
  'decision': {
    'figures': {'sensitivity': {'value': 0.8}, 'specificity': {'value': 0.9}}
  },
}


def _loaded(target='cancer', how='mean', chosen=_PLATT, **more):
  config = types.SimpleNamespace(
    name='m',
    data=types.SimpleNamespace(target=target, name='d'),
    eval=types.SimpleNamespace(aggregate=how),
  )
  spec = types.SimpleNamespace(size=(8, 4))
  model = types.SimpleNamespace(config=config, step=3, specs=(spec,))
  fields = {
    'number': 7,
    'model': model,
    'decision': chosen,
    'learned': None,
    'reference': np.array([0.1, 0.2, 0.2, 0.4]),
    'labels': np.array([0, 0, 1, 1]),
    'metrics': _METRICS,
    'card': '',
  }
  return loaded.LoadedModel(**{**fields, **more})


def _asked(cancer, side='L', view='CC', target='cancer', said=None, id='a'):
  names = {
    'cancer': ('cancer',),
    'density': tuple(f'density_{x}' for x in schema.DENSITIES),
    'density_cancer': schema.DENSITY_CANCER_CLASSES,
  }[target]
  prediction = inference.Prediction(
    name='x',
    target=target,
    cancer=cancer,
    probabilities=dict(zip(names, said or [cancer], strict=True)),
    box=(1, 2, 3, 4),
    attributes={},
  )
  return answers.Asked(
    id=id,
    name='x',
    attributes={'laterality': side, 'view': view},
    warnings=['w'],
    prediction=prediction,
  )


def _platt(p):
  return 1 / (1 + np.exp(-(0.5 * np.log(p / (1 - p)) - 1)))


@pytest.mark.parametrize('called', [True, False])
def test_frequencies_are_those_of_counted_women(called):
  """A million women, each with a breast that is ill or called, or not."""
  ill = np.arange(1_000_000) < 100_000
  place = np.where(ill, np.arange(1_000_000), np.arange(1_000_000) - 100_000)
  positive = np.where(ill, place < 80_000, place < 90_000)
  expected = ill[positive == called].mean()
  found = answers.frequencies_answer(_METRICS, called)
  assert found['with_cancer'] == pytest.approx(1000 * expected)
  assert f'about {round(1000 * expected)} ' in found['sentence']
  assert '10 % of breasts' in found['sentence']
  assert 'validation set (200 breasts)' in found['sentence']


def test_screening_frequencies_are_at_half_a_per_cent():
  found = answers.frequencies_answer(_METRICS, True)['screening']
  # 5 of 1,000 are ill, 4 of them called; 99.5 of the 995 others, too.
  assert found['with_cancer'] == pytest.approx(1000 * 4 / (4 + 99.5))
  assert '0.5 % of breasts' in found['sentence']


def test_frequencies_without_figures_say_why():
  found = answers.frequencies_answer({}, True)
  assert found['with_cancer'] is None
  assert 'too small' in found['sentence']


def test_a_call_that_cannot_occur_has_no_frequency():
  assert answers.post_test(0.0, 1.0, 0.1, True) is None
  assert answers.post_test(1.0, 1.0, 0.1, False) == 0


@pytest.mark.parametrize(
  ('value', 'expected'), [(0.05, 0), (0.2, 50), (0.3, 75), (0.9, 100)]
)
def test_percentile_counts_ties_by_half(value, expected):
  reference = np.array([0.1, 0.2, 0.2, 0.4])
  assert answers.percentile(reference, value) == expected
  assert answers.percentile(reference[:0], value) is None


def test_a_breast_joins_raw_probabilities_and_then_calibrates():
  asked = [_asked(0.2), _asked(0.6), _asked(0.9, side='R')]
  left, right = answers.answer(_loaded(), asked, 'r')['breasts']
  assert left['n_images'] == 2
  assert left['cancer']['raw'] == pytest.approx(0.4)
  assert left['cancer']['calibrated'] == pytest.approx(_platt(0.4))
  assert left['cancer']['called'] is False
  assert right['cancer']['calibrated'] == pytest.approx(_platt(0.9))
  assert right['cancer']['called'] is True
  assert right['cancer']['threshold'] == 0.3


@pytest.mark.parametrize(
  ('how', 'expected'),
  [
    ('max', 0.8),
    ('noisy_or', 1 - 0.8 * 0.6 * 0.2),
    ('view_max', 0.8),
  ],
)
def test_a_breast_is_joined_as_the_run_joins(how, expected):
  asked = [_asked(0.2), _asked(0.4), _asked(0.8, view='MLO')]
  (breast,) = answers.answer(_loaded(how=how), asked, 'r')['breasts']
  assert breast['cancer']['raw'] == pytest.approx(expected)


def test_a_learned_aggregation_is_applied():
  weights = {'max': 1.0, 'second': 0.0, 'mean': 0.5, 'min': 0.0, 'count': 0.1}
  learned = pooling.Pooling(weights={**weights, 'intercept': -0.2})
  asked = [_asked(0.2), _asked(0.6)]
  one = _loaded(how='learned', learned=learned)
  (breast,) = answers.answer(one, asked, 'r')['breasts']
  odds = [np.log(p / (1 - p)) for p in (0.2, 0.6)]
  z = max(odds) + 0.5 * np.mean(odds) + 0.1 * np.log(2) - 0.2
  assert breast['cancer']['raw'] == pytest.approx(1 / (1 + np.exp(-z)))


def test_images_of_unknown_side_stand_alone():
  asked = [_asked(0.2, side=''), _asked(0.6, side=None), _asked(0.1)]
  found = answers.answer(_loaded(), asked, 'r')['breasts']
  assert [one['laterality'] for one in found] == [None, None, 'L']


def test_density_and_cancer_are_read_off_eight_classes():
  said = [0.05, 0.05, 0.1, 0.3, 0.2, 0.1, 0.15, 0.05]
  target = 'density_cancer'
  asked = [_asked(0.5, target=target, said=said)]
  found = answers.answer(_loaded(target=target), asked, 'r')
  density = found['images'][0]['density']
  assert [density[x] for x in 'ABCD'] == pytest.approx([0.1, 0.4, 0.3, 0.2])
  assert density['rating'] == 2
  assert found['breasts'][0]['density']['rating'] == 2
  assert found['notes'] == []


def test_the_density_of_a_breast_is_the_mean_of_its_images():
  asked = [
    _asked(None, target='density', said=[0.6, 0.4, 0.0, 0.0]),
    _asked(None, target='density', said=[0.0, 0.5, 0.5, 0.0]),
  ]
  found = answers.answer(_loaded(target='density'), asked, 'r')
  (breast,) = found['breasts']
  assert breast['density'] == pytest.approx(
    {'A': 0.3, 'B': 0.45, 'C': 0.25, 'D': 0.0, 'rating': 2}
  )
  assert breast['cancer'] is None
  assert 'nothing of cancer' in found['notes'][0]


def test_a_model_of_cancer_has_no_density_and_says_so():
  found = answers.answer(_loaded(), [_asked(0.2)], 'r')
  assert found['images'][0]['density'] is None
  assert 'density' in found['notes'][0]


def test_a_run_without_a_decision_gives_raw_probabilities_and_says_so():
  found = answers.answer(_loaded(chosen=None), [_asked(0.35)], 'r')
  cancer = found['breasts'][0]['cancer']
  assert cancer['raw'] == 0.35
  assert cancer['calibrated'] is cancer['called'] is None
  assert cancer['threshold'] is None
  assert cancer['percentile'] == 75
  assert found['breasts'][0]['frequencies'] is None
  assert any('calibration' in note for note in found['notes'])


def test_every_answer_says_what_it_is_not_for():
  found = answers.answer(_loaded(), [_asked(0.2)], 'r')
  assert found['notice'] == 'Research use only, not a medical device.'
  assert found['request_id'] == 'r'
  assert found['model']['number'] == 7


def test_unknown_metadata_stays_unknown():
  asked = _asked(0.2, side='', view='')
  asked = dataclasses.replace(
    asked, attributes={'age': float('nan'), 'implant': -1, 'view': ''}
  )
  image = answers.image_answer(_loaded(), asked)
  known = [image[x] for x in ('laterality', 'view', 'age', 'implant')]
  assert known == [None] * 4
