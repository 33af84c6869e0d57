"""What all pages share: who asks, in which language, and how a page is sent."""

import re
import urllib.parse
from typing import Any

from fastapi import responses
from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve.pages import rendering
from rsna_jax.serve.pages import words as words_lib
from rsna_jax.serve.store import submissions
from rsna_jax.serve.web import forms, parts, people

# Asked too often, or not ready: then nobody is looked up either.
_HASTY = ('E_RATE', 'E_BUSY', 'E_STARTING', 'E_FAULT')
_OWN = re.compile(r'/[A-Za-z0-9_/-]*(\?[A-Za-z0-9_=&%.-]*)?')
_MOST_CHARACTERS = 300
_DONE = (
  'submit.done',
  'submit.quarantined',
  'mine.deleted',
  'review.done.accept',
  'review.done.correct',
  'review.done.reject',
  'models.rolled_back',
)
_SHORT = re.compile(r'[0-9a-f]{1,9}')


def words(request: requests.Request) -> words_lib.Words:
  """The texts in the language of the browser."""
  return words_lib.choose(request.headers.get('accept-language'))


def is_part(request: requests.Request) -> bool:
  """Whether the page's script asks, and wants a part of a page alone."""
  return request.headers.get('hx-request') == 'true'


def page(
  request: requests.Request,
  name: str,
  visitor: people.Visitor | None,
  status: int = 200,
  **values: Any,
) -> responses.HTMLResponse:
  """A template as an answer.

  Args:
    request: whose language counts.
    name: of the template.
    visitor: who asks; None: not known.
    status: of HTTP.
    values: of the template.
  """
  known = visitor is not None and visitor.user is not None
  text = rendering.render(
    name,
    words(request),
    visitor.user if known else None,
    csrf=visitor.csrf if known else '',
    limits=rendering.limits(parts.of(request).settings),
    request_id=request.scope['state']['request_id'],
    **values,
  )
  # The same address gives a page, or a part of one.
  headers = {'vary': 'HX-Request, Accept-Language, Cookie'}
  return responses.HTMLResponse(text, status, headers)


async def problem_page(
  request: requests.Request, problem: problems.Problem
) -> responses.Response:
  """A problem for a person: a page, or the part of one that is asked for."""
  visitor = request.scope['state'].get('visitor')
  if visitor is None and problem.code not in _HASTY:
    try:
      visitor = await parts.of(request).people.visitor(request)
    except problems.Problem:
      visitor = request.scope['state'].get('visitor')
  if is_part(request):
    return page(
      request, 'parts/problem.html', visitor, problem.status, problem=problem
    )
  if problem.code == 'E_LOGIN' and request.method == 'GET':
    return redirect(login_address(request))
  return page(request, 'problem.html', visitor, problem.status, problem=problem)


async def form(
  request: requests.Request,
) -> tuple[forms.Form, people.Visitor]:
  """The form of a change, and who sends it, with the token of their login.

  Raises:
    problems.Problem: E_FORBIDDEN, E_REQUEST, E_SIZE, E_TYPE.
  """
  server = parts.of(request)
  found = await forms.read(request, server.settings)
  return found, await server.people.visitor(request, found.fields)


def redirect(address: str) -> responses.RedirectResponse:
  """To another page, by GET."""
  return responses.RedirectResponse(address, 303)


def login_address(request: requests.Request) -> str:
  """Of the login, from which one comes back."""
  wanted = request.url.path
  if request.url.query:
    wanted += f'?{request.url.query}'
  return '/login?' + urllib.parse.urlencode({'next': own_address(wanted)})


def own_address(text: str) -> str:
  """An address of this site as it is given; of any other one, the start."""
  right = (
    len(text) <= _MOST_CHARACTERS
    and _OWN.fullmatch(text)
    and not text.startswith('//')
  )
  return text if right else '/'


async def counts(server: parts.Parts) -> dict[str, int]:
  """How many submissions there are of each status."""

  def read():
    with server.db.reading() as session:
      return submissions.counts(session)

  return await server.workers.store(read)


def said(request: requests.Request) -> str:
  """What the page before has done, from a fixed list of sentences."""
  t = words(request)
  key = request.query_params.get('done', '')
  id = request.query_params.get('id', '')
  known = key in _DONE and _SHORT.fullmatch(id)
  return t(key, id=id, number=id) if known else ''
