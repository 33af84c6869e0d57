"""Retraining by the button: the page follows it, and the new model answers."""

import browser
import pytest
import serve_loop
import serve_site
import serve_walks as walks
from PIL import Image

pytestmark = pytest.mark.skipif(
  browser.find() is None,
  reason='no Chromium: scripts/test_tools.sh installs one',
)
SUBMISSIONS = 160  # enough for ten patients of each class to judge by
RETRAIN_S = 300


def test_the_promoted_model_answers_until_the_old_one_is_called_back(
  chromium, tmp_path
):
  run = serve_loop.train_base(tmp_path)
  store = serve_loop.make_store(tmp_path / 'store', run, SUBMISSIONS)
  store.db.close()
  image = tmp_path / 'image.png'
  Image.fromarray(serve_loop.picture(9_999, cancer=True)).save(image)
  serving = serve_site.serving(
    run, store.folder, people=False, reload_s=0.5, gate=0
  )
  page = chromium
  page.forget()
  with serving as site:
    walks.log_in(page, site, 'administrator')
    walks.read(page, site, [image])
    assert 'Model 1,' in walks.text(page, '.answer header')
    before = walks.text(page, '.breast .value')
    page.open(f'{site.address}/models', 1280)
    assert '160 submissions are accepted' in walks.text(page)
    page.click('#retrain .button.main')
    page.wait("document.querySelector('#retrain progress, .problem')")
    page.wait("document.querySelector('#retrain .good, .problem')", RETRAIN_S)
    assert 'has ended' in walks.text(page, '#retrain .good')
    with page.loading():
      page.click('#retrain .good a')
    newest = walks.text(page, '.cards > li')
    assert 'Model 2' in newest and 'serving now' in newest, newest
    assert 'Promoted: on the submissions the AUC of cancer' in newest
    page.wait(_answered_by(2), RETRAIN_S)
    walks.read(page, site, [image])
    assert 'Model 2,' in walks.text(page, '.answer header')
    assert walks.text(page, '.breast .value') != before
    page.open(f'{site.address}/models', 390)
    with page.loading():
      page.click('form[action="/models/rollback"] button')
    assert 'Model 1 serves again' in walks.text(page, '[role=status]')
    page.wait(_answered_by(1), RETRAIN_S)
    walks.read(page, site, [image], 390)
    assert walks.text(page, '.breast .value') == before


def _answered_by(number):
  return f"""fetch('/api/v1/ready').then(x => x.json()).then(
    x => x.model.number == {number})"""
