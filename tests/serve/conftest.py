"""Stores on both kinds of database, and a server with a browser on it.

PostgreSQL is used where it is installed. A store is made once for each kind,
and copied for each test.
"""

import shutil

import browser
import pytest
import serve_hostile
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


@pytest.fixture(scope='session')
def sqlite_template(tmp_path_factory):
  folder = tmp_path_factory.mktemp('template') / 'store'
  serve_store.make(folder).db.close()
  return folder


@pytest.fixture(scope='session')
def postgres_template(tmp_path_factory, postgres_server):
  folder = tmp_path_factory.mktemp('template') / 'store'
  url = serve_postgres.create(postgres_server)
  serve_store.make(folder, url).db.close()
  return folder, url


@pytest.fixture
def sqlite_store(tmp_path, sqlite_template):
  """A store with people, in SQLite."""
  shutil.copytree(sqlite_template, tmp_path / 'store')
  made = serve_store.open_there(tmp_path / 'store', None)
  yield made
  made.db.close()


@pytest.fixture
def postgres_store(tmp_path, postgres_server, postgres_template):
  """A store with people, in PostgreSQL."""
  folder, template = postgres_template
  shutil.copytree(folder, tmp_path / 'store')
  url = serve_postgres.create(postgres_server, template)
  made = serve_store.open_there(tmp_path / 'store', url)
  yield made
  made.db.close()


@pytest.fixture(params=['sqlite', 'postgres'])
def store(request):
  """A store with people, on both kinds of database in turn."""
  return request.getfixturevalue(f'{request.param}_store')


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


def pytest_terminal_summary(terminalreporter):
  """How hostile uploads were answered."""
  if serve_hostile.ANSWERS:
    terminalreporter.section('hostile uploads')
    for line in serve_hostile.table(serve_hostile.ANSWERS):
      terminalreporter.write_line(line)
