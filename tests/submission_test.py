import csv
import json

import numpy as np
import pytest

from rsna_jax import errors, submission

IDS = ['10008_L', '10008_R', '10009_L']


def test_a_written_submission_reads_back_exactly(tmp_path):
  path = tmp_path / 'submission.csv'
  values = np.array([1 / 3, 0.0, 1.0])
  # test.csv has one row an image, so that ids repeat.
  submission.write(path, IDS, values, expected_ids=[*IDS, *IDS])
  with open(path, newline='') as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0]) == ['prediction_id', 'cancer']
  assert [row['prediction_id'] for row in rows] == IDS
  assert [float(row['cancer']) for row in rows] == values.tolist()
  assert submission.check(path, IDS) == 3
  assert [x.name for x in tmp_path.iterdir()] == ['submission.csv']


@pytest.mark.parametrize(
  ('ids', 'values', 'said'),
  [
    (IDS[:2], [0, 0], r"'10009_L' is missing \(1 in all\)"),
    ([*IDS, '5_L', '6_L'], [0] * 5, r"'5_L' is not in test.csv \(2 in all\)"),
    ([*IDS, IDS[1]], [0] * 4, r"'10008_R' occurs more than once \(1 in all\)"),
    (IDS, [0, np.nan, np.nan], r"'10008_R' has no probability .*\(2 in all\)"),
    (IDS, [0, 0, 1.5], r"'10009_L' has .*1.5.* for a probability"),
    (IDS, [-0.1, 0, 0], r"'10008_L' has .*-0.1"),
    (IDS, [0, 0, np.inf], r"'10009_L' has .*inf"),
    (IDS, [0, 0], 'one probability for each'),
  ],
)
def test_a_wrong_submission_is_refused_and_nothing_is_written(
  tmp_path, ids, values, said
):
  path = tmp_path / 'submission.csv'
  path.write_text('what was there')
  with pytest.raises(submission.SubmissionError, match=said) as error:
    submission.write(path, ids, values, expected_ids=IDS)
  assert '\n' not in str(error.value)
  assert path.read_text() == 'what was there'
  assert len(list(tmp_path.iterdir())) == 1


def test_nothing_at_all_is_no_submission(tmp_path):
  with pytest.raises(submission.SubmissionError, match='no prediction'):
    submission.write(tmp_path / 's.csv', [], [])


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    ('', "first line is 'nothing'"),
    ('id,cancer\n10008_L,0.1\n', "first line is 'id,cancer'"),
    ('prediction_id,cancer\n10008_L\n', "line 2 is '10008_L'"),
    ('prediction_id,cancer\n10008_L,0.1\n10008_R,high\n', 'line 3'),
    ('prediction_id,cancer\n10008_L,nan\n10008_R,0\n10009_L,0\n', 'NaN'),
    ('prediction_id,cancer\n10008_L,0.1\n', "'10008_R' is missing .*2 in all"),
  ],
)
def test_check_names_what_is_wrong_with_a_file(tmp_path, text, said):
  path = tmp_path / 'submission.csv'
  path.write_text(text)
  with pytest.raises(submission.SubmissionError, match=said) as error:
    submission.check(path, IDS)
  assert str(path) in str(error.value)


def test_check_of_a_missing_file_and_of_bytes(tmp_path):
  with pytest.raises(submission.SubmissionError, match='no such file'):
    submission.check(tmp_path / 'none.csv')
  path = tmp_path / 'bytes.csv'
  path.write_bytes(b'\xff\xfe\x00')
  with pytest.raises(submission.SubmissionError, match='not a CSV'):
    submission.check(path)


def _write_expected(workdir, split, found):
  folder = workdir / 'eval' / split
  folder.mkdir(parents=True)
  (folder / 'metrics.json').write_text(json.dumps({'expected_pf1': found}))


def test_the_form_that_may_expect_most_is_named_with_its_interval(tmp_path):
  figures = {
    'raw': {'value': 0.1, 'low': 0.08, 'high': 0.12},
    'calibrated': {'value': 0.4, 'low': 0.34, 'high': 0.46},
    'thresholded': {'value': 0.5, 'low': 0.44, 'high': 0.56},
  }
  assert submission.expectation(tmp_path) == ''
  _write_expected(tmp_path, 'out_of_fold', figures)
  said = submission.expectation(tmp_path)
  assert 'by the out-of-fold breasts' in said
  assert 'thresholded 0.500 (0.440 to 0.560); expected best: thresholded' in (
    said
  )
  assert said.endswith('overlaps that of calibrated)')
  _write_expected(tmp_path, 'validation', None)
  assert submission.expectation(tmp_path) == ''


def test_forms_that_nothing_was_chosen_for_are_refused():
  submission.check_form('raw', None)
  with pytest.raises(errors.ConfigError, match='rsna-jax evaluate'):
    submission.check_form('thresholded', None)
  with pytest.raises(errors.ConfigError, match='choose raw, calibrated'):
    submission.check_form('best', None)
