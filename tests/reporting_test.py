import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from report_page import Page

from rsna_jax import division, evaluate, reporting, run
from rsna_jax.data import dataset
from rsna_jax.report import checklist


@pytest.fixture(scope='module')
def judged(tiny_run, tiny_data, tmp_path_factory):
  """A copy of the run and of its data, evaluated as one would by hand."""
  folder = tmp_path_factory.mktemp('reporting')
  shutil.copytree(tiny_run, folder / 'run')
  shutil.copytree(tiny_data, folder / 'data')
  # What the training wrote must not pass for what the evaluation writes.
  for path in ('MODEL_CARD.md', 'eval/validation/report.html'):
    (folder / 'run' / path).unlink(missing_ok=True)
  found = evaluate.evaluate(folder / 'run', data_dir=folder / 'data')
  return folder, found


def opened(folder):
  c = run.load(folder / 'run').config.copy_and_resolve_references()
  c.data.dir = str(folder / 'data')
  return c, dataset.open_dataset(c)


def test_an_evaluation_writes_report_checklists_and_card(judged):
  folder, found = judged
  page = Page((found.folder / 'report.html').read_text(encoding='utf-8'))
  card = (folder / 'run' / 'MODEL_CARD.md').read_text(encoding='utf-8')
  answers = json.loads((found.folder / 'checklist.json').read_text())
  assert [x['name'] for x in answers] == [x['name'] for x in checklist.lists()]
  auc = f'{found.metrics["breast"]["roc_auc"]["value"]:.3f}'
  assert auc in page.words
  assert auc in card
  assert 'model.name cnn xception' in page.words  # here, and by default
  assert 'Not in this report' not in page.words
  saved = json.loads((found.folder / 'metrics.json').read_text())
  assert saved['leaks'] == found.metrics['leaks']
  step = folder / 'run' / 'checkpoints' / str(found.step) / 'manifest.json'
  hashes = reporting.weights(folder / 'run', found.step)
  assert step.is_file()
  for value in hashes.values():
    assert re.fullmatch('[0-9a-f]{64}', value)
    assert value in page.words
    assert value in card
  assert len(hashes) == 2


def test_the_worst_errors_have_maps_of_the_network(judged):
  _, found = judged
  text = (found.folder / 'report.html').read_text(encoding='utf-8')
  wrong = 'Highest without cancer' in text
  assert wrong
  images = Page(text).all('img')
  assert 2 <= len(images) <= 24
  assert any('map' in x['alt'] for x in images)


def test_the_flow_counts_all_rows_of_the_data_set(judged):
  folder, found = judged
  c, data = opened(folder)
  parts = reporting.sides(c, data, np.arange(0), 'validation')
  assert len(parts) == len(data)
  labelled = data.split == 'train'
  assert (parts[~labelled] == 'no label').all()
  assert (parts[labelled] == division.divide(c, data)).all()
  text = (found.folder / 'report.html').read_text(encoding='utf-8')
  assert f'{len(data)} images' in Page(text).words


def test_rows_without_a_target_are_not_counted_as_trained_on(judged):
  folder, _ = judged
  c, data = opened(folder)
  parts = reporting.sides(c, data, np.arange(0), 'validation')
  assert (reporting.trained_on(c, data, parts) == parts).all()
  c.data.target = 'density'
  density = data.table.columns['density'].copy()
  density[::3] = -1
  columns = data.table.columns | {'density': density}
  unknown = dataclasses.replace(data.table, columns=columns)
  of_density = dataclasses.replace(data, table=unknown)
  found = reporting.trained_on(c, of_density, parts)
  unused = (parts == 'train') & (density == -1)
  assert unused.any()
  assert (found[unused] == 'no target').all()
  assert (found[~unused] == parts[~unused]).all()


def test_a_picture_copied_across_the_split_is_found(judged, tmp_path):
  folder, _ = judged
  c, data = opened(folder)
  rows = division.select_rows(c, data, 'validation', None)
  clean = reporting.check_leaks(c, data, rows, 'validation', {})
  assert clean['found'] == []
  assert clean['duplicates']['checked'] == (data.split == 'train').sum()
  path = next((folder / 'data').rglob('facts.jsonl'))
  before = path.read_text()
  lines = [json.loads(x) for x in before.splitlines()]
  ids = data.table['image_id'].tolist()
  mine = {ids[i] for i in rows}
  one = next(x for x in lines if x['image_id'] in mine)
  other = next(
    x for x in lines if x['split'] == 'train' and x['image_id'] not in mine
  )
  other['facts']['pixel_hash'] = one['facts']['pixel_hash']
  path.write_text(''.join(json.dumps(x) + '\n' for x in lines))
  try:
    found = evaluate.evaluate(folder / 'run', data_dir=folder / 'data')
  finally:
    path.write_text(before)
  assert found.metrics['leaks']['duplicates']['images'] == 2
  text = (found.folder / 'report.html').read_text(encoding='utf-8')
  assert 'Signs of leaks' in text
  assert str(one['image_id']) in text


def test_folds_are_sides_of_their_own(judged):
  folder, _ = judged
  c, data = opened(folder)
  rows = np.flatnonzero(data.split == 'train')
  patients = data.table['patient_id'][rows]
  good = reporting.check_leaks(
    c, data, rows, 'out_of_fold', {}, folds=patients % 4
  )
  assert good['sides'] == ['fold 0', 'fold 1', 'fold 2', 'fold 3']
  assert good['patients']['count'] == 0
  bad = reporting.check_leaks(
    c, data, rows, 'out_of_fold', {}, folds=np.arange(len(rows)) % 4
  )
  assert bad['patients']['count'] == len(np.unique(patients))


def test_other_data_have_no_training_side_to_look_at(judged):
  folder, _ = judged
  c, data = opened(folder)
  assert reporting.check_leaks(c, data, np.arange(4), 'all', {}) is None


def test_pictures_can_be_switched_off(judged, tmp_path):
  folder, found = judged
  c, data = opened(folder)
  rows = division.select_rows(c, data, 'validation', None)
  with c.unlocked():
    c.eval.worst = 0
  reporting.write(
    c,
    tmp_path,
    data.table.take(rows),
    found.metrics,
    breasts=found.breasts,
    data=data,
    rows=rows,
    probability=found.predictions['cancer'],
  )
  page = Page((tmp_path / 'report.html').read_text(encoding='utf-8'))
  assert page.all('img') == []
  assert 'Not in this report: Worst errors' in page.words
  assert not (tmp_path / 'MODEL_CARD.md').exists()


def test_a_table_alone_gives_a_page(judged, tmp_path):
  folder, found = judged
  c, data = opened(folder)
  rows = division.select_rows(c, data, 'validation', None)
  metrics = {k: v for k, v in found.metrics.items() if k != 'leaks'}
  reporting.write(
    c, tmp_path, data.table.take(rows), metrics | {'split': 'predictions'}
  )
  page = Page((tmp_path / 'report.html').read_text(encoding='utf-8'))
  assert f'{len(rows)} images' in page.words
  assert 'Leaks between training and these data were not looked' in page.words
