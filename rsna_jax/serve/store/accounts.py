"""People, their passwords (argon2) and their logins."""

import dataclasses
import datetime
import hashlib
import re
import secrets
import threading

import argon2
import sqlalchemy as sa
from sqlalchemy import orm

from rsna_jax.serve import problems
from rsna_jax.serve.store import audit_log, tables

PASSWORD_LENGTHS = (10, 256)
_NAME = re.compile(r'[a-z0-9._-]{1,64}')
# OWASP's second choice: 19 MiB, so that many may log in at the same time.
_HASHER = argon2.PasswordHasher(
  time_cost=2, memory_cost=19 * 1024, parallelism=1
)
_HASHING = threading.BoundedSemaphore(4)
# Of nobody, so that an unknown name takes as long as a wrong password.
_NOBODY = _HASHER.hash(secrets.token_urlsafe(32))


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
  """A person, detached from the database.

  Attributes:
    id: of the row.
    name: with which they log in.
    role: contributor | reviewer | administrator.
    disabled: whether they may not log in.
    created_at: ISO time.
  """

  id: int
  name: str
  role: str
  disabled: bool
  created_at: str

  @property
  def reviews(self) -> bool:
    """Whether they judge what others have submitted."""
    return self.role in ('reviewer', 'administrator')

  @property
  def administers(self) -> bool:
    return self.role == 'administrator'


def create(
  session: orm.Session,
  name: str,
  password: str,
  role: str,
  by: str = 'command line',
) -> User:
  """Adds a person.

  Args:
    session: one that writes.
    name: 1 to 64 of a-z, 0-9, dot, underscore and hyphen.
    password: 10 to 256 characters.
    role: one of `tables.ROLES`.
    by: who does it, for the audit log.

  Raises:
    problems.Problem: E_FIELD, one of them cannot be; the name is taken.
  """
  if not isinstance(name, str) or not _NAME.fullmatch(name):
    raise problems.Problem(
      'E_FIELD',
      'name: take 1 to 64 of a-z, 0-9, dot, underscore and hyphen.',
    )
  _check_role(role)
  if _row(session, name) is not None:
    raise problems.Problem('E_FIELD', f'name: {name} is taken; choose another.')
  row = tables.User(
    name=name, password_hash=_hashed(name, password), role=role, disabled=False
  )
  session.add(row)
  session.flush()
  audit_log.append(session, by, 'user.create', name, {'role': role})
  return _user(row)


def authenticate(session: orm.Session, name: str, password: str) -> User | None:
  """The person, if the password is theirs and they are not disabled.

  It takes as long for a name that nobody has. The session may be one that
  reads; the caller limits how often it is tried.
  """
  row = _row(session, name) if _NAME.fullmatch(name) else None
  right = _verified(_NOBODY if row is None else row.password_hash, password)
  if row is None or not right or row.disabled:
    return None
  return _user(row)


def start(
  session: orm.Session, user: User, seconds: float = 12 * 3600.0
) -> tuple[str, str]:
  """Logs a person in.

  Returns:
    The token for the cookie, of which the database keeps a hash alone, and the
    token that forms have to carry.
  """
  token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
  now = tables.now()
  session.execute(
    sa.delete(tables.Session).where(tables.Session.expires_at <= now)
  )
  session.add(
    tables.Session(
      token_sha256=_token_sha256(token),
      user_id=user.id,
      csrf=csrf,
      created_at=now,
      expires_at=_later(seconds),
    )
  )
  audit_log.append(session, user.name, 'user.login', user.name, {})
  return token, csrf


def who(session: orm.Session, token: str) -> tuple[User, str] | None:
  """Whose token it is, and the token of their forms; None: nobody's."""
  row = session.get(tables.Session, _token_sha256(token))
  if row is None or row.expires_at <= tables.now():
    return None
  user = session.get(tables.User, row.user_id)
  if user is None or user.disabled:
    return None
  return _user(user), row.csrf


def end(session: orm.Session, token: str) -> None:
  """Logs out; a token that is nobody's is passed over."""
  row = session.get(tables.Session, _token_sha256(token))
  if row is not None:
    user = session.get(tables.User, row.user_id)
    session.delete(row)
    audit_log.append(session, user.name, 'user.logout', user.name, {})


def set_password(
  session: orm.Session, name: str, password: str, by: str = 'command line'
) -> None:
  """Gives a person another password, and ends their logins.

  Raises:
    problems.Problem: E_NOT_FOUND, E_FIELD.
  """
  row = _existing(session, name)
  row.password_hash = _hashed(name, password)
  _end_all(session, row)
  audit_log.append(session, by, 'user.password', name, {})


def set_role(
  session: orm.Session, name: str, role: str, by: str = 'command line'
) -> None:
  """Gives a person another role; it holds from their next request on.

  Raises:
    problems.Problem: E_NOT_FOUND; E_FIELD: no such role, or nobody would be
      left to administer.
  """
  _check_role(role)
  row = _existing(session, name)
  if role != 'administrator':
    _keep_an_administrator(session, row)
  before, row.role = row.role, role
  audit_log.append(session, by, 'user.role', name, {'from': before, 'to': role})


def disable(session: orm.Session, name: str, by: str = 'command line') -> None:
  """Shuts a person out at once; what they did stays.

  Raises:
    problems.Problem: E_NOT_FOUND; E_FIELD: nobody would be left to administer.
  """
  row = _existing(session, name)
  _keep_an_administrator(session, row)
  row.disabled = True
  _end_all(session, row)
  audit_log.append(session, by, 'user.disable', name, {})


def enable(session: orm.Session, name: str, by: str = 'command line') -> None:
  """Lets a person in again.

  Raises:
    problems.Problem: E_NOT_FOUND.
  """
  _existing(session, name).disabled = False
  audit_log.append(session, by, 'user.enable', name, {})


def all(session: orm.Session) -> list[User]:
  """Everybody, by name."""
  rows = session.scalars(sa.select(tables.User).order_by(tables.User.name))
  return [_user(row) for row in rows]


def _user(row: tables.User) -> User:
  return User(
    id=row.id,
    name=row.name,
    role=row.role,
    disabled=row.disabled,
    created_at=row.created_at,
  )


def _row(session: orm.Session, name: str) -> tables.User | None:
  return session.scalar(sa.select(tables.User).where(tables.User.name == name))


def _existing(session: orm.Session, name: str) -> tables.User:
  row = _row(session, name) if _NAME.fullmatch(name) else None
  if row is None:
    raise problems.Problem('E_NOT_FOUND', 'name: there is nobody of this name.')
  return row


def _check_role(role: str) -> None:
  if role not in tables.ROLES:
    raise problems.Problem(
      'E_FIELD', f'role: choose one of {", ".join(tables.ROLES)}.'
    )


def _keep_an_administrator(session: orm.Session, row: tables.User) -> None:
  others = sa.select(sa.func.count()).where(
    tables.User.role == 'administrator',
    tables.User.disabled.is_(False),
    tables.User.id != row.id,
  )
  if row.role == 'administrator' and not session.scalar(others):
    raise problems.Problem(
      'E_FIELD',
      f'name: {row.name} is the only administrator; make another one first.',
    )


def _end_all(session: orm.Session, row: tables.User) -> None:
  session.execute(
    sa.delete(tables.Session).where(tables.Session.user_id == row.id)
  )


def _hashed(name: str, password: str) -> str:
  least, most = PASSWORD_LENGTHS
  if not least <= len(password) <= most:
    raise problems.Problem(
      'E_FIELD', f'password: take {least} to {most} characters.'
    )
  # Also for a name that is written twice, and the like.
  if len(set(password.lower().replace(name, ''))) < 4:
    raise problems.Problem(
      'E_FIELD',
      'password: take at least 4 different characters beside the name.',
    )
  try:
    with _HASHING:
      return _HASHER.hash(password.encode('utf-8'))
  except UnicodeEncodeError as error:
    raise problems.Problem(
      'E_FIELD', 'password: it has a broken character; type it again.'
    ) from error


def _verified(password_hash: str, password: str) -> bool:
  if len(password) > PASSWORD_LENGTHS[1]:
    password = ''  # too long to be one, and it takes as long as another
  try:
    with _HASHING:
      return _HASHER.verify(
        password_hash, password.encode('utf-8', 'surrogatepass')
      )
  except argon2.exceptions.VerificationError:
    return False


def _token_sha256(token: str) -> str:
  return hashlib.sha256(token.encode('utf-8', 'replace')).hexdigest()


def _later(seconds: float) -> str:
  at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
  return at.strftime('%Y-%m-%dT%H:%M:%S.%fZ')
