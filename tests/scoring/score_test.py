import json

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import errors, metrics
from rsna_jax.scoring import class_score, score, scored_sets
from rsna_jax.stats import subgroups, thresholds


def example(patients=150, seed=0, rate=0.3):
  """Two breasts of two images a patient, in the columns of a table."""
  rng = np.random.default_rng(seed)
  n = patients * 4
  patient = np.repeat(np.arange(patients), 4)
  side = np.tile(['L', 'L', 'R', 'R'], patients)
  names = np.array([f'{x}_{y}' for x, y in zip(patient, side, strict=True)])
  cancer = np.repeat((rng.random(patients * 2) < rate).astype(int), 2)
  p = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * cancer - 1)))
  return {
    'patient_id': patient,
    'prediction_id': names,
    'laterality': side,
    'view': np.tile(['CC', 'MLO'], patients * 2),
    'site_id': np.repeat(rng.integers(1, 3, patients), 4),
    'machine_id': np.full(n, 49),
    'age': np.repeat(rng.uniform(40, 80, patients), 4).astype(np.float32),
    'density': np.repeat(rng.integers(1, 5, patients), 4),
    'implant': np.full(n, -1),
    'cancer': cancer,
    'label': cancer,
    'probability': p,
  }


def breasts_of(images):
  """Mean probability and label of each breast, by a loop."""
  names = list(dict.fromkeys(images['prediction_id']))
  rows = [images['prediction_id'] == name for name in names]
  labels = np.array([images['label'][x][0] for x in rows])
  return labels, np.array([images['probability'][x].mean() for x in rows])


def test_every_figure_is_that_of_scikit_learn_on_breasts_and_on_images():
  images = example()
  found = score.score(images, bootstrap=50)
  for level, (labels, p) in {
    'breast': breasts_of(images),
    'image': (images['label'], images['probability']),
  }.items():
    said = found[level]
    assert said['n'] == len(labels)
    assert said['positives'] == labels.sum()
    assert said['patients'] == 150
    for name, expected in {
      'roc_auc': sk.roc_auc_score(labels, p),
      'average_precision': sk.average_precision_score(labels, p),
      'brier': sk.brier_score_loss(labels, p),
      'log_loss': sk.log_loss(labels, p),
      'pf1': 2 * (p * labels).sum() / (p.sum() + labels.sum()),
    }.items():
      assert said[name]['value'] == pytest.approx(expected, abs=1e-12)
      assert said[name]['low'] < expected < said[name]['high']
    assert said['pf1_all_ones'] == pytest.approx(
      sk.f1_score(labels, np.ones_like(labels))
    )


def test_a_given_threshold_is_applied_and_said_to_be_from_other_data():
  images = example()
  labels, p = breasts_of(images)
  found = score.score(images, bootstrap=20, threshold=0.45)
  best = found['breast']['pf1_best_threshold']
  assert best['value'] == pytest.approx(sk.f1_score(labels, p >= 0.45))
  assert best['low'] <= best['value'] <= best['high']
  assert (best['threshold'], best['applied']) == (0.45, [0.45])
  assert 'other data' in best['chosen_on']
  assert found['threshold']['value'] == 0.45


def test_thresholds_are_cross_fitted_by_patient_unless_given():
  images = example()
  labels, p, patient = (
    images['label'],
    images['probability'],
    images['patient_id'],
  )
  called, applied = thresholds.cross_fit(labels, p, patient, seed=4)
  # Each patient's calls follow one of the thresholds; which, tells its half.
  low, high = sorted(applied)
  assert low < high
  between = (p >= low) & (p < high)
  lenient = set(patient[between & called])
  strict = set(patient[between & ~called])
  assert lenient
  assert strict
  assert not lenient & strict
  found = score.score(images, bootstrap=0)
  best = found['breast']['pf1_best_threshold']
  assert best['chosen_on'].startswith('cross-fitted')
  assert len(best['applied']) == 2
  labels, p = breasts_of(images)
  top = max(sk.f1_score(labels, p >= t) for t in p)
  assert best['value'] < top
  assert sk.f1_score(labels, p >= best['threshold']) == pytest.approx(top)


def test_cross_fitted_f1_does_not_flatter_scores_that_know_nothing():
  """The same threshold on its own data does: F1 of noise above the floor."""
  own, honest = [], []
  for seed in range(30):
    rng = np.random.default_rng(seed)
    labels = (np.arange(200) < 10).astype(int)
    p = rng.random(200)
    called, _ = thresholds.cross_fit(labels, p, np.arange(200), seed)
    honest.append(sk.f1_score(labels, called, zero_division=0))
    own.append(metrics.best_threshold(labels, p)[1])
  floor = sk.f1_score(labels, np.ones_like(labels))
  assert np.mean(own) > 1.5 * floor
  assert np.mean(honest) < 1.2 * floor


def test_halves_share_the_few_patients_with_cancer():
  labels = (np.arange(60) < 2).astype(int)
  for seed in range(20):
    _, applied = thresholds.cross_fit(
      labels, np.linspace(0.1, 0.9, 60), np.arange(60), seed
    )
    assert np.isfinite(applied).all()


def test_unknown_labels_take_no_part():
  images = example()
  hidden = images['patient_id'] % 3 == 0
  unknown = {**images, 'label': np.where(hidden, -1, images['label'])}
  left = {name: column[~hidden] for name, column in images.items()}
  assert score.score(unknown, bootstrap=30) == score.score(left, bootstrap=30)


def test_figures_that_are_not_defined_are_null_and_the_rest_is_json():
  images = example(patients=10)
  for labels in (
    np.full(40, -1),
    np.zeros(40, int),
    np.ones(40, int),
  ):
    found = score.score({**images, 'label': labels}, bootstrap=10)
    json.dumps(found, allow_nan=False)
    assert found['breast']['roc_auc'] is None
    assert (found['breast']['pf1'] is None) == (labels[0] < 1)
    assert (found['breast']['brier'] is None) == (labels[0] < 0)
    score.text(found)


def test_subgroups_are_scored_where_there_are_enough_cases():
  images = example()
  found = {
    (x['column'], x['value']): x
    for x in score.score(images, bootstrap=30)['subgroups']
  }
  labels, p = breasts_of(images)
  site = images['site_id'][::2]
  for value in (1, 2):
    group = found['site_id', str(value)]
    assert group['level'] == 'breast'
    assert group['n'] == (site == value).sum()
    assert group['positives'] == labels[site == value].sum()
    assert group['roc_auc']['value'] == pytest.approx(
      sk.roc_auc_score(labels[site == value], p[site == value])
    )
  chosen = images['view'] == 'MLO'
  assert found['view', 'MLO']['roc_auc']['value'] == pytest.approx(
    sk.roc_auc_score(images['label'][chosen], images['probability'][chosen])
  )
  assert found['view', 'MLO']['level'] == 'image'
  assert found['machine_id', '49']['n'] == 300
  assert found['implant', 'unknown']['n'] == 300
  bands = [value for column, value in found if column == 'age']
  assert bands == list(subgroups.AGE_BANDS)
  old = np.where(images['age'][::2] >= 70)[0]
  assert found['age', '70 and over']['n'] == len(old)
  assert {v for c, v in found if c == 'density'} == set('ABCD')


def test_subgroups_with_few_cases_say_so_and_give_no_figure():
  images = example(rate=0.05)
  for group in score.score(images, bootstrap=5)['subgroups']:
    few = min(group['positives'], group['n'] - group['positives']) < 20
    assert (group['note'] == 'too few') == few
    assert (group['roc_auc'] is None) == few


@pytest.mark.parametrize('few', [19, 20])
def test_twenty_cases_of_either_class_are_enough(few):
  for labels in (np.arange(100) < few, np.arange(100) >= few):
    (group,) = subgroups.roc_aucs(
      'breast',
      'site_id',
      np.ones(100, int),
      labels.astype(int),
      np.linspace(0, 1, 100),
      np.arange(100),
      None,
    )
    assert (group['roc_auc'] is None) == (few < 20)


def test_density_alone_equals_scikit_learn():
  rng = np.random.default_rng(3)
  labels = rng.integers(-1, 4, 400)
  p = rng.dirichlet(np.ones(4), 400)
  found = class_score.score_classes(labels, p, np.arange(400), bootstrap=0)
  known = labels >= 0
  called = p[known].argmax(axis=1)
  assert found['quadratic_kappa'] == {
    'value': pytest.approx(
      sk.cohen_kappa_score(labels[known], called, weights='quadratic')
    ),
    'low': None,
    'high': None,
  }
  assert found['names'] == ['density A', 'density B', 'density C', 'density D']


def test_classes_equal_scikit_learn_and_density_is_read_off_eight():
  rng = np.random.default_rng(2)
  labels = rng.integers(-1, 8, 600)
  p = rng.dirichlet(np.ones(8), 600)
  p[np.arange(600), labels] += 0.5  # unknown ones too: they must not count
  found = class_score.score_classes(labels, p, np.arange(600) // 4)
  known = labels >= 0
  called = p[known].argmax(axis=1)
  assert found['n'] == known.sum()
  assert found['accuracy']['value'] == pytest.approx(
    sk.accuracy_score(labels[known], called)
  )
  assert found['macro_f1']['value'] == pytest.approx(
    sk.f1_score(labels[known], called, average='macro')
  )
  density = (p[known, 0::2] + p[known, 1::2]).argmax(axis=1)
  assert found['quadratic_kappa']['value'] == pytest.approx(
    sk.cohen_kappa_score(labels[known] // 2, density, weights='quadratic')
  )
  true = labels[known] // 2
  assert found['linear_kappa']['value'] == pytest.approx(
    sk.cohen_kappa_score(true, density, weights='linear')
  )
  assert found['dense_kappa']['value'] == pytest.approx(
    sk.cohen_kappa_score(true >= 2, density >= 2)
  )
  assert found['ordinal_mae']['value'] == pytest.approx(
    sk.mean_absolute_error(true, density)
  )
  assert found['density_accuracy']['value'] == pytest.approx(
    sk.accuracy_score(true, density)
  )
  assert (
    found['density_confusion'] == sk.confusion_matrix(true, density).tolist()
  )
  for one in [*found['recall_intervals'], *found['density_recall']]:
    assert one['low'] <= one['value'] <= one['high']
  for name in ('accuracy', 'macro_f1', 'quadratic_kappa', 'dense_kappa'):
    assert found[name]['low'] < found[name]['value'] < found[name]['high']
  np.testing.assert_allclose(
    found['recall'], sk.recall_score(labels[known], called, average=None)
  )
  assert (
    found['confusion'] == sk.confusion_matrix(labels[known], called).tolist()
  )


def test_classes_refuse_nan():
  with pytest.raises(errors.DataError, match='1 images have a probability'):
    class_score.score_classes(
      [0, 1], [[np.nan, 0, 0, 0], [1, 0, 0, 0]], [1, 2], bootstrap=0
    )


def test_each_target_gets_the_sections_that_it_speaks_of():
  images = example(patients=40)
  columns = {
    k: v for k, v in images.items() if k not in ('label', 'probability')
  }
  rng = np.random.default_rng(0)
  for target, k, sections in (
    ('cancer', 1, {'breast'}),
    ('density', 4, {'classes'}),
    ('density_cancer', 8, {'breast', 'classes'}),
  ):
    p = rng.random((160, 1)) if k == 1 else rng.dirichlet(np.ones(k), 160)
    found = score.score_target(columns, p, target, bootstrap=5)
    assert {'breast', 'classes'} & set(found) == sections
    assert score.text(found)
    json.dumps(found, allow_nan=False)
  malignant = p[:, 1] + p[:, 3] + p[:, 5] + p[:, 7]
  assert found['image']['roc_auc']['value'] == pytest.approx(
    sk.roc_auc_score(columns['cancer'], malignant)
  )


def test_quick_scores_are_those_of_the_breasts():
  images = example()
  found = scored_sets.breast_scores(images, images['probability'], how='mean')
  whole = score.score(images, bootstrap=0)['breast']
  for name, value in found.items():
    assert value == pytest.approx(whole[name]['value'], abs=1e-12)
  assert set(found) == {'roc_auc', 'average_precision', 'pf1'}


def test_the_seed_alone_decides():
  images = example(patients=60)
  one, again, other = (
    score.score(images, bootstrap=40, seed=s) for s in (1, 1, 2)
  )
  assert one == again
  assert one['breast']['roc_auc'] != other['breast']['roc_auc']


def test_unusable_input_is_named():
  images = example(patients=3)
  with pytest.raises(errors.ConfigError, match=r'threshold 1\.5'):
    score.score(images, threshold=1.5)
  wrong = {**images, 'label': np.arange(12) % 2}
  with pytest.raises(errors.DataError, match='prediction_id 0_L: cancer'):
    score.score(wrong)
