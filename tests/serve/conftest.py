"""Stores on both kinds of database; PostgreSQL where it is installed."""

import browser
import pytest
import serve_postgres
import serve_site
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


@pytest.fixture(scope='session')
def site(tiny_data, tmp_path_factory):
  """A running server whose model rates density and cancer."""
  folder = tmp_path_factory.mktemp('site')
  run = serve_site.train(tiny_data, folder / 'run')
  with serve_site.serving(run, folder / 'store') as one:
    yield one


@pytest.fixture(scope='session')
def page_files(tmp_path_factory):
  """What `serve_site.write_files` writes."""
  return serve_site.write_files(tmp_path_factory.mktemp('files'))


@pytest.fixture(scope='session')
def chromium():
  """A browser for all tests of the page."""
  with browser.Browser() as one:
    yield one


@pytest.fixture
def page(chromium, site):
  """A guest's browser; afterwards it has asked nobody else for anything."""
  chromium.forget()
  chromium.scheme('light')
  chromium.history.clear()
  yield chromium
  own = site.address + '/', 'data:', 'blob:', 'about:blank'
  assert [x for x in chromium.history if not x.startswith(own)] == []
