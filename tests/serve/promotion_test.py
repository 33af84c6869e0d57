"""The gate, from predictions alone."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics

from rsna_jax import errors
from rsna_jax.serve.learning import contradiction, promotion

_RULE = promotion.Rule(resamples=500)


def _cases(seed, old, new, patients=60, each=2, labels=None):
  """Cases of a normal model: the means of positives are `old` and `new`."""
  chance = np.random.default_rng(seed)
  label = np.arange(patients) % 2 if labels is None else labels
  label = np.repeat(label, each)
  shared = chance.standard_normal(patients * each)
  own = chance.standard_normal((2, patients * each))
  scores = [
    0.8 * shared + 0.6 * noise + mean * label
    for noise, mean in zip(own, (old, new), strict=True)
  ]
  probabilities = [1 / (1 + np.exp(-(x - old / 2))) for x in scores]
  return promotion.Cases(
    labels=label,
    patients=np.repeat(np.arange(patients), each),
    old=probabilities[0],
    new=probabilities[1],
  )


def _decide(original, submissions, **more):
  return promotion.decide(
    {'cancer': original}, {'cancer': submissions}, rule=_RULE, **more
  )


def test_better_on_submissions_and_no_worse_on_the_original_is_promoted():
  original, ours = _cases(0, 2.0, 2.1, 200), _cases(1, 0.5, 2.0)
  found = _decide(original, ours)
  assert found.promote
  assert found.reason.startswith('Promoted: on the submissions the AUC')
  assert 'within the margin of 0.02' in found.reason
  figure = found.scores['submissions']['cancer']['figures']['roc_auc']
  for which in ('old', 'new'):
    assert figure[which] == pytest.approx(
      sklearn.metrics.roc_auc_score(ours.labels, getattr(ours, which))
    )
  assert figure['difference']['value'] == pytest.approx(
    figure['new'] - figure['old']
  )
  json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_worse_on_the_original_is_refused_however_good_on_submissions():
  found = _decide(_cases(0, 2.0, 1.2, 200), _cases(1, 0.5, 3.0))
  assert not found.promote
  assert 'on the original validation set the AUC' in found.reason
  assert found.reason.count('. ') == 0 and found.reason.endswith('.')


def test_what_is_not_known_to_be_within_the_margin_is_refused():
  """Equal on average, but so few cases that it may be far worse."""
  few = _cases(3, 1.0, 1.0, 16)
  found = _decide(few, _cases(1, 0.5, 3.0))
  gap = found.scores['original']['cancer']['figures']['roc_auc']['difference']
  assert gap['low'] < -0.02 < gap['high']
  assert not found.promote and 'it may be worse' in found.reason
  wide = dataclasses.replace(_RULE, margin=-gap['low'] + 1e-6)
  again = promotion.decide(
    {'cancer': few}, {'cancer': _cases(1, 0.5, 3.0)}, rule=wide
  )
  assert again.promote


def test_noise_on_the_submissions_is_no_gain():
  found = _decide(_cases(0, 2.0, 2.1, 200), _cases(2, 1.5, 1.6, 30))
  assert not found.promote and 'not known to be better' in found.reason


def test_the_same_model_again_is_not_promoted():
  same = _cases(0, 1.5, 1.5, 100)
  same = dataclasses.replace(same, new=same.old)
  found = _decide(same, same)
  assert not found.promote and 'not known to be better' in found.reason


@pytest.mark.parametrize(
  ('ill', 'said'), [(9, '9 patients'), (91, '9 without')]
)
def test_too_few_patients_of_a_kind_are_counted(ill, said):
  labels = (np.arange(100) < ill).astype(int)
  ours = _cases(1, 0.5, 3.0, 100, labels=labels)
  found = _decide(_cases(0, 2.0, 2.1, 200), ours)
  assert not found.promote
  assert said in found.reason and 'takes 10 of each' in found.reason
  assert promotion.too_few(ours.labels, ours.patients, _RULE)
  enough = (np.arange(100) < 10).astype(int)
  assert promotion.too_few(enough, np.arange(100), _RULE) is None
  # Images of one patient are one patient.
  assert promotion.too_few(enough, np.arange(100) // 2, _RULE)


def test_an_empty_side_is_refused():
  found = promotion.decide({'cancer': _cases(0, 1, 1)}, {}, rule=_RULE)
  assert not found.promote and 'is empty' in found.reason
  found = promotion.decide({}, {'cancer': _cases(1, 0.5, 3.0)}, rule=_RULE)
  assert not found.promote and 'no labels' in found.reason


def test_an_original_set_of_one_class_cannot_tell():
  one = _cases(0, 2.0, 2.0, labels=np.zeros(60, int))
  found = _decide(one, _cases(1, 0.5, 3.0))
  assert not found.promote and 'cannot tell' in found.reason


def test_unknown_labels_count_for_nothing():
  ours = _cases(1, 0.5, 2.0)
  labels = ours.labels.copy()
  labels[:10] = -1
  masked = dataclasses.replace(ours, labels=labels)
  short = promotion.Cases(
    **{
      name: getattr(ours, name)[10:]
      for name in ('labels', 'patients', 'old', 'new')
    }
  )
  original = _cases(0, 2.0, 2.1, 200)
  assert (
    _decide(original, masked).scores['submissions']
    == _decide(original, short).scores['submissions']
  )


def test_density_may_not_be_worse_beyond_noise_and_does_not_decide_the_gain():
  good, bad = _cases(0, 2.0, 2.1, 200), _cases(5, 2.0, 1.0, 200)
  gain, loss = _cases(1, 0.5, 2.0), _cases(6, 2.5, 0.2)
  decide = promotion.decide
  assert decide(
    {'cancer': good, 'dense': good}, {'cancer': gain, 'dense': good}, rule=_RULE
  ).promote
  found = decide(
    {'cancer': good, 'dense': bad}, {'cancer': gain, 'dense': good}, rule=_RULE
  )
  assert not found.promote and 'dense breasts' in found.reason
  # What a few cases cannot tell is not held against the model.
  few = _cases(8, 1.0, 1.1, 16)
  promoted = decide(
    {'cancer': good, 'dense': few}, {'cancer': gain, 'dense': good}, rule=_RULE
  )
  figure = promoted.scores['original']['dense']['figures']['roc_auc']
  assert figure['difference']['value'] < -0.02
  assert figure['difference']['high'] > 0
  assert promoted.promote
  found = decide(
    {'cancer': good, 'dense': good}, {'cancer': gain, 'dense': loss}, rule=_RULE
  )
  assert not found.promote and 'it is worse' in found.reason
  # A model of density alone is judged by it.
  assert decide({'dense': good}, {'dense': gain}, rule=_RULE).promote
  with pytest.raises(errors.ConfigError, match='birads'):
    decide({'birads': good}, {'cancer': gain}, rule=_RULE)


def test_ranks_are_of_raw_and_losses_of_calibrated_probabilities():
  ours = _cases(1, 0.5, 2.0)
  squeezed = 0.5 + (ours.new - 0.5) / 10
  found = _decide(
    _cases(0, 2.0, 2.1, 200),
    dataclasses.replace(ours, new_calibrated=squeezed),
  )
  figures = found.scores['submissions']['cancer']['figures']
  assert figures['brier']['new'] == pytest.approx(
    sklearn.metrics.brier_score_loss(ours.labels, squeezed)
  )
  assert figures['log_loss']['old'] == pytest.approx(
    sklearn.metrics.log_loss(ours.labels, ours.old)
  )
  assert figures['roc_auc']['new'] == pytest.approx(
    sklearn.metrics.roc_auc_score(ours.labels, ours.new)
  )


def test_labels_that_contradict_beyond_chance_are_refused_by_name():
  original, ours = _cases(0, 2.0, 2.1, 200), _cases(1, 0.5, 2.0)
  who = contradiction.Suspicion(
    contributors=('eve', 'mallory'),
    cases=40,
    p=0.004,
    agreement=0.3,
    others=0.8,
  )
  found = _decide(original, ours, suspicion=who)
  assert not found.promote
  assert 'labels of 2 contributors (eve, mallory)' in found.reason
  assert '30% of theirs, 40 images, and to 80% of the others' in found.reason
  usual = dataclasses.replace(who, p=0.2)
  assert _decide(original, ours, suspicion=usual).promote
  off = dataclasses.replace(_RULE, contradiction=0.0)
  assert promotion.decide(
    {'cancer': original}, {'cancer': ours}, who, off
  ).promote


def test_a_useless_model_is_hardly_ever_promoted():
  """Of models that are as good as the old one, at most the level passes."""
  rule = promotion.Rule(resamples=200, margin=0.2)
  passed = sum(
    promotion.decide(
      {'cancer': _cases(1000 + i, 1.5, 1.5, 60)},
      {'cancer': _cases(2000 + i, 1.5, 1.5, 60)},
      rule=rule,
    ).promote
    for i in range(120)
  )
  # 2.5 % are expected by the interval's upper tail: 3 of 120.
  assert passed <= 9
