import browser
import pytest
import report_example as example

from rsna_jax.report import html

pytestmark = pytest.mark.skipif(
  browser.find() is None,
  reason='no Chromium: install one to test the report in a browser',
)


@pytest.fixture(scope='module')
def chromium():
  with browser.Browser() as one:
    yield one


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pages')
  found = {}
  for target in ('cancer', 'density_cancer'):
    found[target] = folder / f'{target}.html'
    html.write_report(found[target], **example.evaluation(target))
  return found


@pytest.mark.parametrize('width', [1280, 390])
@pytest.mark.parametrize('target', ['cancer', 'density_cancer'])
def test_the_page_fits_asks_for_nothing_and_does_not_complain(
  chromium, pages, target, width
):
  chromium.open(pages[target], width)
  chromium.evaluate(
    "document.querySelectorAll('details').forEach(x => x.open = true)"
  )
  wide, window = chromium.evaluate(
    '[document.documentElement.scrollWidth, innerWidth]'
  )
  assert window == width
  assert wide <= width
  outside = [x for x in chromium.asked if not x.startswith('data:')]
  assert outside == [pages[target].resolve().as_uri()]
  assert chromium.complaints == []
  broken = chromium.evaluate(
    '[...document.images].filter(x => !x.naturalWidth).length'
  )
  assert broken == 0
  assert chromium.evaluate('document.images.length') == 12


@pytest.mark.parametrize('width', [1280, 390])
def test_nothing_sticks_out_of_its_place(chromium, pages, width):
  chromium.open(pages['cancer'], width)
  sticking = chromium.evaluate(
    """[...document.querySelectorAll('body *')].filter(x =>
      x.getBoundingClientRect().right > innerWidth + 1
      && !x.closest('.scroll') && !x.closest('details:not([open])')
    ).map(x => x.tagName)"""
  )
  assert sticking == []
  small = chromium.evaluate(
    """[...document.querySelectorAll('.chart')].map(
      x => x.getBoundingClientRect().width)"""
  )
  assert len(small) == 8
  assert all(min(width, 500) * 0.8 < x <= width for x in small)


def test_links_of_the_checklists_lead_to_what_they_name(chromium, pages):
  chromium.open(pages['cancer'], 1280)
  assert (
    chromium.evaluate(
      """[...document.querySelectorAll('a')].filter(
        x => !document.querySelector(x.getAttribute('href'))).length"""
    )
    == 0
  )


def test_the_page_prints(chromium, pages):
  chromium.open(pages['cancer'], 1280)
  printed = chromium.pdf()
  assert printed[:5] == b'%PDF-'
  assert len(printed) > 50_000
