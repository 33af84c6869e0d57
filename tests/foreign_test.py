import csv
import json

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import cli, errors, foreign, schema

_HEADER = (
  'site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,'
  'BIRADS,implant,density,machine_id,difficult_negative_case'
)


def _labels(path, patients=30):
  """Two images of both breasts of each patient; every third has a cancer."""
  rows = [_HEADER]
  for patient in range(1, patients + 1):
    for side in 'LR':
      for k, view in enumerate(('CC', 'MLO')):
        image = patient * 10 + 2 * (side == 'R') + k
        cancer = int(patient % 3 == 0 and side == 'L')
        density = 'ABCD'[patient % 4]
        rows.append(
          f'1,{patient},{image},{side},{view},50,{cancer},0,0,,0,{density},49,'
          'False'
        )
  path.write_text('\n'.join(rows) + '\n')
  return path


def _read(path):
  with path.open() as file:
    return list(csv.DictReader(file))


def _scores(labels, seed=0):
  chance = np.random.default_rng(seed)
  return {
    row['image_id']: round(
      float(chance.random() * 0.7 + 0.3 * int(row['cancer'])), 3
    )
    for row in _read(labels)
  }


def _write(path, header, rows):
  path.write_text(
    '\n'.join([header, *(','.join(map(str, row)) for row in rows)]) + '\n'
  )
  return path


@pytest.fixture
def labels(tmp_path):
  return _labels(tmp_path / 'train.csv')


@pytest.fixture
def said(tmp_path, labels):
  return _write(tmp_path / 'p.csv', 'image_id,cancer', _scores(labels).items())


def test_predictions_of_images_in_any_order_are_judged_as_breasts(
  tmp_path, labels, said
):
  rows = _read(said)[::-1]
  _write(said, 'cancer,image_id', [(r['cancer'], r['image_id']) for r in rows])
  found = foreign.evaluate(said, labels, tmp_path / 'out', bootstrap=20)
  scores, breasts = _scores(labels), {}
  for row in _read(labels):
    name = f'{row["patient_id"]}_{row["laterality"]}'
    one = breasts.setdefault(name, (int(row['cancer']), []))
    one[1].append(scores[row['image_id']])
  y = [label for label, _ in breasts.values()]
  p = [np.mean(values) for _, values in breasts.values()]
  level = found.metrics['breast']
  assert (level['n'], level['positives'], level['patients']) == (60, 10, 30)
  assert level['roc_auc']['value'] == pytest.approx(sk.roc_auc_score(y, p))
  assert found.metrics['image']['n'] == 120
  written = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
  assert written['breast'] == level
  assert (tmp_path / 'out' / 'report.html').is_file()
  for row in _read(tmp_path / 'out' / 'breasts.csv'):
    label, values = breasts[row['prediction_id']]
    assert float(row['cancer']) == pytest.approx(np.mean(values), abs=1e-12)
    assert int(row['label']) == label


def test_predictions_of_breasts_have_no_figures_of_images(tmp_path, labels):
  of_images = foreign.evaluate(
    _write(tmp_path / 'i.csv', 'image_id,cancer', _scores(labels).items()),
    labels,
    bootstrap=20,
    write=False,
  )
  rows = zip(
    of_images.breasts['prediction_id'], of_images.breasts['cancer'], strict=True
  )
  said = _write(tmp_path / 'b.csv', 'prediction_id,cancer', rows)
  found = foreign.evaluate(said, labels, tmp_path / 'out', bootstrap=20)
  assert found.metrics['breast'] == of_images.metrics['breast']
  assert found.metrics['image'] is None
  with pytest.raises(errors.ConfigError, match='no images to join'):
    foreign.evaluate(said, labels, aggregate='max', write=False)


def test_labels_need_few_columns_and_keep_their_line_numbers(tmp_path, said):
  full = _read(_labels(tmp_path / 'full.csv'))
  few = _write(
    tmp_path / 'few.csv',
    'image_id,prediction_id,cancer',
    [
      (r['image_id'], f'{r["patient_id"]}_{r["laterality"]}', r['cancer'])
      for r in full
    ],
  )
  first = foreign.evaluate(
    said, tmp_path / 'full.csv', bootstrap=0, write=False
  )
  second = foreign.evaluate(said, few, bootstrap=0, write=False)
  assert first.metrics['breast'] == second.metrics['breast']
  lines = few.read_text().splitlines()
  lines[5:5] = ['', '']
  lines[9] = lines[9][:-1] + 'maybe'
  few.write_text('\n'.join(lines))
  with pytest.raises(errors.DataError, match=r"few.csv:10: cancer='maybe'"):
    foreign.evaluate(said, few, write=False)


def test_columns_of_classes_are_judged_beside_cancer(tmp_path, labels):
  chance = np.random.default_rng(1)
  rows, right = [], 0
  for row in _read(labels):
    p = chance.dirichlet(np.ones(8))
    true = 2 * 'ABCD'.index(row['density']) + int(row['cancer'])
    right += p.argmax() == true
    rows.append([row['image_id'], *p])
  header = ','.join(['image_id', *schema.DENSITY_CANCER_CLASSES])
  said = _write(tmp_path / 'p.csv', header, rows)
  found = foreign.evaluate(said, labels, bootstrap=0, write=False).metrics
  assert found['target'] == 'density_cancer'
  assert found['classes']['accuracy']['value'] == pytest.approx(right / 120)
  y = [int(row['cancer']) for row in _read(labels)]
  cancer = [sum(row[2::2]) for row in rows]
  assert found['image']['roc_auc']['value'] == pytest.approx(
    sk.roc_auc_score(y, cancer)
  )


def test_constant_scores_have_an_auc_of_a_half_and_a_note(tmp_path, labels):
  rows = [(image, 0.3) for image in _scores(labels)]
  said = _write(tmp_path / 'p.csv', 'image_id,cancer', rows)
  found = foreign.evaluate(said, labels, bootstrap=20, write=False)
  assert found.metrics['breast']['roc_auc']['value'] == 0.5
  assert found.metrics['notes'] == found.notes
  assert 'every prediction is 0.3' in foreign.text(found)


def test_a_subset_is_judged_when_asked_for_and_said(tmp_path, labels, said):
  rows = [(r['image_id'], r['cancer']) for r in _read(said)]
  _write(said, 'image_id,cancer', [*rows[:-5], (999999, 0.5)])
  found = foreign.evaluate(said, labels, subset=True, bootstrap=0, write=False)
  assert found.metrics['breast']['n'] == 58
  assert found.metrics['image']['n'] == 115
  assert found.notes == [
    'left out: 1 of 116 predictions are not in the labels',
    'left out: 5 of 120 labelled images have no prediction',
    '1 breasts are judged by a part of their images',
  ]


def test_a_threshold_of_other_data_makes_the_calls(tmp_path, labels, said):
  found = foreign.evaluate(
    said, labels, threshold=0.5, bootstrap=0, write=False
  )
  called = found.breasts['cancer'] >= 0.5
  assert found.breasts['called'].tolist() == called.astype(int).tolist()
  assert found.metrics['decision']['counts']['tp'] == int(
    (called & (found.breasts['label'] == 1)).sum()
  )


def _change(at, text):
  def change(said, labels):
    lines = said.read_text().splitlines()
    lines[at] = text
    said.write_text('\n'.join(lines) + '\n')

  return change


def _labels_change(old, new, count=-1):
  def change(said, labels):
    labels.write_text(labels.read_text().replace(old, new, count))

  return change


def _drop(said, labels):
  said.write_text('\n'.join(said.read_text().splitlines()[:-1]) + '\n')


def _empty(said, labels):
  said.write_text('')


def _only_negatives(said, labels):
  lines = labels.read_text().splitlines()
  labels.write_text('\n'.join(x.replace(',50,1,', ',50,0,') for x in lines))


def _other_patient(said, labels):
  rows = [(r['image_id'], 7, r['cancer']) for r in _read(said)]
  _write(said, 'image_id,patient_id,cancer', rows)


def _classes_that_do_not_sum(said, labels):
  classes = schema.DENSITY_CANCER_CLASSES
  rows = [[x, *[1 / 8] * 8] for x in _scores(labels)]
  rows[0][1:3] = 1, 0.25
  _write(said, ','.join(['image_id', *classes]), rows)


def _semicolons(said, labels):
  said.write_text(said.read_text().replace(',', ';'))


def _few_columns(said, labels):
  names = ('image_id', 'patient_id', 'laterality', 'cancer')
  rows = [[row[x] for x in names] for row in _read(labels)]
  _write(labels, ','.join(names), rows)


def _long_id(said, labels):
  _write(said, 'prediction_id,cancer', [('9' * 9000, 0.5)])


def _no_label(said, labels):
  for was in '01':
    _labels_change(f',50,{was},', ',50,,')(said, labels)


@pytest.mark.parametrize(
  ('change', 'options', 'words'),
  [
    (_change(3, '999999,0.5'), [], ['p.csv:4', '999999 is not in', '--subset']),
    (_drop, [], ['303 has no prediction', '1 of 120', '--subset']),
    (_change(3, '10,0.5'), [], ['p.csv:4', 'image_id=10', 'on line 2']),
    (_change(3, '12,nan'), [], ['p.csv:4', "cancer='nan'", 'NaN']),
    (_change(3, '12,'), [], ['p.csv:4', 'NaN']),
    (_change(3, '12,high'), [], ['p.csv:4', "'high'", 'not a number']),
    (_change(3, '12,1_0'), [], ['p.csv:4', 'not a number']),
    (_change(3, '12,1.5'), [], ['p.csv:4', "'1.5'", '--clip']),
    (_change(3, '12,inf'), ['--clip'], ['p.csv:4', "'inf'", 'from 0 to 1']),
    (_change(3, '12'), [], ['p.csv:4', '1 fields: give 2']),
    (_classes_that_do_not_sum, [], ['p.csv:2', 'sum to 2', '1 rows']),
    (_long_id, [], ['p.csv:2', 'prediction_id=', 'as in 10008_L']),
    (_no_label, [], ['no predicted row has a label']),
    (None, ['--threshold', 'nan'], ['threshold nan', 'from 0 to 1']),
    (None, ['--bootstrap', '9' * 12], ['bootstrap=9', 'at most']),
    (None, ['--out', ''], ['--out is empty']),
    (_change(0, 'image_id,score'), [], ['no column cancer']),
    (_change(0, 'name,cancer'), [], ['no column image_id']),
    (_semicolons, [], ['image_id;cancer', 'separated by commas']),
    (_empty, [], ['p.csv: empty']),
    (_only_negatives, [], ['all 120', 'negative', 'one class']),
    (_other_patient, [], ['patient_id', 'says']),
    (
      _labels_change('1,3,30,L,CC,50,1,', '1,3,30,L,CC,50,0,'),
      [],
      ['train.csv:', 'breast 3_L'],
    ),
    (None, ['--threshold', '1.5'], ['threshold 1.5', 'from 0 to 1']),
    (None, ['--threshold', '0.5', '--rule', 'pf1'], ['threshold', 'leave']),
    (_few_columns, ['--aggregate', 'view_max'], ['knows no view']),
    (_few_columns, ['--per-site'], ['knows no site']),
    (None, ['--aggregate', 'median'], ['median', 'noisy_or']),
    (None, ['--rule', 'luck'], ["'luck'"]),
    (None, ['--split', 'test'], ['--split', '--predictions']),
    (None, ['--workdir', 'runs/x'], ['--workdir', '--predictions']),
  ],
)
def test_bad_input_is_refused_in_one_line(
  tmp_path, labels, said, capsys, change, options, words
):
  if change:
    change(said, labels)
  out = tmp_path / 'out'
  with pytest.raises(SystemExit) as end:
    cli.main(
      [
        'evaluate',
        f'--predictions={said}',
        f'--labels={labels}',
        f'--out={out}',
        '--bootstrap=5',
        *options,
      ]
    )
  assert end.value.code == 2
  lines = capsys.readouterr().err.splitlines()
  assert len([x for x in lines if x.startswith('error: ')]) == 1
  assert not out.exists()
  assert not (tmp_path / 'p_evaluation').exists()
  for word in words:
    assert word in lines[-1], lines[-1]


@pytest.mark.parametrize(
  ('calibration', 'per_site'),
  [('platt', False), ('temperature', True), ('isotonic', False)],
)
def test_calibrated_predictions_have_a_page_of_their_own_numbers(
  tmp_path, labels, said, calibration, per_site
):
  options = {
    'calibration': calibration,
    'rule': 'pf1',
    'per_site': per_site,
    'bootstrap': 20,
  }
  found = foreign.evaluate(said, labels, tmp_path / 'out', **options)
  written = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
  assert written['decision']['calibration'] == calibration
  page = (tmp_path / 'out' / 'report.html').read_text()
  brier = found.metrics['calibration']['after']['brier']['value']
  assert f'{brier:.4f}' in page


def test_what_an_earlier_call_said_of_breasts_does_not_stay(
  tmp_path, labels, said
):
  out = tmp_path / 'out'
  foreign.evaluate(said, labels, out, bootstrap=0)
  assert (out / 'breasts.csv').is_file()
  rows = [[x, 0.25, 0.25, 0.25, 0.25] for x in _scores(labels)]
  names = ','.join(['image_id', *(f'density_{x}' for x in 'ABCD')])
  foreign.evaluate(_write(said, names, rows), labels, out, bootstrap=0)
  assert not (out / 'breasts.csv').exists()


def test_options_of_predictions_do_not_go_with_a_run(capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(['evaluate', '--workdir=x', '--threshold=0.5'])
  assert end.value.code == 2
  assert '--threshold does not go with --workdir' in capsys.readouterr().err


def test_clipping_is_done_when_asked_for(tmp_path, labels, said):
  _change(3, '12,1.5')(said, labels)
  found = foreign.evaluate(said, labels, clip=True, bootstrap=0, write=False)
  assert found.notes == ['clipped: 1 probabilities lay outside [0, 1]']
  at = found.breasts['prediction_id'].tolist().index('1_R')
  rest = _scores(labels)['13']
  assert found.breasts['cancer'][at] == pytest.approx((1 + rest) / 2)


def test_the_predictions_are_never_replaced_by_the_answer(tmp_path, labels):
  said = _write(
    tmp_path / 'breasts.csv', 'image_id,cancer', _scores(labels).items()
  )
  before = said.read_text()
  with pytest.raises(errors.ConfigError, match='choose another folder'):
    foreign.evaluate(said, labels, tmp_path)
  assert said.read_text() == before
