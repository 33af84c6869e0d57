"""Submitting, reviewing and all pages, in a real browser on a real server."""

import re

import axe
import browser
import pytest
import serve_store
import serve_walks as walks

pytestmark = pytest.mark.skipif(
  browser.find() is None,
  reason='no Chromium: scripts/test_tools.sh installs one',
)
needs_axe = pytest.mark.skipif(
  axe.find() is None,
  reason='no axe-core: scripts/test_tools.sh installs it',
)
WIDTHS = (1280, 390)


def test_a_login_is_refused_or_leads_back_to_where_it_was_asked_for(page, site):
  page.open(f'{site.address}/submissions', 1280)
  assert page.evaluate('location.pathname') == '/login'
  page.click('#name')
  page.type('contributor')
  page.click('#password')
  page.type('not the password')
  with page.loading():
    page.click('main .button.main')
  assert 'E_LOGIN' in walks.text(page, '[role=alert]')
  page.click('#name')
  page.type('contributor')
  page.click('#password')
  page.type(serve_store.PASSWORD)
  with page.loading():
    page.click('main .button.main')
  assert page.evaluate('location.pathname') == '/submissions'
  with page.loading():
    page.click('.person button')
  page.open(f'{site.address}/review', 1280)
  assert page.evaluate('location.pathname') == '/login'


@pytest.mark.parametrize('width', WIDTHS)
def test_a_submission_is_reviewed_and_its_contributor_told(
  page, site, page_files, width
):
  name = {1280: 'left.dcm', 390: 'right.dcm'}[width]
  labels = 'name=density][value="2"', 'name=cancer][value="1"'
  why = 'name=evidence][value=biopsy', 'name=confidence][value="4"'
  walks.log_in(page, site, 'contributor', width)
  walks.submit(page, site, page_files[name], *labels, *why, width=width)
  assert 'waits for review' in walks.text(page, '[role=status]')
  short = walks.text(page, '.entry h2 code')
  walks.submit(page, site, page_files[name], *labels, *why, width=width)
  assert 'E_DUPLICATE' in walks.text(page, '[role=alert]')
  # What was given is still there.
  assert page.evaluate("document.querySelector('[name=density]:checked').value")
  walks.log_in(page, site, 'reviewer', width)
  page.open(f'{site.address}/review', width)
  with page.loading():
    page.click(f'.entry a.button[href*="{short}"]')
  assert '2 (B), malignant' in walks.text(page)
  page.click('input[name=density][value="3"]')
  with page.loading():
    page.click('button[value=correct]')
  assert 'accepted with your labels' in walks.text(page, '[role=status]')
  walks.log_in(page, site, 'contributor', width)
  page.open(f'{site.address}/submissions', width)
  own = walks.text(page, '.entry')
  assert 'accepted' in own
  assert '3 (C), malignant' in own.split('Final labels')[1]


def test_the_queue_begins_where_the_model_disagrees_most(
  page, site, page_files
):
  why = 'name=evidence][value=opinion', 'name=confidence][value="3"'
  walks.log_in(page, site, 'contributor')
  for name, cancer in (('shallow.png', 0), ('another.png', 1)):
    walks.submit(
      page, site, page_files[name], f'name=cancer][value="{cancer}"', *why
    )
  walks.log_in(page, site, 'reviewer')
  page.open(f'{site.address}/review', 1280)
  shares = [
    float(x)
    for x in re.findall(
      r'disagreement <?([0-9.]+)\s%', walks.text(page, '.cards')
    )
  ]
  assert len(shares) == 2
  assert shares == sorted(shares, reverse=True)
  with page.loading():
    page.click('.entry a.button')
  page.click('#reason')
  page.type('not the right view')
  with page.loading():
    page.click('button[value=reject]')
  page.open(f'{site.address}/review?status=rejected', 1280)
  assert 'not the right view' in walks.text(page, '.cards')


def test_what_is_deleted_is_gone(page, site, page_files):
  walks.log_in(page, site, 'other')
  walks.submit(
    page,
    site,
    page_files['colour.jpg'],
    'name=density][value="1"',
    'name=evidence][value=opinion',
    'name=confidence][value="5"',
  )
  picture = page.evaluate("document.querySelector('.thumb').src")
  blobs = sorted((site.store / 'blobs').glob('*/*.png'))
  page.click('.entry summary')
  with page.loading():
    page.click('.entry button.danger')
  assert 'is gone' in walks.text(page, '[role=status]')
  assert page.evaluate("document.querySelector('.entry')") is None
  assert page.evaluate(f"fetch('{picture}').then(x => x.status)") == 404
  assert len(list((site.store / 'blobs').glob('*/*.png'))) == len(blobs) - 1


def test_pages_of_others_are_closed(page, site):
  walks.log_in(page, site, 'contributor')
  for path in ('/review', '/models'):
    page.open(site.address + path, 1280)
    assert 'E_FORBIDDEN' in walks.text(page, '[role=alert]')
  links = "[...document.querySelectorAll('.top nav a')].map(x => x.pathname)"
  assert page.evaluate(links) == ['/', '/submissions']


def test_models_are_listed_with_the_button_to_retrain(page, site):
  walks.log_in(page, site, 'administrator')
  page.open(f'{site.address}/models', 1280)
  said = walks.text(page)
  assert 'Model 1' in said and 'serving now' in said
  assert page.evaluate("document.querySelector('#retrain button').innerText")


def test_all_works_without_scripts(page, site, page_files):
  page.scripts(False)
  try:
    walks.log_in(page, site, 'other')
    page.choose('#files', page_files['plain.png'])
    page.evaluate("document.querySelector('#laterality').value = 'R'")
    with page.loading():
      page.click('#read')
    assert 'Right breast' in walks.text(page, '.breast')
    with page.loading():
      page.click('[data-answer] a[href^="/submit"]')
    for choice in (
      'name=cancer][value="0"',
      'name=evidence][value=opinion',
      'name=confidence][value="2"',
      'name=text_checked',
    ):
      page.click(f'input[{choice}]')
    with page.loading():
      page.click('main form .button.main')
    assert 'waits for review' in walks.text(page, '[role=status]')
  finally:
    page.scripts(True)


def test_the_keyboard_alone_reads_and_submits(page, site, page_files):
  def to(selector, shift=False):
    for _ in range(60):
      page.press('Tab', shift)
      if page.evaluate(f"document.activeElement.matches('{selector}')"):
        # What has the focus is marked, and not hidden behind anything.
        assert page.evaluate(
          """(x => { const r = x.getBoundingClientRect();
            return r.bottom > 0 && r.top < innerHeight; })(
            document.activeElement)"""
        )
        return
    raise AssertionError(f'{selector} cannot be reached')

  page.open(f'{site.address}/login', 1280)
  to('.skip')
  page.press('Enter')
  to('#name')
  page.type('contributor')
  to('#password')
  page.type(serve_store.PASSWORD)
  with page.loading():
    page.press('Enter')
  to('#files')
  page.choose(
    '#files', page_files['keyboard.png']
  )  # its dialog is the system's
  to('#laterality-1')
  page.press('ArrowDown')
  to('#read')
  page.press('Enter')
  page.wait("document.activeElement.id == 'answer-heading'")
  assert 'Left breast' in walks.text(page, '.breast')
  to('.window-frame')
  to('[data-map]')
  page.press('ArrowRight', times=4)
  page.wait("document.querySelector('.over').naturalWidth")
  to('[data-center]')
  page.press('ArrowLeft', times=5)
  page.wait("document.querySelector('[data-viewer]').dataset.window")
  to('[data-answer] a[href^="/submit"]')
  with page.loading():
    page.press('Enter')
  to('[name=density]')
  page.press('ArrowLeft', times=2)  # from unknown to 3
  to('[name=cancer]')
  page.press('ArrowLeft')
  for name in ('evidence', 'confidence'):
    to(f'[name={name}]')
    page.press('Space')
  to('[name=text_checked]')
  page.press('Space')
  to('main form .button.main')
  with page.loading():
    page.press('Enter')
  assert '3 (C), malignant' in walks.text(page, '.entry')


@needs_axe
@pytest.mark.parametrize('scheme, width', [('light', 1280), ('dark', 390)])
def test_axe_finds_no_violation(page, site, page_files, scheme, width):
  page.scheme(scheme)
  found = {
    name: axe.violations(page)
    for name in walks.pages(page, site, page_files, width)
  }
  assert len(found) == 14
  assert {name: broken for name, broken in found.items() if broken} == {}


def test_pages_fit_a_window_of_320_pixels(page, site, page_files):
  for name in walks.pages(page, site, page_files, 320):
    wide = page.evaluate('document.documentElement.scrollWidth')
    assert wide == 320, name
