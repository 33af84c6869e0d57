import base64
import html.parser
import re
import sys
import xml.etree.ElementTree

import numpy as np
import PIL.Image
import pytest

from rsna_jax import aggregate, score
from rsna_jax.report import html as report
from rsna_jax.report import plots, tables

HISTORY = [
  {'step': 10, 'train/loss': 0.7},
  {'step': 20, 'train/loss': 0.5, 'validation/loss': 0.6},
  {'step': 20, 'validation/roc_auc': None, 'validation/score': 0.5},
  {'step': 30, 'validation/roc_auc': 0.8},
]
RUN = {
  'config': {'name': 'x', 'data': {'size': (64, 32)}, 'model': {'depth': 1}},
  'environment': {'python': '3.11', 'packages': {'jax': '0.10.2'}},
  'data': {'split': 'validation', 'images': 1234},
}


class Page(html.parser.HTMLParser):
  """Counts what a browser would see."""

  void = ('meta', 'img', 'line', 'circle', 'wbr')

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.text = [], [], []
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

  def handle_data(self, data):
    if self.open and self.open[-1] not in ('style', 'title'):
      self.text.append(data)

  def all(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]

  @property
  def words(self):
    return re.sub(r'\s+', ' ', ' '.join(self.text))


def example(n=300, seed=0):
  rng = np.random.default_rng(seed)
  labels = (rng.random(n) < 0.3).astype(int)
  p = np.clip(rng.random(n) * 0.6 + 0.3 * labels, 0, 1)
  columns = {
    'patient_id': np.arange(n) // 2,
    'prediction_id': np.array([f'{i // 2}_{"LR"[i % 2]}' for i in range(n)]),
    'site_id': np.arange(n) % 2 + 1,
    'view': np.where(np.arange(n) < 290, 'CC', 'ML'),
    'cancer': labels,
    'density': rng.integers(1, 5, n),
  }
  found = score.score_target(columns, p[:, None], 'cancer', bootstrap=50)
  breasts = aggregate.breasts(
    columns['prediction_id'], columns['patient_id'], p, labels
  )
  return columns, found | {'split': 'validation', 'step': 30}, breasts


def write(path, found, breasts, **changes):
  fields = {'title': 'a run', 'run': RUN, 'history': HISTORY} | changes
  report.write_report(path, metrics=found, breasts=breasts, **fields)
  return path.read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  """The page of the example, drawn once."""
  _, found, breasts = example()
  path = tmp_path_factory.mktemp('report') / 'report.html'
  return write(path, found, breasts)


def test_the_page_holds_every_figure_with_its_interval(text):
  _, found, _ = example()
  page = Page(text)
  for level in ('breast', 'image'):
    for name, (title, digits, _) in tables.FIGURES.items():
      figure = found[level][name]
      assert title in page.words
      for key in ('value', 'low', 'high'):
        assert f'{figure[key]:.{digits}f}' in page.words
  for group in found['subgroups']:
    if group['roc_auc']:
      assert f'{group["roc_auc"]["value"]:.3f}' in page.words
  assert 'too few' in page.words
  assert page.words.count('Research use only, not a medical device') == 2
  assert 'data.size 512, 256' not in page.words
  assert 'data.size 64, 32' in page.words
  assert 'packages.jax 0.10.2' in page.words
  assert '1,234' in page.words


def test_the_page_needs_no_network_and_no_script(text):
  page = Page(text)
  assert not page.all('script')
  assert not page.all('link')
  assert not page.all('a')
  for image in page.all('img'):
    assert image['src'].startswith('data:image/')
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
  assert len(page.all('img')) == 7  # 5 curves of breasts, 2 of training
  for image in page.all('img'):
    assert len(image['alt']) > 15
  assert all('scope' in cell for cell in page.all('th'))
  assert '@media print' in text


def test_curves_are_whole_svgs_and_the_same_data_give_the_same_page(
  tmp_path, text
):
  _, found, breasts = example()
  for image in Page(text).all('img'):
    svg = base64.b64decode(image['src'].partition('base64,')[2])
    assert xml.etree.ElementTree.fromstring(svg).tag.endswith('svg')
  assert write(tmp_path / 'again.html', found, breasts) == text


def test_what_comes_from_outside_is_escaped(tmp_path):
  _, found, _ = example()
  evil = '<script>alert("1")</script>'
  found['subgroups'][0]['value'] = evil
  text = write(
    tmp_path / 'report.html',
    found,
    {},
    history=[],
    title=evil,
    run={
      'config': {evil: evil},
      'environment': {'a': evil},
      'data': {evil: evil},
    },
    pictures=[{'png': b'x', 'alt': f'"{evil}', 'caption': evil}],
  )
  page = Page(text)
  assert not page.all('script')
  assert page.words.count(evil) >= 6


def test_density_shows_its_confusion_matrix(tmp_path):
  columns, _, _ = example()
  for target, k, heading in (
    ('density', 4, 'Density'),
    ('density_cancer', 8, 'Density and cancer'),
  ):
    p = np.random.default_rng(0).dirichlet(np.ones(k), 300)
    found = score.score_target(columns, p, target, bootstrap=20)
    page = Page(write(tmp_path / f'{target}.html', found, {}, history=[]))
    assert heading in page.words
    for row in found['classes']['confusion']:
      assert ' '.join(map(str, row)) in page.words
    for name in found['classes']['names']:
      assert name in page.words


@pytest.mark.parametrize('value', [-1, 0, 1])
def test_a_set_with_no_or_one_class_still_gives_a_page(tmp_path, value):
  columns, _, breasts = example(n=40)
  columns['cancer'] = np.full(40, value)
  found = score.score_target(
    columns, np.full((40, 1), 0.3), 'cancer', bootstrap=5
  )
  breasts['label'][:] = value
  page = Page(write(tmp_path / 'r.html', found, breasts, history=[], run={}))
  assert '–' in page.words
  assert not page.all('img')


def test_no_intervals_without_a_bootstrap(tmp_path):
  columns, _, _ = example(n=60)
  found = score.score_target(
    columns, np.linspace(0, 1, 60)[:, None], 'cancer', bootstrap=0
  )
  page = Page(write(tmp_path / 'r.html', found, {}, history=[]))
  assert 'no interval' in page.words


def test_without_matplotlib_the_page_is_written_and_says_why(
  tmp_path, monkeypatch, capsys
):
  _, found, breasts = example()
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  page = Page(write(tmp_path / 'report.html', found, breasts))
  assert not page.all('img')
  assert "pip install 'rsna_jax[plots]'" in page.words
  assert f'{found["breast"]["roc_auc"]["value"]:.3f}' in page.words
  assert plots.write_curves(tmp_path / 'plots', HISTORY) == []
  assert 'rsna_jax[plots]' in capsys.readouterr().out
  with pytest.raises(plots.PlotsMissingError):
    plots.roc([0, 1], [0.1, 0.2])


def test_curves_of_a_run_are_png_files_named_after_the_metric(tmp_path):
  written = plots.write_curves(tmp_path / 'plots', HISTORY)
  assert [x.name for x in written] == ['loss.png', 'roc_auc.png']
  for path in written:
    with PIL.Image.open(path) as picture:
      assert picture.format == 'PNG'
      assert len(np.unique(np.asarray(picture.convert('L')))) > 20
  assert plots.write_curves(tmp_path / 'none', []) == []


def test_thinned_curves_keep_the_area():
  rng = np.random.default_rng(0)
  labels = (rng.random(50_000) < 0.01).astype(int)
  p = rng.random(50_000) + 0.4 * labels
  tp, fp, thresholds = plots._sweep(labels, p)
  assert len(tp) < 3_000
  assert (np.diff(thresholds) < 0).all()
  area = np.trapezoid(tp / tp[-1], fp / fp[-1])
  assert area == pytest.approx(score.metrics.roc_auc(labels, p), abs=1e-12)


def test_wilson_intervals_are_those_of_scipy():
  stats = pytest.importorskip('scipy.stats')
  for hits, n in ((0, 10), (3, 10), (10, 10), (7, 2_000)):
    low, high = plots.wilson(np.array([hits]), np.array([n]))
    expected = stats.binomtest(hits, n).proportion_ci(method='wilson')
    assert low[0] == pytest.approx(expected.low, abs=1e-12)
    assert high[0] == pytest.approx(expected.high, abs=1e-12)
