"""Headers, cookies, and changes that another site's page asks for."""

import pathlib

import pytest

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.web import security

_PLAIN = settings_lib.Settings(store=pathlib.Path('s'))
_TLS = settings_lib.Settings(store=pathlib.Path('s'), https=True)


def _scope(method='POST', **headers):
  headers = {'host': 'localhost:8000', **headers}
  return {
    'method': method,
    'headers': [
      (name.replace('_', '-').encode(), value.encode())
      for name, value in headers.items()
    ],
  }


def _code(settings=_PLAIN, **headers):
  try:
    security.check_origin(_scope(**headers), settings)
  except problems.Problem as problem:
    return problem.code
  return 'OK'


_OWN = 'http://localhost:8000'
_JSON = {'content_type': 'application/json'}


@pytest.mark.parametrize(
  ('headers', 'code'),
  [
    ({'origin': _OWN, 'sec_fetch_site': 'same-origin'}, 'OK'),
    ({'origin': _OWN}, 'OK'),
    ({}, 'OK'),  # a program, which brings no login
    ({'origin': 'http://evil.example'}, 'E_FORBIDDEN'),
    ({'origin': 'null'}, 'E_FORBIDDEN'),
    ({'origin': ''}, 'E_FORBIDDEN'),
    ({'origin': 'http://localhost:8001'}, 'E_FORBIDDEN'),
    ({'origin': 'https://localhost:8000'}, 'E_FORBIDDEN'),
    ({'origin': 'http://localhost:8000.evil.example'}, 'E_FORBIDDEN'),
    ({'origin': _OWN, 'sec_fetch_site': 'cross-site'}, 'E_FORBIDDEN'),
    ({'origin': _OWN, 'sec_fetch_site': 'same-site'}, 'E_FORBIDDEN'),
    ({'sec_fetch_site': 'cross-site'}, 'E_FORBIDDEN'),
    ({'cookie': 'session=x'}, 'E_FORBIDDEN'),
    ({'cookie': 'session=x', 'origin': _OWN}, 'OK'),
    ({'cookie': 'session=x', 'sec_fetch_site': 'same-origin'}, 'OK'),
    ({'cookie': 'guest=x'}, 'OK'),
    ({'cookie': 'guest=x', 'origin': 'http://evil.example'}, 'E_FORBIDDEN'),
  ],
)
def test_changes_come_from_our_own_pages_or_bring_no_login(headers, code):
  assert _code(**_JSON, **headers) == code


def test_what_only_reads_may_come_from_anywhere():
  assert _code(method='GET', origin='http://evil.example') == 'OK'


@pytest.mark.parametrize(
  ('kind', 'code'),
  [
    ('application/json', 'OK'),
    ('application/json; charset=utf-8', 'OK'),
    ('multipart/form-data; boundary=x', 'OK'),
    ('application/x-www-form-urlencoded', 'OK'),
    ('text/plain', 'E_FORBIDDEN'),
    ('Text/Plain;application/json', 'E_FORBIDDEN'),
    ('', 'E_FORBIDDEN'),
    ('application/xml', 'E_TYPE'),
  ],
)
def test_json_sent_as_something_else_is_refused(kind, code):
  assert _code(content_type=kind, content_length='2') == code


def test_behind_tls_a_proxy_may_drop_the_port():
  headers = {'host': 'here.example:8000', 'origin': 'https://here.example'}
  assert _code(_TLS, **_JSON, **headers) == 'OK'
  headers['origin'] = 'http://here.example'
  assert _code(_TLS, **_JSON, **headers) == 'E_FORBIDDEN'


@pytest.mark.parametrize(
  ('headers', 'fields', 'right'),
  [
    ({'x-csrf-token': 'abc'}, None, True),
    ({}, {'csrf': 'abc'}, True),
    ({}, {'csrf': ['abc', 'x']}, True),
    ({}, None, False),
    ({}, {'csrf': ''}, False),
    ({}, {'csrf': []}, False),
    ({}, {'csrf': 3}, False),
    ({'x-csrf-token': 'abd'}, {'csrf': 'abc'}, False),
    ({'x-csrf-token': 'ä'}, None, False),
  ],
)
def test_a_change_carries_the_token_of_its_login(headers, fields, right):
  if right:
    security.check_token('abc', headers, fields)
    return
  with pytest.raises(problems.Problem) as caught:
    security.check_token('abc', headers, fields)
  assert caught.value.status == 403


def test_cookies_are_for_this_site_and_no_script():
  plain = security.cookie('session', 'v', _PLAIN, 60)
  assert plain == 'session=v; Path=/; HttpOnly; SameSite=Strict; Max-Age=60'
  tls = security.cookie('session', 'v', _TLS, None)
  assert tls == '__Host-session=v; Path=/; HttpOnly; SameSite=Strict; Secure'


def test_with_tls_a_cookie_without_the_prefix_is_none_of_ours():
  name = security.new_guest()
  scope = _scope(cookie=f'guest={name}; __Host-guest=short')
  assert security.guest_of(scope, _PLAIN) == name
  assert security.guest_of(scope, _TLS) is None


def test_guests_have_names_that_nobody_can_guess():
  names = {security.new_guest() for _ in range(100)}
  assert len(names) == 100
  assert min(map(len, names)) >= 43


def test_headers_forbid_whatever_a_page_of_ours_does_not_need():
  found = dict(security.headers(_TLS, '/', 200))
  policy = found[b'content-security-policy'].decode()
  assert policy.startswith("default-src 'none'")
  assert 'unsafe' not in policy
  assert '*' not in policy
  assert "frame-ancestors 'none'" in policy
  assert found[b'x-content-type-options'] == b'nosniff'
  # With no-referrer a form's Origin would be null.
  assert found[b'referrer-policy'] == b'same-origin'
  assert found[b'cache-control'] == b'no-store'
  assert b'max-age=' in found[b'strict-transport-security']
  assert b'strict-transport-security' not in dict(
    security.headers(_PLAIN, '/', 200)
  )


def test_static_files_alone_may_be_kept():
  def kept(path, status):
    return dict(security.headers(_PLAIN, path, status))[b'cache-control']

  assert b'max-age' in kept('/static/a.css', 200)
  assert kept('/static/a.css', 404) == b'no-store'
  assert kept('/api/v1/uploads/x/heat.png', 200) == b'no-store'
