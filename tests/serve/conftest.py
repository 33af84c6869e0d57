"""Stores on both kinds of database; PostgreSQL where it is installed."""

import pytest
import serve_postgres
import serve_store


@pytest.fixture(scope='session')
def postgres_server():
  if serve_postgres.programs() is None:
    pytest.skip('PostgreSQL is not installed: initdb is in no usual folder')
  with serve_postgres.running() as url:
    yield url


@pytest.fixture(params=['sqlite', 'postgresql'])
def database_url(request):
  """URL of an empty database; None for SQLite in the store."""
  if request.param == 'sqlite':
    return None
  return serve_postgres.create(request.getfixturevalue('postgres_server'))


@pytest.fixture
def store(tmp_path, database_url):
  """A store with people, on both kinds of database in turn."""
  made = serve_store.make(tmp_path / 'store', database_url)
  yield made
  made.db.close()


@pytest.fixture
def sqlite_store(tmp_path):
  """A store with people, in SQLite."""
  made = serve_store.make(tmp_path / 'store')
  yield made
  made.db.close()
