import csv
import shutil

import numpy as np
import pytest

from rsna_jax import errors, predict, submission


def _rows(path):
  with path.open() as file:
    return list(csv.DictReader(file))


def test_a_layout_gives_a_submission_equal_to_the_trainings(
  tiny_run, tiny_layout, tmp_path
):
  done = predict.predict_files(tiny_run, [tiny_layout], tmp_path, workers=1)
  assert done.predicted == 8
  assert done.submission == tmp_path / 'submission.csv'
  assert (
    submission.check(done.submission, ['17_L', '17_R', '18_L', '18_R']) == 4
  )
  ours = {row['prediction_id']: row for row in _rows(done.submission)}
  for row in _rows(tiny_run / 'submission.csv'):
    assert float(ours[row['prediction_id']]['cancer']) == pytest.approx(
      float(row['cancer']), abs=1e-5
    )
  assert [row['n_images'] for row in _rows(tmp_path / 'breasts.csv')] == [
    '2'
  ] * 4


def test_a_breast_is_the_mean_of_its_images(tiny_run, tiny_layout, tmp_path):
  predict.predict_files(tiny_run, [tiny_layout], tmp_path, workers=1)
  images = _rows(tmp_path / 'predictions.csv')
  for breast in _rows(tmp_path / 'breasts.csv'):
    said = [
      float(row['cancer'])
      for row in images
      if row['prediction_id'] == breast['prediction_id']
    ]
    assert float(breast['cancer']) == pytest.approx(np.mean(said), abs=1e-12)


def test_files_without_a_table_are_predicted_one_by_one(
  tiny_run, tiny_layout, tmp_path
):
  path = tmp_path / 'alone.png'
  shutil.copy(tiny_layout / 'test_images' / '17' / '170.png', path)
  done = predict.predict_files(tiny_run, [path, path], tmp_path, workers=1)
  assert done.predicted == 1
  assert done.submission is None
  assert not (tmp_path / 'breasts.csv').exists()
  (row,) = _rows(tmp_path / 'predictions.csv')
  assert row['file'] == str(path)
  assert 0 <= float(row['cancer']) <= 1


def test_a_bad_file_stops_before_anything_is_written_or_is_skipped(
  tiny_run, tiny_layout, tmp_path
):
  folder = tmp_path / 'in' / '17'
  shutil.copytree(tiny_layout / 'test_images' / '17', folder)
  (folder / '999.dcm').write_bytes(b'nothing of use')
  out = tmp_path / 'out'
  with pytest.raises(errors.DataError, match=r'999.dcm.*--bad-files skip'):
    predict.predict_files(tiny_run, [folder], out, workers=1)
  assert not out.exists()
  done = predict.predict_files(
    tiny_run, [folder], out, workers=1, bad_files='skip'
  )
  assert done.predicted == 4
  assert len(done.skipped) == 1
  assert '999.dcm' in _rows(out / 'skipped.csv')[0]['file']


def test_a_refused_call_leaves_no_folder(tiny_run, tmp_path):
  bad = tmp_path / 'bad.dcm'
  bad.write_bytes(b'no image')
  with pytest.raises(errors.DataError, match=r'bad\.dcm'):
    predict.predict_files(tiny_run, [bad], tmp_path / 'a' / 'b', workers=1)
  assert [x.name for x in tmp_path.iterdir()] == ['bad.dcm']


def test_what_is_asked_about_is_never_replaced_by_the_answer(
  tiny_run, tiny_layout, tmp_path
):
  rows = tmp_path / 'breasts.csv'
  rows.write_bytes((tiny_layout / 'test.csv').read_bytes())
  before = rows.read_bytes()
  with pytest.raises(errors.ConfigError, match='choose another folder'):
    predict.predict_files(tiny_run, [tiny_layout], tmp_path, csv=rows)
  assert rows.read_bytes() == before


def test_rows_without_a_file_are_named(tiny_run, tiny_layout, tmp_path):
  with pytest.raises(errors.DataError, match=r'4 image\(s\).*17/171'):
    predict.predict_files(
      tiny_run,
      [tiny_layout / 'test_images' / '18'],
      tmp_path,
      csv=tiny_layout / 'test.csv',
    )


def test_a_breast_without_a_usable_image_leaves_no_submission(
  tiny_run, tiny_layout, tmp_path
):
  shutil.copytree(tiny_layout / 'test_images', tmp_path / 'src' / 'test_images')
  shutil.copy(tiny_layout / 'test.csv', tmp_path / 'src')
  for name in ('170', '171'):
    (tmp_path / 'src' / 'test_images' / '17' / f'{name}.png').write_bytes(b'')
  done = predict.predict_files(
    tiny_run,
    [tmp_path / 'src'],
    tmp_path / 'out',
    workers=1,
    bad_files='skip',
  )
  assert done.submission is None
  assert '17_L' in done.note
  assert not (tmp_path / 'out' / 'submission.csv').exists()


def test_a_folder_without_images_is_said(tiny_run, tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.DataError, match='empty'):
    predict.predict_files(tiny_run, [tmp_path / 'empty'], tmp_path / 'out')


def test_the_forms_of_a_submission_are_the_columns_of_the_breasts(
  tiny_run, tiny_layout, tmp_path
):
  of_form = {}
  for form in ('raw', 'calibrated', 'thresholded'):
    out = tmp_path / form
    done = predict.predict_files(
      tiny_run, [tiny_layout], out, workers=1, form=form
    )
    assert 'expected best: ' in done.expected
    breasts = {row['prediction_id']: row for row in _rows(out / 'breasts.csv')}
    column = submission.FORMS[form]
    of_form[form] = [
      (row['prediction_id'], float(row['cancer']))
      for row in _rows(done.submission)
    ]
    assert of_form[form] == [
      (name, float(row[column])) for name, row in breasts.items()
    ]
  assert {value for _, value in of_form['thresholded']} <= {0.0, 1.0}


def test_a_form_that_cannot_be_made_is_refused_before_any_work(
  tiny_run, tiny_layout, tmp_path
):
  run = tmp_path / 'run'
  shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns('eval'))
  out = tmp_path / 'out'
  with pytest.raises(errors.ConfigError, match='form calibrated'):
    predict.predict_files(run, [tiny_layout], out, form='calibrated')
  assert not out.exists()
  (run / 'eval' / 'validation').mkdir(parents=True)
  (run / 'eval' / 'validation' / 'metrics.json').write_text('[1]')
  with pytest.raises(errors.ConfigError, match='form calibrated'):
    predict.predict_files(run, [tiny_layout], out, form='calibrated')
