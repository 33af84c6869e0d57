"""Reading mammograms on the page, in a real browser on a real server."""

import re

import browser
import numpy as np
import pytest
import serve_walks as walks

from rsna_jax import inference

pytestmark = pytest.mark.skipif(
  browser.find() is None,
  reason='no Chromium: scripts/test_tools.sh installs one',
)
WIDTHS = (1280, 390)


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize(
  'name',
  ['left.dcm', 'shallow.png', 'deep.png', 'colour.jpg', 'grey.pgm'],
)
def test_every_kind_of_file_is_answered_as_by_the_model(
  page, site, page_files, name, width
):
  walks.read(page, site, [page_files[name]], width)
  assert page.complaints == []
  said = walks.text(page, '.breast')
  (expected,) = inference.load_model(site.run).predict([page_files[name]])
  raw = float(re.search(r'before calibration: (0\.\d+)', said)[1])
  assert raw == pytest.approx(expected.cancer, abs=2e-4)
  densities = np.array(list(expected.probabilities.values()))
  letter = 'ABCD'[int(densities.reshape(4, 2).sum(axis=1).argmax())]
  assert f'({letter})' in walks.text(page, '.breast .density caption')
  assert 'Of 1,000 women with this result' in said
  assert 'Research use only, not a medical device.' in walks.text(
    page, '.answer'
  )
  page.wait(
    """['.under', '.standard'].every(
      x => document.querySelector(x).naturalWidth)"""
  )
  wide = page.evaluate('document.documentElement.scrollWidth')
  assert wide <= width
  page.wait("document.activeElement.id == 'answer-heading'")


def test_views_are_joined_by_breast_and_hung_right_before_left(
  page, site, page_files
):
  page.open(site.address + '/', 1280)
  page.choose('#files', page_files['left.dcm'], page_files['right.dcm'])
  page.wait("document.querySelectorAll('#chosen li').length == 2")
  page.choose('#files', page_files['shallow.png'], page_files['another.png'])
  page.wait("document.querySelectorAll('#chosen li').length == 4")
  page.click('#chosen li:nth-child(4) button')
  assert page.evaluate("document.querySelector('#files').files.length") == 3
  page.evaluate("document.querySelector('#laterality-3').value = 'L'")
  page.click('#read')
  page.wait(walks.ANSWERED)
  titles = page.evaluate(
    "[...document.querySelectorAll('.breast h3')].map(x => x.innerText)"
  )
  assert [re.sub(r'\s+', ' ', x)[:21] for x in titles] == [
    'Right breast 1 image ',
    'Left breast 2 images ',
  ]


@pytest.mark.parametrize('width', WIDTHS)
def test_the_heat_map_is_laid_over_the_picture(page, site, page_files, width):
  walks.read(page, site, [page_files['left.dcm']], width)
  assert page.evaluate("document.querySelector('.over').hidden")
  page.middle('[data-map]')
  page.evaluate("document.querySelector('[data-map]').focus()")
  page.press('ArrowRight', times=10)
  page.wait("document.querySelector('.over').naturalWidth")
  shown = page.evaluate(
    """(() => {
      const one = document.querySelector('.over'), r = one.getClientRects()[0];
      const s = document.querySelector('.under').getClientRects()[0];
      return [getComputedStyle(one).opacity, r.width - s.width, r.x - s.x,
        document.querySelector('.controls output').textContent];
    })()"""
  )
  assert shown == ['0.5', 0, 0, '50 %']
  layer = walks.pixels(page, '.over')
  assert layer.shape == (*walks.pixels(page, '.under').shape, 4)
  assert layer[..., 3].max() > 100 and layer[..., 3].min() == 0


@pytest.mark.parametrize('width', WIDTHS)
def test_dragging_lays_a_window_on_the_picture(page, site, page_files, width):
  walks.read(page, site, [page_files['left.dcm']], width)
  page.wait("document.querySelector('.under').naturalWidth")
  before = walks.pixels(page, '.under').astype(np.float64) / 255
  page.drag('.window-frame', -80, 50)
  found = page.wait("document.querySelector('[data-viewer]').dataset.window")
  center, share = map(float, found.split())
  assert center == pytest.approx(0.6) and share == pytest.approx(0.68)
  expected = ((before - center) / share + 0.5).clip(0, 1) * 255
  assert np.abs(walks.pixels(page, '.under') - expected).max() <= 1
  page.click('[data-reset]')
  page.wait("document.querySelector('[data-viewer]').dataset.window == '0.5 1'")
  np.testing.assert_allclose(
    walks.pixels(page, '.under') / 255, before, atol=0.01
  )


def test_a_zoomed_picture_is_moved_by_mouse_and_keys(page, site, page_files):
  walks.read(page, site, [page_files['left.dcm']])
  page.wait("document.querySelector('.under').naturalWidth")
  page.evaluate("document.querySelector('[data-zoom]').focus()")
  page.press('ArrowRight', times=8)
  frame = "document.querySelector('.window-frame')"
  place = f'[{frame}.scrollLeft, {frame}.scrollTop]'
  start = page.evaluate(place)
  page.click('[data-drag][value=move]')
  page.drag('.window-frame', -30, -40)
  left, top = page.evaluate(place)
  assert [left - start[0], top - start[1]] == [30, 40]
  page.evaluate(f'{frame}.focus()')
  page.press('ArrowDown')
  page.wait(f'{frame}.scrollTop > {top}')


@pytest.mark.parametrize('width', WIDTHS)
def test_a_photograph_is_refused_with_the_reason(page, site, page_files, width):
  walks.read(page, site, [page_files['photograph.png']], width)
  said = walks.text(page, '#answer .problem')
  assert 'does not look like a mammogram' in said
  assert 'E_NOT_MAMMO' in said
  page.wait("document.activeElement.className == 'problem'")
  walks.read(
    page, site, [page_files['left.dcm'], page_files['photograph.png']], width
  )
  assert 'Image 2' in walks.text(page, '#answer .problem')


def test_an_answer_prints(page, site, page_files):
  walks.read(page, site, [page_files['left.dcm']])
  assert page.pdf()[:5] == b'%PDF-'
