"""People: passwords, logins, roles, and that none is taken by force."""

import pytest
import serve_store
import sqlalchemy as sa

from rsna_jax.serve import problems
from rsna_jax.serve.store import accounts, audit_log, tables


def _refused(call, code, *words):
  with pytest.raises(problems.Problem) as caught:
    call()
  assert caught.value.code == code
  for word in words:
    assert word in caught.value.message, caught.value.message


def test_the_right_password_and_no_other(store):
  with store.db.reading() as session:
    found = accounts.authenticate(session, 'other', serve_store.PASSWORD)
    assert found == store.other and found.role == 'contributor'
    for name, password in (
      ('other', serve_store.PASSWORD + ' '),
      ('other', serve_store.PASSWORD.upper()),
      ('other', ''),
      ('other', 'x' * 10_000),
      ('other', '\ud800' * 12),
      ('Other', serve_store.PASSWORD),
      ("other' OR '1'='1", serve_store.PASSWORD),
      ('nobody', serve_store.PASSWORD),
      ('', serve_store.PASSWORD),
      ('\0', serve_store.PASSWORD),
    ):
      assert accounts.authenticate(session, name, password) is None, name


def test_passwords_are_kept_as_argon2_alone(store):
  with store.db.reading() as session:
    hashes = session.scalars(sa.select(tables.User.password_hash)).all()
  assert len(set(hashes)) == 4  # the same password, salted
  assert all(one.startswith('$argon2id$') for one in hashes)


@pytest.mark.parametrize(
  ('name', 'password', 'role', 'field'),
  [
    ('', serve_store.PASSWORD, 'reviewer', 'name'),
    ('A', serve_store.PASSWORD, 'reviewer', 'name'),
    ('a' * 65, serve_store.PASSWORD, 'reviewer', 'name'),
    ('../x', serve_store.PASSWORD, 'reviewer', 'name'),
    ('a\n', serve_store.PASSWORD, 'reviewer', 'name'),
    ('é', serve_store.PASSWORD, 'reviewer', 'name'),
    ('other', serve_store.PASSWORD, 'reviewer', 'name'),
    ('new', 'short pas', 'reviewer', 'password'),
    ('new', 'x' * 257, 'reviewer', 'password'),
    ('new', 'aaaaaaaaaaaa', 'reviewer', 'password'),
    ('newbie', 'newbie newbie', 'reviewer', 'password'),
    ('new', '\ud800abcdefghijk', 'reviewer', 'password'),
    ('new', serve_store.PASSWORD, 'root', 'role'),
    ('new', serve_store.PASSWORD, '', 'role'),
  ],
)
def test_a_person_that_cannot_be_is_refused(
  sqlite_store, name, password, role, field
):
  with sqlite_store.db.session() as session:
    _refused(
      lambda: accounts.create(session, name, password, role), 'E_FIELD', field
    )
    assert len(accounts.all(session)) == 4


def test_a_login_is_known_by_its_token_until_it_ends(store):
  with store.db.session() as session:
    token, csrf = accounts.start(session, store.reviewer)
    other, _ = accounts.start(session, store.reviewer)
  with store.db.reading() as session:
    assert accounts.who(session, token) == (store.reviewer, csrf)
    for wrong in (token[:-1], token + 'a', '', csrf, '\ud800'):
      assert accounts.who(session, wrong) is None
    rows = session.scalars(sa.select(tables.Session)).all()
    assert token not in {value for row in rows for value in vars(row).values()}
  with store.db.session() as session:
    accounts.end(session, token)
    accounts.end(session, 'nobody')
  with store.db.reading() as session:
    assert accounts.who(session, token) is None
    assert accounts.who(session, other) is not None
    assert audit_log.verify(session) == []


def test_a_login_ends_by_itself(store):
  with store.db.session() as session:
    token, _ = accounts.start(session, store.reviewer, seconds=-1)
    assert accounts.who(session, token) is None
    accounts.start(session, store.reviewer)
    # And the row of the old one has been cleared.
    assert len(session.scalars(sa.select(tables.Session)).all()) == 1


@pytest.mark.parametrize(
  'change',
  [
    lambda session: accounts.set_password(session, 'other', 'another one 8'),
    lambda session: accounts.disable(session, 'other'),
  ],
  ids=['password', 'disable'],
)
def test_logins_end_with_the_password_and_with_the_person(store, change):
  with store.db.session() as session:
    token, _ = accounts.start(session, store.other)
    mine, _ = accounts.start(session, store.contributor)
    change(session)
  with store.db.reading() as session:
    assert accounts.who(session, token) is None
    assert accounts.who(session, mine) is not None
    found = accounts.authenticate(session, 'other', serve_store.PASSWORD)
    assert found is None


def test_a_disabled_person_comes_back_only_when_enabled(store):
  with store.db.session() as session:
    accounts.disable(session, 'other')
    accounts.enable(session, 'other')
    assert accounts.authenticate(session, 'other', serve_store.PASSWORD)


def test_a_role_holds_from_the_next_request_on(store):
  with store.db.session() as session:
    token, _ = accounts.start(session, store.reviewer)
    accounts.set_role(session, 'reviewer', 'contributor', by='administrator')
  with store.db.reading() as session:
    user, _ = accounts.who(session, token)
    assert user.role == 'contributor' and not user.reviews
    line = session.scalars(
      sa.select(tables.Audit).where(tables.Audit.action == 'user.role')
    ).one()
    assert line.actor == 'administrator'
    assert line.details == '{"from": "reviewer", "to": "contributor"}'


def test_the_last_administrator_stays(store):
  with store.db.session() as session:
    for call in (
      lambda: accounts.disable(session, 'administrator'),
      lambda: accounts.set_role(session, 'administrator', 'reviewer'),
    ):
      _refused(call, 'E_FIELD', 'only administrator')
    accounts.set_role(session, 'other', 'administrator')
    accounts.disable(session, 'administrator')
    _refused(lambda: accounts.set_role(session, 'other', 'reviewer'), 'E_FIELD')


@pytest.mark.parametrize('name', ['nobody', '', "x' OR '1'='1", '../x'])
def test_nobody_is_not_found(sqlite_store, name):
  with sqlite_store.db.session() as session:
    for call in (
      lambda: accounts.set_password(session, name, serve_store.PASSWORD),
      lambda: accounts.set_role(session, name, 'reviewer'),
      lambda: accounts.disable(session, name),
      lambda: accounts.enable(session, name),
    ):
      _refused(call, 'E_NOT_FOUND')
