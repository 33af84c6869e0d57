"""Templates to HTML: what every page needs, and addresses of static files."""

import datetime
import functools
import hashlib
import json
import pathlib
from typing import Any

import jinja2

from rsna_jax import schema
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.pages import place_chart
from rsna_jax.serve.pages import words as words_lib

STATIC = pathlib.Path(__file__).parent / 'static'
_LINKS = (
  ('start', '/', None),
  ('mine', '/submissions', 'contributor'),
  ('review', '/review', 'reviewer'),
  ('models', '/models', 'reviewer'),
)
_RANKS = {'contributor': 1, 'reviewer': 2, 'administrator': 3}
# Nothing inline, nothing evaluated, no copy of a page kept by the browser; and
# an answer that says no is shown as well.
_HTMX = {
  'includeIndicatorStyles': False,
  'allowEval': False,
  'allowScriptTags': False,
  'selfRequestsOnly': True,
  'historyEnabled': False,
  'historyCacheSize': 0,
  'responseHandling': [
    {'code': '204', 'swap': False},
    {'code': '...', 'swap': True},
  ],
}


def render(
  name: str, t: words_lib.Words, user: Any = None, **values: Any
) -> str:
  """A template as HTML.

  Args:
    name: of the file in templates/.
    t: the texts.
    user: an `accounts.User`, or None for a guest.
    values: further ones of the template.
  """
  common = {
    't': t,
    'user': user,
    'links': links(user),
    'here': '',
    'csrf': '',
    'said': '',
    'problem': None,
    'request_id': '',
  }
  return _environment().get_template(name).render(**{**common, **values})


def links(user: Any) -> list[tuple[str, str]]:
  """Names and addresses of the pages that a person may open."""
  rank = _RANKS[user.role] if user else 0
  return [
    (name, path)
    for name, path, role in _LINKS
    if role is None or rank >= _RANKS[role]
  ]


def limits(settings: settings_lib.Settings) -> dict[str, Any]:
  """What the page says of the server's limits."""
  return {
    'files': settings.files,
    'file_bytes': settings.file_bytes,
    'file_mib': f'{settings.file_bytes / 2**20:.4g}',
    'upload_minutes': f'{settings.upload_s / 60:.4g}',
  }


def static(name: str) -> str:
  """The address of a static file; another one when its content changes."""
  return f'/static/{name}?v={_digest(name)}'


def when(text: str) -> str:
  """An ISO time in UTC, to the minute; as it is where it is none."""
  try:
    at = datetime.datetime.fromisoformat(text)
  except (TypeError, ValueError):
    return str(text or '–')
  return at.strftime('%Y-%m-%d %H:%M UTC')


@functools.cache
def _digest(name: str) -> str:
  return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('rsna_jax.serve.pages', 'templates'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.globals.update(
    static=static,
    percent=place_chart.percent,
    when=when,
    notice=settings_lib.NOTICE,
    views=schema.VIEWS,
    htmx_config=json.dumps(_HTMX),
  )
  return environment
