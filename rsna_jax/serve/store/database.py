"""One database: SQLite in the store, or PostgreSQL by URL.

Writers stand in a line, in both: SQLite has one writer anyhow (BEGIN IMMEDIATE,
so that a transaction never fails halfway for having read first), and in
PostgreSQL an advisory lock makes the same promise, on which the audit chain and
the order of files and rows stand.
"""

import contextlib
import errno
import os
import pathlib
import threading
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import command, config
from alembic.runtime import migration
from alembic.script import ScriptDirectory
from sqlalchemy import exc, orm

from rsna_jax import errors
from rsna_jax.serve.store import tables

NAME = 'store.db'
_MIGRATIONS = pathlib.Path(__file__).parent / 'migrations'
_BUSY_S = 60.0
_LOCK = 0x72736E61  # of PostgreSQL's advisory locks: 'rsna'
_POOL = 16


class Database:
  """The database of a store; safe for any number of threads."""

  def __init__(self, url: str | None, store: str | os.PathLike):
    """Connects; nothing is created but the folder and SQLite's file.

    Args:
      url: postgresql://USER:PASSWORD@HOST/NAME; None: SQLite in the store.
      store: the folder.

    Raises:
      errors.ConfigError: the URL is not one, or of another kind of database.
    """
    self.store = pathlib.Path(store).absolute()
    self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    self.url = _url(url, self.store)
    self.is_sqlite = self.url.get_backend_name() == 'sqlite'
    options = {'pool_size': _POOL, 'max_overflow': 2 * _POOL}
    if self.is_sqlite:
      options['connect_args'] = {'timeout': _BUSY_S, 'check_same_thread': False}
    else:
      options['pool_pre_ping'] = True
    # SQL with its values never reaches a log: notes may be among them.
    self._engine = sa.create_engine(
      self.url, hide_parameters=True, pool_timeout=_BUSY_S, **options
    )
    if self.is_sqlite:
      sa.event.listen(self._engine, 'connect', _set_up_sqlite)
      sa.event.listen(self._engine, 'begin', _begin_sqlite)
    self._writers = orm.sessionmaker(
      self._engine.execution_options(writes=True),
      expire_on_commit=False,
      info={'store': self.store},
    )
    self._readers = orm.sessionmaker(
      self._engine if self.is_sqlite else _steady(self._engine),
      expire_on_commit=False,
      autoflush=False,
      info={'store': self.store},
    )
    self._line = threading.Lock()
    self._mine = threading.local()

  @contextlib.contextmanager
  def session(self) -> Iterator[orm.Session]:
    """A transaction that writes: commits at the end, or is as if never begun.

    One at a time: what is read in it stays true until it ends. Not to be
    nested in itself.

    Raises:
      OSError: ENOSPC, the disk is full; nothing was changed.
    """
    if getattr(self._mine, 'inside', False):
      raise RuntimeError('a writing session within a writing session')
    with self._line:  # fair, where SQLite's own waiting is not
      self._mine.inside = True
      try:
        with _full_disks(self.store), self._writers.begin() as session:
          if not self.is_sqlite:
            session.execute(
              sa.text('SELECT pg_advisory_xact_lock(:key)'), {'key': _LOCK}
            )
          yield session
      finally:
        self._mine.inside = False

  @contextlib.contextmanager
  def reading(self) -> Iterator[orm.Session]:
    """A transaction that reads one state of all tables, beside any writer."""
    with self._readers() as session:
      yield session
      session.expunge_all()  # rows stay readable after the transaction
      session.rollback()

  def migrate(self, revision: str = 'head') -> None:
    """Brings the tables to the form that this version of the code wants.

    Raises:
      errors.DataError: a later version of the code made them.
    """
    settings = _alembic()
    script = ScriptDirectory.from_config(settings)
    known = {one.revision for one in script.walk_revisions()}
    with self.session() as session:
      connection = session.connection()
      current = migration.MigrationContext.configure(
        connection
      ).get_current_revision()
      if current is not None and current not in known:
        raise errors.DataError(
          f'the database is of revision {current}, which this version of '
          'rsna_jax does not know; install the one that made it, or a later'
        )
      settings.attributes['connection'] = connection
      command.upgrade(settings, revision)

  def revision(self) -> str | None:
    """The form that the tables have; None: there are none."""
    with self.reading() as session:
      return migration.MigrationContext.configure(
        session.connection()
      ).get_current_revision()

  def check(self) -> list[str]:
    """What is wrong with the database itself, a sentence each."""
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    current = self.revision()
    if current != head:
      return [
        f'database: its tables are of revision {current}, not {head}; start '
        'the server once, and they are brought up to date'
      ]
    found = []
    with self.reading() as session:
      if self.is_sqlite:
        for (line,) in session.execute(sa.text('PRAGMA integrity_check')):
          if line != 'ok':
            found.append(f'database: {line}')
        for row in session.execute(sa.text('PRAGMA foreign_key_check')):
          found.append(
            f'database: row {row[1]} of {row[0]} names one of {row[2]} that '
            'is not there'
          )
      else:
        session.execute(sa.select(sa.func.count()).select_from(tables.Audit))
    return found

  def close(self) -> None:
    """Closes the connections that are idle."""
    self._engine.dispose()


def _url(text: str | None, store: pathlib.Path) -> sa.URL:
  if text is None:
    return sa.URL.create('sqlite', database=str(store / NAME))
  try:
    url = sa.make_url(text)
  except (exc.ArgumentError, ValueError) as error:
    raise errors.ConfigError(
      '--database: not a URL; write postgresql://USER:PASSWORD@HOST/NAME'
    ) from error
  if url.drivername not in ('postgresql', 'postgres', 'postgresql+pg8000'):
    raise errors.ConfigError(
      f'--database: {url.drivername} is not supported; write '
      'postgresql://USER:PASSWORD@HOST/NAME, or leave it out for SQLite'
    )
  try:
    import pg8000  # noqa: F401
  except ImportError as error:
    raise errors.ConfigError(
      '--database: pg8000 is not installed: pip install "rsna_jax[postgres]"'
    ) from error
  return url.set(drivername='postgresql+pg8000')


def _alembic() -> config.Config:
  settings = config.Config()
  # A per cent sign in the path would be read as an interpolation.
  settings.set_main_option(
    'script_location', str(_MIGRATIONS).replace('%', '%%')
  )
  return settings


def _steady(engine: sa.Engine) -> sa.Engine:
  return engine.execution_options(
    isolation_level='REPEATABLE READ', postgresql_readonly=True
  )


def _set_up_sqlite(connection, record) -> None:
  # BEGIN is ours: the driver's own comes too late, and is not IMMEDIATE.
  connection.isolation_level = None
  cursor = connection.cursor()
  for pragma in (
    f'busy_timeout = {int(_BUSY_S * 1000)}',
    'journal_mode = WAL',
    'synchronous = FULL',
    'foreign_keys = ON',
    'trusted_schema = OFF',
    'secure_delete = ON',  # what was deleted is overwritten
  ):
    cursor.execute(f'PRAGMA {pragma}')
  cursor.close()


def _begin_sqlite(connection) -> None:
  writes = connection.get_execution_options().get('writes', False)
  connection.exec_driver_sql('BEGIN IMMEDIATE' if writes else 'BEGIN')


@contextlib.contextmanager
def _full_disks(store: pathlib.Path) -> Iterator[None]:
  """Says of a full disk what the operating system would."""
  try:
    yield
  except exc.DBAPIError as error:
    text = str(error.orig)
    if 'disk is full' in text or 'No space left' in text or '53100' in text:
      raise OSError(
        errno.ENOSPC, os.strerror(errno.ENOSPC), str(store)
      ) from error
    if 'readonly database' in text:
      raise OSError(
        errno.EROFS, os.strerror(errno.EROFS), str(store)
      ) from error
    raise
