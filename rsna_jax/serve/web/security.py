"""Headers, cookies, and changes that other sites' pages must not make."""

import hmac
import re
import secrets
import urllib.parse
from collections.abc import Mapping

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.web import bodies, limits

UNSAFE = ('POST', 'PATCH', 'DELETE')
CSRF_HEADER = 'x-csrf-token'
CSRF_FIELD = 'csrf'
_FORMS = (
  'multipart/form-data',
  'application/x-www-form-urlencoded',
  'application/json',
)
_TOKEN = re.compile(r'[A-Za-z0-9_-]{43}')
_CSP = '; '.join(
  (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob: data:",
    "font-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  )
)
_PERMISSIONS = ', '.join(
  f'{name}=()'
  for name in (
    'accelerometer',
    'camera',
    'display-capture',
    'geolocation',
    'gyroscope',
    'magnetometer',
    'microphone',
    'payment',
    'usb',
  )
)
_HEADERS = {
  'content-security-policy': _CSP,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': _PERMISSIONS,
  # Not no-referrer, under which a browser sends a form with Origin: null.
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}
_YEAR_S = 365 * 24 * 3600


def headers(
  settings: settings_lib.Settings, path: str, status: int
) -> list[tuple[bytes, bytes]]:
  """The headers that every answer has."""
  found = dict(_HEADERS)
  static = path.startswith('/static/') and status == 200
  found['cache-control'] = 'public, max-age=3600' if static else 'no-store'
  if settings.https:
    found['strict-transport-security'] = f'max-age={_YEAR_S}'
  return [(name.encode(), value.encode()) for name, value in found.items()]


def check_origin(scope: bodies.Scope, settings: settings_lib.Settings) -> None:
  """Refuses changes that another site's page asks for.

  A browser says with every change where it comes from. A program says nothing;
  it is let through as long as it brings no login with it.

  Raises:
    problems.Problem: E_FORBIDDEN; E_TYPE.
  """
  if scope['method'] not in UNSAFE:
    return
  found = {
    name.decode('latin-1'): value.decode('latin-1')
    for name, value in scope['headers']
  }
  site = found.get('sec-fetch-site')
  origin = found.get('origin')
  if site not in (None, 'same-origin', 'none'):
    raise _foreign()
  if origin is not None and not _is_own(
    origin, found.get('host', ''), settings
  ):
    raise _foreign()
  if site is None and origin is None and session_of(scope, settings):
    raise _foreign()
  kind = found.get('content-type', '').partition(';')[0].strip().lower()
  if kind == 'text/plain' or (not kind and bodies.has_body(scope)):
    raise problems.Problem(
      'E_FORBIDDEN', 'A change needs a Content-Type: JSON, or that of a form.'
    )
  if kind and kind not in _FORMS:
    raise problems.Problem(
      'E_TYPE', f'Content-Type is one of {", ".join(_FORMS)}.'
    )


def check_token(
  csrf: str, headers: Mapping[str, str], fields: Mapping | None
) -> None:
  """Checks that a change carries the token of its login.

  Args:
    csrf: of the session.
    headers: of the request.
    fields: of its form or JSON, or None.

  Raises:
    problems.Problem: E_FORBIDDEN.
  """
  given = headers.get(CSRF_HEADER) or (fields or {}).get(CSRF_FIELD)
  if isinstance(given, list):
    given = given[0] if given else None
  if not isinstance(given, str) or not hmac.compare_digest(
    given.encode(), csrf.encode()
  ):
    raise problems.Problem(
      'E_FORBIDDEN',
      'The page is out of date, or the X-CSRF-Token of your login is missing; '
      'reload it and try again.',
    )


def cookies_of(scope: bodies.Scope) -> dict[str, str]:
  """Cookies of a request; of one that is sent twice the first."""
  found: dict[str, str] = {}
  for name, value in scope['headers']:
    if name == b'cookie':
      for pair in value.decode('latin-1').split(';'):
        key, _, text = pair.strip().partition('=')
        found.setdefault(key, text)
  return found


def session_of(
  scope: bodies.Scope, settings: settings_lib.Settings
) -> str | None:
  """The token of a login that a request brings, whether it holds or not."""
  return cookies_of(scope).get(cookie_name('session', settings))


def guest_of(
  scope: bodies.Scope, settings: settings_lib.Settings
) -> str | None:
  """The random name of a guest; None without one that is well-formed."""
  found = cookies_of(scope).get(cookie_name('guest', settings), '')
  return found if _TOKEN.fullmatch(found) else None


def new_guest() -> str:
  """A name for a guest that nobody can guess."""
  return secrets.token_urlsafe(32)


def cookie_name(name: str, settings: settings_lib.Settings) -> str:
  """With TLS the browser keeps others from setting it."""
  return f'__Host-{name}' if settings.https else name


def cookie(
  name: str, value: str, settings: settings_lib.Settings, seconds: float | None
) -> str:
  """A Set-Cookie header; `seconds` 0 deletes it, None ends with the browser."""
  parts = [f'{cookie_name(name, settings)}={value}', 'Path=/', 'HttpOnly']
  parts.append('SameSite=Strict')
  if settings.https:
    parts.append('Secure')
  if seconds is not None:
    parts.append(f'Max-Age={int(seconds)}')
  return '; '.join(parts)


def _is_own(origin: str, host: str, settings: settings_lib.Settings) -> bool:
  try:
    found = urllib.parse.urlsplit(origin)
    name = limits.host_name(found.netloc)
  except ValueError:
    return False
  scheme = 'https' if settings.https else 'http'
  if found.scheme != scheme or not found.netloc:
    return False
  # A proxy that speaks TLS may drop the port; the name may not differ.
  if settings.https:
    return name == limits.host_name(host)
  return found.netloc.lower() == host.lower()


def _foreign() -> problems.Problem:
  return problems.Problem(
    'E_FORBIDDEN',
    'The request comes from another site, or does not say where from (Origin).',
  )
