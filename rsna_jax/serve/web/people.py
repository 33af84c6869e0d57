"""Who asks: a guest with a random name, or somebody who has logged in."""

import dataclasses

from starlette import requests

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.answering import workers as workers_lib
from rsna_jax.serve.store import accounts
from rsna_jax.serve.store.database import Database
from rsna_jax.serve.web import limits, security

_RANKS = {'guest': 0, 'contributor': 1, 'reviewer': 2, 'administrator': 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visitor:
  """Who asks.

  Attributes:
    user: who is logged in, or None.
    csrf: the token that their forms have to carry, or None.
    owner: of uploads: 'user:<id>' or 'guest:<random>'; None for a guest who
      has not uploaded anything yet.
    client: whom rates are held against.
  """

  user: accounts.User | None
  csrf: str | None
  owner: str | None
  client: str

  @property
  def role(self) -> str:
    """guest, or a role of `tables.ROLES`."""
    return 'guest' if self.user is None else self.user.role

  def may(self, role: str) -> bool:
    """Whether they have a role, or one above it."""
    return _RANKS[self.role] >= _RANKS[role]

  def require(self, role: str) -> accounts.User:
    """The person, who has a role or one above it.

    Raises:
      problems.Problem: E_LOGIN, E_FORBIDDEN.
    """
    if self.user is None:
      raise problems.Problem('E_LOGIN', 'Log in first.')
    if not self.may(role):
      raise problems.Problem(
        'E_FORBIDDEN', f'Only a {role} may do this; you are a {self.role}.'
      )
    return self.user


class People:
  """Finds out who asks, and logs them in and out."""

  def __init__(
    self,
    settings: settings_lib.Settings,
    db: Database,
    workers: workers_lib.Workers,
  ):
    self._settings = settings
    self._db = db
    self._workers = workers
    self._wrong = limits.Buckets(settings.logins_per_minute)

  async def visitor(
    self, request: requests.Request, fields: dict | None = None
  ) -> Visitor:
    """Who sends a request; of a change, that it is meant by them.

    Args:
      request: looked up once, however often this is called.
      fields: of its body, among which the token may be.

    Raises:
      problems.Problem: E_FORBIDDEN, a change without the token of the login.
    """
    state = request.scope['state']
    if 'visitor' not in state:
      state['visitor'] = await self._look_up(request)
    found = state['visitor']
    if found.user is not None and request.method in security.UNSAFE:
      security.check_token(found.csrf, request.headers, fields)
    return found

  async def uploader(
    self, request: requests.Request, fields: dict | None = None
  ) -> Visitor:
    """As `visitor`; a guest gets a name, to which the uploads are bound.

    Raises:
      problems.Problem: E_FORBIDDEN; E_LOGIN where guests may not predict.
    """
    found = await self.visitor(request, fields)
    if found.user is None and not self._settings.guests:
      raise problems.Problem('E_LOGIN', 'Log in first.')
    if found.owner is None:
      name = security.new_guest()
      found = dataclasses.replace(found, owner=f'guest:{name}')
      request.scope['state']['visitor'] = found
      request.scope['state']['cookies'].append(
        security.cookie('guest', name, self._settings, None)
      )
    return found

  async def log_in(
    self, request: requests.Request, name: str, password: str
  ) -> Visitor:
    """Logs somebody in, by a session that is always a new one.

    Raises:
      problems.Problem: E_LOGIN; E_RATE after too many wrong passwords.
    """
    client = limits.client_of(request.scope)
    # Spent before the answer is known, or many tries at once would be free.
    self._wrong.take(client)
    user = await self._workers.store(self._authenticated, name, password)
    if user is None:
      raise problems.Problem('E_LOGIN', 'The name or the password is wrong.')
    self._wrong.give_back(client)
    old = security.session_of(request.scope, self._settings)
    token, csrf = await self._workers.store(self._started, user, old)
    seconds = self._settings.session_s
    request.scope['state']['cookies'].append(
      security.cookie('session', token, self._settings, seconds)
    )
    found = Visitor(
      user=user, csrf=csrf, owner=f'user:{user.id}', client=f'user:{user.id}'
    )
    request.scope['state']['visitor'] = found
    return found

  async def log_out(
    self, request: requests.Request, fields: dict | None = None
  ) -> None:
    """Ends the login of a request, if it has one.

    Raises:
      problems.Problem: E_FORBIDDEN.
    """
    await self.visitor(request, fields)
    token = security.session_of(request.scope, self._settings)
    if token:
      await self._workers.store(self._ended, token)
    request.scope['state']['cookies'].append(
      security.cookie('session', '', self._settings, 0)
    )

  async def _look_up(self, request: requests.Request) -> Visitor:
    client = limits.client_of(request.scope)
    token = security.session_of(request.scope, self._settings)
    if token:
      found = await self._workers.store(self._who, token)
      if found is not None:
        user, csrf = found
        own = f'user:{user.id}'
        return Visitor(user=user, csrf=csrf, owner=own, client=own)
    guest = security.guest_of(request.scope, self._settings)
    return Visitor(
      user=None,
      csrf=None,
      owner=f'guest:{guest}' if guest else None,
      client=client,
    )

  def _who(self, token: str):
    with self._db.reading() as session:
      return accounts.who(session, token)

  def _authenticated(self, name: str, password: str):
    with self._db.reading() as session:
      return accounts.authenticate(session, name, password)

  def _started(self, user: accounts.User, old: str | None):
    with self._db.session() as session:
      if old:
        accounts.end(session, old)
      return accounts.start(session, user, self._settings.session_s)

  def _ended(self, token: str) -> None:
    with self._db.session() as session:
      accounts.end(session, token)
