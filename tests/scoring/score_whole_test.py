"""What metrics.json says beyond the figures: decisions, groups, faults."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import aggregate, errors, metrics
from rsna_jax.scoring import score, scored_sets
from rsna_jax.stats import calibration, decision


def example(patients=500, seed=0, sharper=1.0, worse=None):
  """Two breasts of two images a patient, in the columns of a table."""
  rng = np.random.default_rng(seed)
  n = patients * 4
  patient = np.repeat(np.arange(patients), 4)
  side = np.tile(['L', 'L', 'R', 'R'], patients)
  names = np.array([f'{x}_{y}' for x, y in zip(patient, side, strict=True)])
  cancer = np.repeat((rng.random(patients * 2) < 0.25).astype(int), 2)
  machine = np.repeat(rng.integers(1, 4, patients), 4)
  signal = np.where(machine == worse, 0.0, 1.5)
  z = rng.normal(size=n) + signal * cancer - 1.8
  return {
    'image_id': np.arange(n),
    'patient_id': patient,
    'prediction_id': names,
    'laterality': side,
    'view': np.tile(['CC', 'MLO'], patients * 2),
    'site_id': np.repeat(rng.integers(1, 3, patients), 4),
    'machine_id': machine,
    'invasive': cancer * np.repeat(rng.integers(0, 2, patients * 2), 2),
    'difficult_negative_case': (1 - cancer)
    * np.repeat(rng.integers(0, 2, patients * 2), 2),
    'label': cancer,
    'probability': 1 / (1 + np.exp(-sharper * z)),
  }


def breasts_of(images, how='mean'):
  return aggregate.breasts(
    images['prediction_id'],
    images['patient_id'],
    images['probability'],
    images['label'],
    how=how,
    extra={'site_id': images['site_id'], 'machine_id': images['machine_id']},
  )


def test_the_decision_out_of_fold_is_counted_and_made_again_for_others():
  images = example(sharper=2.0)
  found = score.score(
    images, bootstrap=40, calibration='platt', rule='sensitivity=0.9', seed=3
  )
  json.dumps(found, allow_nan=False)
  said = found['decision']
  b = breasts_of(images)
  calibrated, called, applied = decision.cross_fit(
    b['label'],
    b['cancer'],
    b['patient_id'],
    method='platt',
    rule='sensitivity=0.9',
    seed=3,
  )
  (tn, fp), (fn, tp) = sk.confusion_matrix(b['label'], called)
  assert said['counts'] == {'tp': tp, 'fp': fp, 'fn': fn, 'tn': tn}
  assert said['applied'] == applied
  assert said['chosen_on'].startswith('out of fold')
  for name, value in {
    'f1': sk.f1_score(b['label'], called),
    'sensitivity': sk.recall_score(b['label'], called),
    'specificity': sk.recall_score(1 - b['label'], ~called),
    'ppv': sk.precision_score(b['label'], called),
    'npv': tn / (tn + fn),
    'recall_rate': called.mean(),
  }.items():
    one = said['figures'][name]
    assert one['value'] == pytest.approx(value, abs=1e-12)
    assert one['low'] <= value <= one['high']
  rare = said['at_screening_prevalence']
  s, r = (said['figures'][x]['value'] for x in ('sensitivity', 'specificity'))
  assert rare['ppv'] == pytest.approx(s * 0.005 / (s * 0.005 + (1 - r) * 0.995))
  made = decision.Decision.from_json(said['for_others'])
  threshold = made.point.threshold
  assert threshold['low'] <= threshold['value'] <= threshold['high']
  again = score.score(images, bootstrap=0, decision=made)['decision']
  assert again['chosen_on'].startswith('given')
  assert again['counts']['tp'] / b['label'].sum() >= 0.9
  assert again['for_others'] == said['for_others']
  after = found['calibration']['after']
  assert after['brier']['value'] == pytest.approx(
    sk.brier_score_loss(b['label'], calibrated), abs=1e-12
  )


def test_planted_miscalibration_is_measured_and_mended():
  images = example(patients=1_500, sharper=2.0)
  # Sharpen what is calibrated, so that the truth is a slope of 0.5.
  fitted = calibration.fit(
    images['label'], images['probability'], method='platt'
  )
  p = calibration.apply(fitted, images['probability'])
  z = np.log(p / (1 - p))
  one = images['view'] == 'CC'  # one image a breast: the mean is that image
  images = {name: x[one] for name, x in images.items()}
  images['probability'] = 1 / (1 + np.exp(-2 * z[one]))
  found = score.score(images, bootstrap=30, calibration='temperature')
  before, after = (found['calibration'][x] for x in ('before', 'after'))
  assert before['slope']['low'] < 0.5 < before['slope']['high'] < 0.8
  assert after['slope']['low'] < 1 < after['slope']['high']
  assert after['ece']['value'] < 0.5 * before['ece']['value']
  assert sum(x['n'] for x in after['bins']) == found['breast']['n']


def test_expected_pf1_is_that_of_the_three_forms():
  found = score.score(example(), bootstrap=40, calibration='platt', rule='pf1')
  forms = found['expected_pf1']
  # Sums over resamples may be added in another order, and differ in the last
  # bit.
  assert forms['raw'] == pytest.approx(found['breast']['pf1'])
  assert forms['thresholded'] == pytest.approx(
    found['decision']['figures']['f1']
  )
  for one in forms.values():
    assert one['low'] < one['value'] < one['high']


def test_a_planted_failure_of_a_machine_is_found_and_warned_of():
  found = score.score(example(worse=2), bootstrap=200)
  by = {(x['column'], x['value']): x for x in found['subgroups']}
  assert 'roc_auc' in by['machine_id', '2']['warning']
  assert 'lies below the whole' in by['machine_id', '2']['warning']
  assert not by['machine_id', '1']['warning']
  tests = {x['column']: x for x in found['heterogeneity']}
  assert tests['machine_id']['p'] < 1e-4
  assert tests['machine_id']['lowest']['value'] == '2'
  assert tests['machine_id']['lowest']['low'] > 0.1
  assert tests['site_id']['p'] > 0.001
  assert min(tests.values(), key=lambda x: x['p'])['column'] == 'machine_id'


def test_groups_have_the_figures_of_their_rows():
  images = example()
  found = score.score(images, bootstrap=60)
  b = breasts_of(images)
  _, called, _ = decision.cross_fit(b['label'], b['cancer'], b['patient_id'])
  for group in found['subgroups']:
    if group['column'] != 'machine_id':
      continue
    rows = b['machine_id'] == int(group['value'])
    y, p, c = b['label'][rows], b['cancer'][rows], called[rows]
    for name, value in (
      ('roc_auc', sk.roc_auc_score(y, p)),
      ('sensitivity', c[y == 1].mean()),
      ('specificity', 1 - c[y == 0].mean()),
      ('calibration_in_the_large', y.mean() - p.mean()),
    ):
      assert group[name]['value'] == pytest.approx(value, abs=1e-12), name
      assert group[name]['low'] < value < group[name]['high']
    assert group['patients'] == len(np.unique(b['patient_id'][rows]))


def test_kinds_of_cancers_and_of_healthy_breasts_face_all_of_the_other_class():
  images = example()
  found = score.score(images, bootstrap=0)
  by = {(x['column'], x['value']): x for x in found['subgroups']}
  y, p = breasts_of(images)['label'], breasts_of(images)['cancer']
  first = np.unique(images['prediction_id'], return_index=True)[1]
  invasive = images['invasive'][np.sort(first)]
  hard = images['difficult_negative_case'][np.sort(first)]
  for value in (0, 1):
    group = by['invasive', str(value)]
    own = (y == 1) & (invasive == value)
    assert group['n'] == group['positives'] == own.sum()
    rows = own | (y == 0)
    assert group['roc_auc']['value'] == pytest.approx(
      sk.roc_auc_score(y[rows], p[rows]), abs=1e-12
    )
    assert group['specificity'] is None
    group = by['difficult_negative_case', str(value)]
    own = (y == 0) & (hard == value)
    assert (group['n'], group['positives']) == (own.sum(), 0)
    rows = own | (y == 1)
    assert group['roc_auc']['value'] == pytest.approx(
      sk.roc_auc_score(y[rows], p[rows]), abs=1e-12
    )
    assert group['sensitivity'] is None


def test_patients_are_a_level_of_their_own():
  images = example()
  found = score.score(images, bootstrap=20)['patient']
  b = breasts_of(images)
  ids = np.unique(b['patient_id'])
  y = np.array([b['label'][b['patient_id'] == x].max() for x in ids])
  p = np.array([b['cancer'][b['patient_id'] == x].max() for x in ids])
  assert found['n'] == 500
  assert found['roc_auc']['value'] == pytest.approx(
    sk.roc_auc_score(y, p), abs=1e-12
  )
  assert found['partial_auc_10']['value'] == pytest.approx(
    sk.roc_auc_score(y, p, max_fpr=0.1), abs=1e-12
  )


def test_delong_stands_beside_the_bootstrap_and_agrees():
  found = score.score(example(), bootstrap=500)
  for level in ('breast', 'image', 'patient'):
    one = found[level]['roc_auc']
    other = found[level]['roc_auc_delong']['by_patient']
    assert other['value'] == pytest.approx(one['value'], abs=1e-12)
    assert other['low'] == pytest.approx(one['low'], abs=0.006)
    assert other['high'] == pytest.approx(one['high'], abs=0.006)


@pytest.mark.parametrize('how', ['noisy_or', 'view_max', 'learned'])
def test_each_aggregation_is_scored(how):
  images = example()
  found = score.score(images, bootstrap=0, aggregate=how)
  assert found['breast']['roc_auc']['value'] > 0.8
  assert (found['learned'] is None) == (how != 'learned')
  if how == 'noisy_or':
    b = breasts_of(images, 'noisy_or')
    assert found['breast']['pf1']['value'] == pytest.approx(
      metrics.pf1(b['label'], b['cancer']), abs=1e-12
    )
  quick = scored_sets.breast_scores(
    {**images, 'cancer': images['label']}, images['probability'], how=how
  )
  if how != 'learned':
    assert quick['roc_auc'] == pytest.approx(
      found['breast']['roc_auc']['value'], abs=1e-12
    )


def test_sites_decide_for_themselves_if_asked():
  found = score.score(
    example(), bootstrap=0, calibration='platt', rule='pf1', per_site=True
  )['decision']
  assert found['per_site']
  for part in ('calibration', 'operating_point'):
    assert set(found['for_others'][part]['sites']) == {'1', '2'}


def test_data_that_define_no_decision_say_why_and_the_rest_is_there():
  images = example(patients=20)
  images['label'] = np.zeros(80, int)
  found = score.score(images, bootstrap=10, calibration='platt')
  json.dumps(found, allow_nan=False)
  assert 'it needs both classes' in found['decision']['note']
  assert found['decision']['figures'] is None
  assert found['calibration'] is None
  assert found['breast']['brier'] is not None


def test_one_patient_with_cancer_gives_figures_without_intervals():
  images = example(patients=60)
  ill = images['patient_id'][images['label'] == 1][0]
  images['label'] = images['label'] * (images['patient_id'] == ill)
  found = score.score(images, bootstrap=50)
  for level in ('breast', 'image', 'patient'):
    assert found[level]['roc_auc']['value'] is not None
    assert found[level]['roc_auc']['low'] is None
    assert found[level]['roc_auc_delong']['by_patient']['low'] is None


def test_constant_scores_are_chance():
  images = example(patients=60)
  images['probability'] = np.full(240, 0.3)
  found = score.score(images, bootstrap=10, rule='recall_rate=0.1')
  json.dumps(found, allow_nan=False)
  assert found['breast']['roc_auc']['value'] == 0.5
  assert found['breast']['partial_auc_10']['value'] == pytest.approx(0.5)
  assert 'shared by' in found['decision']['note']


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'probability': np.full(8, np.nan)}, 'prediction_id 0_L: .* is NaN'),
    ({'probability': np.full(8, 1.2)}, r'probability 1\.2 is not from 0 to 1'),
    ({'image_id': np.zeros(8, int)}, 'image_id 0 occurs more than once'),
    ({'label': np.arange(8) % 2}, '0_L: cancer is 0 for one image'),
  ],
)
def test_unusable_predictions_are_named_in_one_line(change, said):
  images = {name: x[:8] for name, x in example(patients=2).items()}
  with pytest.raises(errors.DataError, match=said) as caught:
    score.score({**images, **change})
  assert '\n' not in str(caught.value)


def test_an_empty_split_is_named():
  images = {name: x[:0] for name, x in example(patients=2).items()}
  with pytest.raises(errors.DataError, match='the split is empty'):
    score.score(images)


def test_rules_and_methods_that_are_none_are_refused():
  images = example(patients=30)
  with pytest.raises(errors.ConfigError, match="'spline'"):
    score.score(images, bootstrap=0, calibration='spline')
  with pytest.raises(errors.ConfigError, match='recall_rate=2'):
    score.score(images, bootstrap=0, rule='recall_rate=2')
  with pytest.raises(errors.ConfigError, match="'median'"):
    score.score(images, bootstrap=0, aggregate='median')


def test_what_lies_outside_is_clipped_if_asked():
  images = example(patients=60)
  far = images['probability'] * 1.5 - 0.2
  found = score.score({**images, 'probability': far}, bootstrap=0, clip=True)
  same = score.score({**images, 'probability': np.clip(far, 0, 1)}, bootstrap=0)
  assert found == same
