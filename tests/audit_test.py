"""Faults are put into a sound set; the audit finds these and no others."""

import html.parser
import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
import tiny
from PIL import Image

from rsna_jax import audit, cli, errors
from rsna_jax.audit import checks, counts
from rsna_jax.data import inventory, preprocess, survey

DATA = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA')
  or pathlib.Path(__file__).parents[1] / '../shared/data'
)


def run(src, out, **changes):
  options = {'workers': 1, 'sheet': 0} | changes
  return audit.audit(src, out, **options)


def codes(found):
  return {x['code']: x['count'] for x in found['findings']}


def names(entry):
  return {x['file'] for x in entry['list']}


@pytest.fixture
def layout(tmp_path):
  """Three patients with labels and two without; 20 images."""
  tiny.write_layout(tmp_path / 'src', patients=3)
  return tmp_path / 'src'


def edit(path, old, new):
  text = path.read_text()
  assert text.count(old) == 1, old
  path.write_text(text.replace(old, new))


def test_a_sound_set_has_no_findings(layout, tmp_path):
  found = run(layout, tmp_path / 'out')
  assert found['findings'] == []
  assert found['images'] == {
    'rows': 20,
    'files': 20,
    'read': 20,
    'not_read': 0,
    'patients': 5,
    'breasts': 10,
    'labelled': 12,
    'positives': 2,
    'splits': {'test': 8, 'train': 12},
  }
  assert json.loads((tmp_path / 'out/audit.json').read_text()) == found
  assert found['missing']['train']['columns']['BIRADS'] == 12
  assert found['missing']['train']['columns']['age'] == 0
  assert found['leaks']['train_only_columns'] == [
    'biopsy',
    'invasive',
    'BIRADS',
    'density',
    'difficult_negative_case',
  ]


def test_what_is_put_in_is_found_and_nothing_else(layout, tmp_path):
  train, test = layout / 'train_images', layout / 'test_images'
  shutil.copy(train / '1/10.png', train / '1/11.png')  # within a patient
  shutil.copy(train / '2/20.png', train / '3/32.png')  # across patients
  shutil.copy(train / '3/30.png', test / '4/40.png')  # train and test
  (train / '1/12.png').unlink()  # a row without a file
  shutil.copy(train / '2/21.png', train / '2/99.png')  # no row, the same pixels
  (train / '2/22.png').write_bytes(b'\x89PNG\r\n\x1a\nnothing')
  (train / '2/23.png').write_bytes(b'')
  Image.new('L', (160, 256)).save(train / '3/33.png')  # blank
  edit(layout / 'train.csv', '1,3,31,L,CC,53,0,', '1,3,31,L,CC,53,1,')
  edit(layout / 'train.csv', '1,1,13,R,CC,51,', '1,1,13,R,CC,old,')
  edit(layout / 'test.csv', '1,5,50,L,MLO,55,0,49,5_L', '1,3,50,L,MLO,55,0,49,')

  found = run(layout, tmp_path / 'out')

  assert codes(found) == {
    'patients_in_train_and_test': 1,
    'duplicates_train_and_test': 1,
    'duplicates_across_patients': 1,
    'labels_differ_within_breast': 1,
    'rows_without_file': 2,
    'files_without_row': 2,
    'bad_cells': 1,
    'unreadable': 2,
    'no_standard_image': 1,
    'duplicates_within_patient': 2,
  }
  assert found['leaks']['patients_in_train_and_test']['list'] == ['3']
  groups = {
    kind: [names({'list': group['images']}) for group in entry['list']]
    for kind, entry in found['duplicates'].items()
  }
  assert groups['train_and_test'] == [
    {'train_images/3/30.png', 'test_images/4/40.png'}
  ]
  assert groups['across_patients'] == [
    {'train_images/2/20.png', 'train_images/3/32.png'}
  ]
  (group,) = found['duplicates']['across_patients']['list']
  assert group['labels_differ']
  assert {'train_images/1/10.png', 'train_images/1/11.png'} in (
    groups['within_patient']
  )
  (mixed,) = found['leaks']['labels_differ_within_breast']['list']
  assert mixed['breast'] == '3_L'
  rows = found['files_and_rows']
  assert names(rows['rows_without_file']) == {
    'train_images/1/12.dcm',
    'test_images/3/50.dcm',
  }
  assert names(rows['files_without_row']) == {
    'train_images/2/99.png',
    'test_images/5/50.png',
  }
  (cell,) = rows['bad_cells']['list']
  assert "age='old'" in cell['reason'] and cell['image_id'] == '13'
  assert names(found['errors']['unreadable']) == {
    'train_images/2/22.png',
    'train_images/2/23.png',
  }
  assert names(found['errors']['no_standard_image']) == {
    'train_images/3/33.png'
  }
  assert len(found['errors']['unreadable']['reasons']) == 2
  page = (tmp_path / 'out/audit.html').read_text()
  assert 'train_images/2/99.png' in page and '3_L' in page


def test_files_read_before_give_the_same_audit(layout, tmp_path):
  shutil.copy(layout / 'train_images/1/10.png', layout / 'train_images/1/9.png')
  (layout / 'train_images/2/23.png').write_bytes(b'')
  whole = run(layout, tmp_path / 'a', sheet=6)
  facts, spec = {}, preprocess.Spec()
  for item in inventory.find(layout).items:
    try:
      answer = survey.survey_file(survey.item(item.file, spec))
      facts[item.file] = answer['facts']
    except errors.InputError as error:
      facts[item.file] = str(error)
  again = audit.from_facts(layout, tmp_path / 'b', facts, workers=1, sheet=6)
  assert again == whole and whole['images']['read'] == 20
  for name in ('audit.html', 'contact_sheet_1.png'):
    first, second = tmp_path / 'a' / name, tmp_path / 'b' / name
    assert first.read_bytes() == second.read_bytes()
  facts.popitem()
  # Without a sheet no file is opened, so no child starts.
  fewer = audit.from_facts(layout, tmp_path / 'b', facts, workers=1, sheet=0)
  assert fewer['images']['not_read'] == codes(fewer)['not_read'] == 1
  assert not list((tmp_path / 'b').glob('*.png'))


def test_a_folder_without_tables_is_audited_by_its_files(layout, tmp_path):
  for name in ('train.csv', 'test.csv'):
    (layout / name).unlink()
  shutil.copy(layout / 'train_images/1/10.png', layout / 'again.png')
  (layout / 'notes.txt').write_text('no image')
  found = run(layout, tmp_path / 'out')
  assert found['kind'] == 'folder'
  assert found['images']['files'] == found['images']['read'] == 21
  assert codes(found) == {'duplicates_within_patient': 1}


def test_a_zip_is_audited_as_the_folder_it_was_made_of(layout, tmp_path):
  with zipfile.ZipFile(tmp_path / 'src.zip', 'w') as archive:
    for path in sorted(layout.rglob('*')):
      if path.is_file():
        archive.write(path, path.relative_to(layout))
  one = run(layout, tmp_path / 'a', limit=4)
  two = run(tmp_path / 'src.zip', tmp_path / 'b', limit=4)
  assert {**one, 'source': ''} == {**two, 'source': ''}


def test_a_limit_reads_no_more_and_says_so(layout, tmp_path):
  found = run(layout, tmp_path / 'out', limit=5)
  assert found['images']['read'] == 5
  assert codes(found) == {'not_read': 15}


def images_of(columns, n=200, facts=None):
  """Labelled images that no file stands behind."""
  rng = np.random.default_rng(0)
  made = []
  for i in range(n):
    cancer = int(i % 4 == 0)
    row = {'patient_id': i, 'image_id': i, 'laterality': 'L', 'cancer': cancer}
    row |= {name: value(cancer, rng) for name, value in columns.items()}
    item = inventory.Item('train', f'{i}.dcm', f'{i}.dcm', row, i + 2)
    shown = facts(cancer, rng) if facts else None
    made.append(checks.Image(item, shown))
  return made


def test_a_leaking_column_and_a_shortcut_are_told_from_an_honest_one():
  facts = {
    'attributes': {},
    'patient': '',
    'encoding': {'transfer_syntax': '1.2.840.10008.1.2.4.90', 'levels': 5},
    'photometric': 'MONOCHROME2',
    'presentation_lut_shape': '',
    'presentation_intent': '',
    'windows': 1,
    'voi_luts': 0,
    'voi_function': 'LINEAR',
    'padding': None,
    'bits_stored': 12,
    'columns': 2000,
    'box_share': 0.5,
  }
  images = images_of(
    {
      'BIRADS': lambda cancer, rng: 0 if cancer else 1,
      'density': lambda cancer, rng: int(rng.integers(1, 5)),
      'view': lambda cancer, rng: str(rng.choice(['CC', 'MLO'])),
      'machine_id': lambda cancer, rng: 49,
    },
    facts=lambda cancer, rng: (
      facts | {'rows': 4000 if cancer or rng.random() < 0.2 else 2776}
    ),
  )
  found = counts.predictors(images, ['BIRADS', 'density'])
  aucs = {c['name']: c['auc'] for c in found['columns']}
  assert found['positives'] == 50 and found['enough']
  assert aucs['BIRADS']['value'] == 1
  assert aucs['rows']['value'] > 0.85 and aucs['size'] == aucs['rows']
  for name in ('density', 'view'):
    assert aucs[name]['low'] < 0.55
  # The same for all: neither a machine nor a syntax can tell anything.
  assert {'machine_id', 'transfer_syntax', 'levels'}.isdisjoint(aucs)
  sizes = {c['name']: c for c in counts.counts(images)}['size']['values']
  by_size = {x['value']: x for x in sizes}
  assert by_size['2776 x 2000']['positives'] == 0
  assert by_size['4000 x 2000']['positives'] == 50
  assert by_size['4000 x 2000']['low'] > 0.4


def test_headers_that_contradict_their_rows_are_named():
  patient = survey.patient_digest(7)
  row = {'patient_id': 7, 'image_id': 3, 'laterality': 'L', 'age': 60.0}
  header = {'image_id': 3, 'laterality': 'R', 'age': 60.5, 'view': 'CC'}
  item = inventory.Item('train', 'a.dcm', 'a.dcm', row, 2)
  facts = {'attributes': header, 'patient': patient}
  found = checks.header_and_row([checks.Image(item, facts)])
  differ = {name: entry['differ']['count'] for name, entry in found.items()}
  assert differ == dict.fromkeys(found, 0) | {'laterality': 1}
  assert found['view']['compared'] == 0  # the row has none
  assert found['laterality']['differ']['list'][0]['header'] == 'R'
  other = checks.Image(item, facts | {'patient': 'x', 'attributes': {}})
  (entry,) = checks.header_and_row([other])['patient_id']['differ']['list']
  assert 'row' not in entry and 'header' not in entry


class Page(html.parser.HTMLParser):
  void = ('meta', 'img', 'line', 'circle', 'br')

  def __init__(self, text):
    super().__init__()
    self.open, self.tags = [], []
    self.feed(text)
    assert not self.open, self.open

  def handle_startendtag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    if tag not in self.void:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_runs_nothing(layout, tmp_path):
  evil = layout / 'train_images/1/<script>alert(1)<'
  evil.with_suffix('.png').write_bytes(b'')
  run(layout, tmp_path / 'out', sheet=8)
  page = Page((tmp_path / 'out/audit.html').read_text(encoding='utf-8'))
  tags = {tag for tag, _ in page.tags}
  assert 'script' not in tags and 'link' not in tags
  pictures = [a for tag, a in page.tags if tag == 'img']
  assert len(pictures) == 8
  assert all(a['src'].startswith('data:image/') and a['alt'] for a in pictures)
  for _, attributes in page.tags:
    assert not {'href', 'onload', 'onclick'} & set(attributes)


def refused(capsys, *arguments):
  with pytest.raises(SystemExit) as stop:
    cli.main(['audit', *map(str, arguments)])
  lines = capsys.readouterr().err.splitlines()
  assert stop.value.code == 2 and len(lines) == 1, lines
  return lines[0]


def test_bad_input_is_answered_in_one_line(layout, tmp_path, capsys):
  out = ('--out', tmp_path / 'out')
  assert 'none' in refused(capsys, tmp_path / 'none', *out)
  (tmp_path / 'empty').mkdir()
  assert 'no image' in refused(capsys, tmp_path / 'empty', *out)
  assert 'x.csv' in refused(capsys, layout, *out, '--train-csv', 'x.csv')
  edit(layout / 'train.csv', 'image_id', 'picture')
  assert 'no column image_id' in refused(capsys, layout, *out)
  assert not (tmp_path / 'out').exists()


def test_the_command_prints_the_findings(layout, tmp_path, capsys):
  (layout / 'train_images/1/10.png').unlink()
  out = str(tmp_path / 'out')
  with pytest.raises(SystemExit) as stop:
    cli.main(
      ['audit', str(layout), '--out', out, '--workers', '1', '--limit', '4']
    )
  assert stop.value.code == 0
  said = capsys.readouterr().out
  assert 'fault: 1 row names a file that is not there' in said
  assert '4 of 19 files read' in said and 'note: 15 files were not read' in said
  there = {path.name for path in (tmp_path / 'out').iterdir()}
  assert there == {'audit.html', 'audit.json', 'contact_sheet_1.png'}


def test_the_real_sample_is_as_it_is_known_to_be(tmp_path):
  source = DATA / 'rsna_dicom'
  if not source.is_dir():
    pytest.skip('no real data at RSNA_JAX_DATA')
  found = run(source, tmp_path, train_csv='train_with_missing_files.csv')
  assert codes(found) == {'rows_without_file': 1}
  assert found['images']['read'] == 11
  counts = {
    c['name']: {v['value']: v['images'] for v in c['values']}
    for c in found['counts']
  }
  assert counts['polarity'] == {'MONOCHROME2': 8, 'MONOCHROME1': 3}
  assert counts['levels'] == {'5': 11} and counts['transform'] == {'5-3': 11}
  assert counts['size'] == {'2776 x 2082': 8, '5355 x 4915': 3}
  assert counts['windows'] == {'1': 8, '4': 3}
  assert found['header_and_row']['laterality']['compared'] == 11


def test_a_folder_that_is_gone_is_an_error_of_the_input(tmp_path):
  with pytest.raises(errors.DataError, match='no such folder'):
    run(tmp_path / 'gone', tmp_path / 'out')
