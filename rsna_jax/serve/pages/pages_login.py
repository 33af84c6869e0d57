"""Logging in and out on the page."""

import fastapi
from fastapi import responses
from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve.pages import page_common
from rsna_jax.serve.web import parts

router = fastapi.APIRouter(include_in_schema=False)


@router.get('/login')
async def login_form(request: requests.Request) -> responses.Response:
  """Asks for name and password."""
  visitor = await parts.of(request).people.visitor(request)
  wanted = page_common.own_address(request.query_params.get('next', '/'))
  return page_common.page(
    request, 'login.html', visitor, here='/login', next=wanted
  )


@router.post('/login')
async def login(request: requests.Request) -> responses.Response:
  """Logs in, and goes on to where one came from."""
  server = parts.of(request)
  form, visitor = await page_common.form(request)
  wanted = page_common.own_address(form.get('next', '/'))
  try:
    await server.people.log_in(request, form.get('name'), form.get('password'))
  except problems.Problem as problem:
    request.scope['state']['code'] = problem.code
    return page_common.page(
      request,
      'login.html',
      visitor,
      problem.status,
      here='/login',
      next=wanted,
      problem=problem,
    )
  return page_common.redirect(wanted)


@router.post('/logout')
async def logout(request: requests.Request) -> responses.Response:
  """Logs out."""
  form, _ = await page_common.form(request)
  await parts.of(request).people.log_out(request, form.fields)
  return page_common.redirect('/')
