import csv
import json
import re
import shutil

import numpy as np
import pytest
from sklearn import metrics as sk

from rsna_jax import compare, errors, schema
from rsna_jax.scoring import compare_text
from rsna_jax.stats import delong


def _write(path, scores, labels, rows=None):
  rows = range(len(labels)) if rows is None else rows
  lines = [
    f'{i}_{"LR"[i % 2]},{i // 2},{scores[i]!r},{labels[i]}' for i in rows
  ]
  path.write_text(
    'prediction_id,patient_id,cancer,label\n' + '\n'.join(lines) + '\n'
  )
  return path


@pytest.fixture
def example():
  chance = np.random.default_rng(0)
  labels = (chance.random(400) < 0.3).astype(int)
  common = chance.normal(size=400)
  sharp = 1 / (1 + np.exp(-(common + 3 * labels - 1)))
  dull = 1 / (1 + np.exp(-(common + 0.5 * labels - 1)))
  return labels.tolist(), sharp.tolist(), dull.tolist()


def test_two_files_are_held_against_each_other(tmp_path, example):
  labels, sharp, dull = example
  first = _write(tmp_path / 'sharp.csv', sharp, labels)
  # The order of the rows is of no account.
  second = _write(tmp_path / 'dull.csv', dull, labels, range(399, -1, -1))
  out = tmp_path / 'out'
  found = compare.compare([first, second], out=out, resamples=100)
  assert found['breasts'] == 400 and found['patients'] == 200
  for one, p in zip(found['sets'], (sharp, dull), strict=True):
    figures = one['figures']
    assert figures['roc_auc']['value'] == pytest.approx(
      sk.roc_auc_score(labels, p), abs=1e-12
    )
    assert figures['average_precision']['value'] == pytest.approx(
      sk.average_precision_score(labels, p), abs=1e-12
    )
    low, value, high = (figures['f1'][x] for x in ('low', 'value', 'high'))
    assert low < value < high
  (pair,) = found['pairs']
  patients = np.arange(400) // 2
  assert pair['delong_by_patient']['p'] == pytest.approx(
    delong.difference(labels, sharp, dull, patients)['p']
  )
  assert pair['delong_by_patient']['p_holm'] == pair['delong_by_patient']['p']
  assert pair['mcnemar']['all']['first_alone'] > 0
  assert 'ROC AUC is higher of sharp.csv' in found['verdicts'][0]
  assert json.loads((out / 'compare.json').read_text()) == found
  with (out / 'compare.csv').open() as file:
    rows = list(csv.DictReader(file))
  (row,) = [
    row
    for row in rows
    if row['kind'] == 'difference' and row['figure'] == 'pf1'
  ]
  assert float(row['value']) == pair['figures']['pf1']['difference']['value']
  assert (out / 'compare.md').read_text() == compare_text.text(found) + '\n'


def test_noise_is_called_noise(tmp_path, example):
  labels, sharp, _ = example
  chance = np.random.default_rng(1)
  near = np.clip(np.array(sharp) + 0.02 * chance.normal(size=400), 0, 1)
  found = compare.compare(
    [
      _write(tmp_path / 'a.csv', sharp, labels),
      _write(tmp_path / 'b.csv', near.tolist(), labels),
    ],
    resamples=100,
  )
  assert found['verdicts'][0].startswith('a.csv and b.csv: within noise')


def test_three_sets_have_corrected_p_values(tmp_path, example):
  labels, sharp, dull = example
  chance = np.random.default_rng(2)
  paths = [
    _write(tmp_path / f'{name}.csv', scores, labels)
    for name, scores in (
      ('a', sharp),
      ('b', dull),
      ('c', chance.random(400).tolist()),
    )
  ]
  found = compare.compare(paths, resamples=50)
  assert found['correction'] == 'holm'
  assert [(x['first'], x['second']) for x in found['pairs']] == [
    ('a.csv', 'b.csv'),
    ('a.csv', 'c.csv'),
    ('b.csv', 'c.csv'),
  ]
  tests = [pair['delong_by_patient'] for pair in found['pairs']]
  assert [x['p_holm'] for x in tests] == compare.holm([x['p'] for x in tests])


def test_holm_is_that_of_an_example_by_hand():
  assert compare.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
    [0.03, 0.06, 0.06, 0.02]
  )
  assert compare.holm([0.6, None, 0.7]) == [1.0, None, 1.0]


def test_other_breasts_are_refused_or_the_common_ones_compared(
  tmp_path, example
):
  labels, sharp, dull = example
  first = _write(tmp_path / 'a.csv', sharp, labels, range(300))
  second = _write(tmp_path / 'b.csv', dull, labels, range(100, 400))
  with pytest.raises(errors.DataError, match=r'100 of 400 breasts are missing'):
    compare.compare([first, second], resamples=0)
  found = compare.compare([first, second], resamples=0, subset=True)
  assert found['breasts'] == 200
  assert found['left_out'].startswith('left out: 200 of 400')
  assert found['sets'][1]['figures']['roc_auc']['value'] == pytest.approx(
    sk.roc_auc_score(labels[100:300], dull[100:300])
  )


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (lambda a, b: [a], 'at least two'),
    (lambda a, b: [a, a], 'named twice'),
    (lambda a, b: [a, a.with_name('no.csv')], 'no such run and no such file'),
    (lambda a, b: [a, a.parent], 'neither a run'),
  ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, example, change, said):
  labels, sharp, dull = example
  first = _write(tmp_path / 'a.csv', sharp, labels)
  second = _write(tmp_path / 'b.csv', dull, labels)
  with pytest.raises(errors.InputError, match=said):
    compare.compare(change(first, second), resamples=0)


def test_other_labels_and_one_class_are_refused(tmp_path, example):
  labels, sharp, dull = example
  first = _write(tmp_path / 'a.csv', sharp, labels)
  other = [1 - labels[0], *labels[1:]]
  second = _write(tmp_path / 'b.csv', dull, other)
  with pytest.raises(errors.DataError, match=r'breast 0_L: its label is'):
    compare.compare([first, second], resamples=0)
  for path in (first, second):
    _write(path, sharp, [0] * 400)
  with pytest.raises(errors.DataError, match='one class'):
    compare.compare([first, second], resamples=0)


@pytest.mark.parametrize(
  ('old', 'new', 'said'),
  [
    (',0,', ',x,', r"b.csv:2: patient_id='x': give a whole number"),
    (',0,', f',{"9" * 30},', r'b.csv:2: patient_id='),
    (',0,', ',,', r"b.csv:2: patient_id='': "),
    (',0,', ',7,', r'breast 0_L: its patient_id is 0 in a.csv and 7 in b.csv'),
    ('\n', ',2\n', r'b.csv:2: label=2: give a whole number from 0 to 1'),
    ('\n', ',yes\n', r"b.csv:2: label='yes'"),
  ],
)
def test_labels_of_the_files_themselves_are_checked(
  tmp_path, example, old, new, said
):
  labels, sharp, dull = example
  first = _write(tmp_path / 'a.csv', sharp, labels)
  second = _write(tmp_path / 'b.csv', dull, labels)
  lines = second.read_text().splitlines(keepends=True)
  if old == '\n':
    lines[1] = lines[1].rpartition(',')[0] + new
  else:
    lines[1] = lines[1].replace(old, new, 1)
  second.write_text(''.join(lines))
  with pytest.raises(errors.DataError, match=said):
    compare.compare([first, second], resamples=0)


def test_labels_of_the_files_may_be_written_by_pandas(tmp_path, example):
  labels, sharp, _ = example
  whole = [float(x) for x in labels]
  plain = [_write(tmp_path / f'{x}.csv', sharp, labels) for x in 'ab']
  gaps = [_write(tmp_path / f'{x}.csv', sharp, whole) for x in 'cd']
  found = [compare.compare(x, resamples=0)['pairs'][0] for x in (plain, gaps)]
  assert found[0]['figures'] == found[1]['figures']


def test_one_patient_with_cancer_is_compared_without_intervals(
  tmp_path, example
):
  _, sharp, dull = example
  labels = [1, 1, *[0] * 398]  # both breasts of one patient
  first = _write(tmp_path / 'a.csv', sharp, labels)
  second = _write(tmp_path / 'b.csv', dull, labels)
  found = compare.compare([first, second], out=tmp_path / 'out', resamples=20)
  assert found['pairs'][0]['figures']['roc_auc']['p'] is None
  assert found['sets'][0]['figures']['roc_auc']['low'] is None
  assert 'no difference can be tested' in found['verdicts'][0]
  for name in ('compare.json', 'compare.md'):
    assert schema.NOTICE in (tmp_path / 'out' / name).read_text()


def test_a_split_that_is_none_is_refused(tiny_run, tmp_path):
  with pytest.raises(errors.ConfigError, match=r"split '\.\./x': choose train"):
    compare.compare([tiny_run, tmp_path], split='../x')


def test_names_do_not_break_the_table(tmp_path, example):
  labels, sharp, dull = example
  first = _write(tmp_path / 'a|b.csv', sharp, labels)
  second = _write(tmp_path / 'c.csv', dull, labels)
  out = tmp_path / 'out'
  compare.compare([first, second], out=out, resamples=0)
  rows = [
    line
    for line in (out / 'compare.md').read_text().splitlines()
    if line.startswith('|')
  ]
  cells = [len(re.findall(r'(?<!\\)\|', row)) for row in rows]
  assert sorted(set(cells)) == [8, 10]


def test_runs_are_compared_by_what_they_have_written(tiny_run, tmp_path):
  other = tmp_path / 'other'
  shutil.copytree(tiny_run, other)
  path = other / 'eval' / 'validation' / 'breasts.csv'
  with path.open() as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    row['cancer'] = 1 - float(row['cancer'])
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  found = compare.compare([tiny_run, other], resamples=0)
  ours = json.loads(
    (tiny_run / 'eval' / 'validation' / 'metrics.json').read_text()
  )
  first, second = (x['figures']['roc_auc']['value'] for x in found['sets'])
  assert first == pytest.approx(ours['breast']['roc_auc']['value'])
  assert second == pytest.approx(1 - first)
  counts = ours['decision']['counts']
  sensitivity = counts['tp'] / (counts['tp'] + counts['fn'])
  assert found['sets'][0]['figures']['sensitivity']['value'] == sensitivity
  with pytest.raises(errors.RunError, match='rsna-jax evaluate'):
    compare.compare([tiny_run, other], split='test')
