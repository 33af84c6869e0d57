import re
import sys
import xml.etree.ElementTree

import numpy as np
import PIL.Image
import pytest
import report_example as example
from report_page import Page

from rsna_jax import aggregate
from rsna_jax.report import decision_tables, plots, tables
from rsna_jax.report import html as report
from rsna_jax.scoring import score

ALL = set(report.SECTIONS) - set(report.OPTIONAL)


def write(folder, **fields):
  report.write_report(folder / 'report.html', **fields)
  return (folder / 'report.html').read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def made():
  return example.evaluation()


@pytest.fixture(scope='module')
def text(made, tmp_path_factory):
  """The page of the example, drawn once."""
  return write(tmp_path_factory.mktemp('report'), **made)


def ids(page):
  return {x['id'] for _, x in page.tags if 'id' in x}


def test_the_page_holds_every_figure_of_three_levels_with_its_interval(
  made, text
):
  found, page = made['metrics'], Page(text)
  for level in ('breast', 'image', 'patient'):
    for name, (title, digits, _) in tables.FIGURES.items():
      figure = found[level][name]
      assert title in page.words
      for key in ('value', 'low', 'high'):
        assert tables.number(figure[key], digits) in page.words
  assert page.words.count('Research use only, not a medical device') == 2
  assert 'data.size 64, 32' in page.words
  assert 'packages.jax 0.10.2' in page.words


def test_every_section_is_there_and_every_link_leads_to_one(text):
  page = Page(text)
  assert ids(page) == ALL
  links = [x['href'] for x in page.all('a')]
  assert {link[1:] for link in links} == ALL - {'checklists'} | {'checklists'}
  assert all(link.startswith('#') for link in links)


def test_subgroups_show_all_columns_too_few_and_warnings(made, tmp_path):
  groups = made['metrics']['subgroups']
  some = next(x for x in groups if x['roc_auc'] and x['sensitivity'])
  some['warning'] = 'roc_auc 0.500 (0.400 to 0.600) lies below the whole, 0.9'
  page = Page(write(tmp_path, **made))
  for group in groups:
    for name in ('roc_auc', 'sensitivity', 'specificity'):
      if group[name]:
        assert tables.number(group[name]['value'], 3) in page.words
  assert 'too few' in page.words
  assert 'ROC AUC 0.500 (0.400 to 0.600) lies below the whole' in page.words
  for x in made['metrics']['heterogeneity']:
    assert f'{x["q"]:.2f} ({x["freedom"]})' in page.words
  some['warning'] = ''


def test_the_lowest_group_of_a_flag_is_yes_or_no(made):
  tested = made['metrics']['heterogeneity'][0]
  for column, value, expected in (
    ('invasive', '0', 'no'),
    ('difficult_negative_case', '1', 'yes'),
    ('BIRADS', '0', '0'),
  ):
    one = tested | {'column': column, 'lowest': tested['lowest']}
    one['lowest'] = one['lowest'] | {'value': value}
    (row,) = decision_tables.heterogeneity({'heterogeneity': [one]})
    assert row['lowest'] == expected


def test_the_operating_point_is_shown_here_and_at_screening(made, text):
  words = Page(text).words
  section = made['metrics']['decision']
  for name in ('tp', 'fp', 'fn', 'tn'):
    assert str(section['counts'][name]) in words
  elsewhere = section['at_screening_prevalence']
  assert f'{elsewhere["ppv"]:.4f}' in words
  sensitivity = section['figures']['sensitivity']['value']
  specificity = section['figures']['specificity']['value']
  assert (
    f'At this point {50 * sensitivity:.0f} of them would be called and '
    f'{50 - 50 * sensitivity:.0f} missed, and '
    f'{9950 * (1 - specificity):,.0f} of the others'
  ) in words


def test_calibration_is_shown_before_and_after_with_expected_pf1(made, text):
  words = Page(text).words
  found = made['metrics']['calibration']
  for when in ('before', 'after'):
    assert tables.cell(found[when]['slope'], 2)['range'] in words
    assert tables.cell(found[when]['ece'], 4)['range'] in words
  for form in ('raw', 'calibrated', 'thresholded'):
    figure = made['metrics']['expected_pf1'][form]
    assert tables.cell(figure, 3)['range'] in words


def test_counts_of_the_parts_add_up(made):
  data = made['run']['data']
  for kind in ('patients', 'breasts', 'images', 'positive images'):
    assert sum(x[kind] for x in data['parts']) == data['total'][kind]
  table = example.columns()
  assert data['total']['images'] == 600
  assert data['total']['positive images'] == table['cancer'].sum()
  (ages,) = [x for x in data['missing'] if x['column'] == 'age']
  rows = np.isin(table['patient_id'] % 6, (1, 4, 5))
  assert ages == {
    'column': 'age',
    'missing': int(np.isnan(table['age'][rows]).sum()),
    'of': int(rows.sum()),
  }


def test_leaks_stand_on_top_of_the_page(made, tmp_path):
  found = made['metrics']['leaks']
  sentence = '7 patients have images on several sides of the split.'
  metrics = made['metrics'] | {'leaks': found | {'found': [sentence]}}
  page = Page(write(tmp_path, **made | {'metrics': metrics}))
  assert 'Signs of leaks: do not trust these figures. ' + sentence in page.words
  assert 'Nothing crosses' not in page.words
  (tmp_path / 'b').mkdir()
  page = Page(write(tmp_path / 'b', **made))
  assert 'Nothing crosses the split' in page.words
  assert found['metadata_only']['verdict'].split(':')[1][:40] in page.words


def test_the_page_needs_no_network_and_no_script(text):
  page = Page(text)
  assert not page.all('script')
  assert not page.all('link')
  for image in page.all('img'):
    assert image['src'].startswith('data:image/jpeg')
  assert 'url(' not in text
  assert "default-src 'none'" in text
  outside = re.sub(r'data:image[^"]*', '', text)
  assert 'http:' not in outside
  assert 'https:' not in outside


def test_the_page_can_be_read_aloud_and_printed(text):
  page = Page(text)
  assert page.all('html')[0]['lang'] == 'en'
  assert len(page.all('h1')) == 1
  assert [x for x in page.all('meta') if x.get('name') == 'viewport']
  charts = [x for x in page.all('svg') if x.get('role') == 'img']
  assert len(charts) == 8  # 5 curves of breasts, reliability, 2 of training
  assert all(len(x['aria-label']) > 5 for x in charts)
  assert len(page.all('img')) == 12  # 6 errors with their maps
  for image in page.all('img'):
    assert len(image['alt']) > 15
  assert 'these are pictures of patients' in page.words
  assert all('scope' in cell for cell in page.all('th'))
  assert '@media print' in text


def test_curves_are_whole_svgs_and_the_same_data_give_the_same_page(
  made, tmp_path, text
):
  found = re.findall(r'<svg viewBox.*?</svg>', text, re.S)
  assert len(found) == 8
  for svg in found:
    assert xml.etree.ElementTree.fromstring(svg).tag == 'svg'
    assert 'nan' not in svg
  assert write(tmp_path, **made) == text


def test_what_comes_from_outside_is_escaped(made, tmp_path):
  evil = '<script>alert("1")</script>'
  metrics = made['metrics'] | {'notes': [evil]}
  metrics['subgroups'] = [metrics['subgroups'][0] | {'value': evil}]
  run = {
    'config': {evil: evil},
    'environment': {'a': evil},
    'data': made['run']['data'] | {'name': evil},
    'changes': {evil: (evil, evil)},
  }
  page = Page(
    write(
      tmp_path,
      title=evil,
      run=run,
      metrics=metrics,
      breasts={},
      history=[{'step': 1, f'train/{evil}': 1.0}],
      worst=[made['worst'][0] | {'prediction_id': evil, 'view': evil}],
    )
  )
  assert not page.all('script')
  assert page.words.count(evil) >= 10


@pytest.mark.parametrize('target', ['density', 'density_cancer'])
def test_density_shows_its_confusion_matrix_and_kappas(tmp_path, target):
  made = example.evaluation(target)
  page = Page(write(tmp_path, **made))
  classes = made['metrics']['classes']
  assert 'classes' in ids(page)
  for row in classes['confusion']:
    assert ' '.join(map(str, row)) in page.words
  for name in classes['names']:
    assert name in page.words
  for name in ('linear_kappa', 'dense_kappa', 'ordinal_mae'):
    assert tables.cell(classes[name], 3)['range'] in page.words
  for figure in classes['recall_intervals']:
    assert tables.cell(figure, 2)['range'] in page.words
  commonest = np.max(np.sum(classes['confusion'], axis=1)) / classes['n']
  assert f'commonest class {commonest:.3f}' in page.words


def test_classes_that_no_image_is_known_to_have_are_left_out(tmp_path):
  made = example.evaluation('density_cancer')
  classes = made['metrics']['classes'] | {'n': 0}
  metrics = made['metrics'] | {'classes': classes}
  page = Page(write(tmp_path, **made | {'metrics': metrics}))
  assert 'classes' not in ids(page)
  assert 'Macro F1' not in page.words


@pytest.mark.parametrize('value', [-1, 0, 1])
def test_a_set_with_no_or_one_class_still_gives_a_page(tmp_path, value):
  table = example.columns(40)
  table['cancer'] = np.full(40, value)
  found = score.score_target(
    table, np.full((40, 1), 0.3), 'cancer', bootstrap=5
  )
  breasts = aggregate.breasts(
    table['prediction_id'],
    table['patient_id'],
    np.full(40, 0.3),
    table['cancer'],
  )
  page = Page(
    write(
      tmp_path,
      title='t',
      run={},
      metrics=found | {'split': 'all'},
      breasts=breasts,
    )
  )
  assert '–' in page.words
  assert 'Not in this report: Data, Split, Leak checks' in page.words


def test_no_intervals_without_a_bootstrap(tmp_path):
  made = example.evaluation(bootstrap=0)
  assert 'no interval' in Page(write(tmp_path, **made)).words


def test_without_matplotlib_the_page_has_its_curves_but_no_files_are_written(
  made, tmp_path, monkeypatch, capsys, text
):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  assert write(tmp_path, **made) == text
  assert plots.write_curves(tmp_path / 'plots', example.HISTORY) == []
  assert 'rsna_jax[plots]' in capsys.readouterr().out


def test_curves_of_a_run_are_png_files_named_after_the_metric(tmp_path):
  written = plots.write_curves(tmp_path / 'plots', example.HISTORY)
  assert [x.name for x in written] == ['loss.png', 'roc_auc.png']
  for path in written:
    with PIL.Image.open(path) as picture:
      assert picture.format == 'PNG'
      assert len(np.unique(np.asarray(picture.convert('L')))) > 20
  assert plots.write_curves(tmp_path / 'none', []) == []


def test_numbers_never_show_a_negative_zero():
  assert tables.number(-0.0001, 3) == '0.000'
  assert tables.cell({'value': -0.2, 'low': -0.3, 'high': -0.0}, 1) == {
    'value': '-0.2',
    'range': '-0.3 to 0.0',
  }
  assert tables.percent(0.005) == '0.5 %'
  assert tables.percent(1.0) == '100 %'
