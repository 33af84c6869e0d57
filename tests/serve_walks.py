"""Steps through the page in a test's browser, one function each."""

import base64
import io

import numpy as np
import serve_store
from PIL import Image

ANSWERED = "document.querySelector('[data-answer], .problem')"


def log_in(page, site, name, width=1280):
  page.open(f'{site.address}/login', width)
  page.click('#name')
  page.type(name)
  page.press('Tab')
  page.type(serve_store.PASSWORD)
  with page.loading():
    page.press('Enter')


def read(page, site, paths, width=1280):
  """Uploads files, and waits for what is said of them."""
  page.open(site.address + '/', width)
  page.choose('#files', *paths)
  page.wait(f"document.querySelectorAll('#chosen li').length == {len(paths)}")
  page.click('#read')
  page.wait(ANSWERED)


def submit(page, site, path, *choices, width=1280):
  """Reads an image and submits it with labels."""
  read(page, site, [path], width)
  with page.loading():
    page.click('[data-answer] a[href^="/submit"]')
  for choice in choices:
    page.click(f'input[{choice}]')
  page.click('input[name=text_checked]')
  with page.loading():
    page.click('main form .button.main')


def text(page, selector='main'):
  return page.evaluate(f"document.querySelector('{selector}').innerText")


def pixels(page, selector):
  """An image of the page as (h, w) grey values, as the server sent it."""
  encoded = page.evaluate(
    f"""fetch(document.querySelector('{selector}').src).then(x => x.blob())
      .then(x => new Promise(done => {{
        const reader = new FileReader();
        reader.onload = () => done(reader.result.split(',')[1]);
        reader.readAsDataURL(x);
      }}))"""
  )
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def pages(page, site, files, width):
  """Opens every page there is, by turns, and says which it is."""
  for path in ('/', '/card', '/about', '/docs', '/login', '/nothing-here'):
    page.open(site.address + path, width)
    yield path
  read(page, site, [files['photograph.png']], width)
  yield 'refusal'
  log_in(page, site, 'administrator', width)
  read(page, site, [files['left.dcm'], files['right.dcm']], width)
  yield 'answer'
  with page.loading():
    page.click('[data-answer] a[href^="/submit"]')
  yield 'submit'
  for path in ('/submit', '/submissions', '/review?status=accepted', '/models'):
    page.open(site.address + path, width)
    yield path
  page.open(f'{site.address}/review?status=accepted', width)
  with page.loading():
    page.click('.entry a.button')
  yield 'review'
