"""A PostgreSQL server of the tests' own, where one is installed."""

import contextlib
import getpass
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator

_FOLDERS = ('/usr/lib/postgresql/*/bin', '/usr/pgsql-*/bin', '/usr/local/bin')


def programs() -> pathlib.Path | None:
  """The folder of initdb and postgres; None: PostgreSQL is not installed."""
  found = shutil.which('initdb')
  if found:
    return pathlib.Path(found).resolve().parent
  for pattern in _FOLDERS:
    for path in sorted(pathlib.Path('/').glob(pattern[1:]), reverse=True):
      if (path / 'initdb').is_file():
        return path
  return None


@contextlib.contextmanager
def running() -> Iterator[str]:
  """A server on a free port of this machine; yields its URL without a name."""
  bin_folder = programs()
  folder = pathlib.Path(tempfile.mkdtemp(prefix='rsna_jax_postgres_'))
  as_whom = {}
  name = getpass.getuser()
  if os.getuid() == 0:  # as which it refuses to run
    name = _somebody()
    who = pwd.getpwnam(name)
    os.chown(folder, who.pw_uid, who.pw_gid)
    as_whom = {'user': who.pw_uid, 'group': who.pw_gid, 'extra_groups': []}
  how = as_whom | {'cwd': folder, 'check': True, 'capture_output': True}
  data = folder / 'data'
  try:
    subprocess.run(
      [
        bin_folder / 'initdb',
        *('-D', data, '-U', 'tester', '-A', 'trust', '-E', 'UTF8'),
        *('--no-locale', '--no-sync'),
      ],
      **how,
    )
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      port = free.getsockname()[1]
    options = (
      f'-p {port} -h 127.0.0.1 -k {folder} -c fsync=off '
      '-c max_connections=120 -c shared_buffers=16MB'
    )
    start = [bin_folder / 'pg_ctl', '-D', data, '-w', '-t', '60']
    subprocess.run(
      [*start, '-l', folder / 'log', '-o', options, 'start'],
      **how | {'capture_output': False, 'stdout': subprocess.DEVNULL},
    )
    try:
      yield f'postgresql://tester@127.0.0.1:{port}'
    finally:
      subprocess.run(
        [bin_folder / 'pg_ctl', '-D', data, '-m', 'immediate', 'stop'], **how
      )
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def create(server: str, template: str | None = None) -> str:
  """URL of a new database: empty, or as one that nobody is connected to."""
  import pg8000.dbapi

  name = f'store_{uuid.uuid4().hex}'
  port = int(server.rpartition(':')[2])
  connection = pg8000.dbapi.connect(
    'tester', host='127.0.0.1', port=port, database='postgres'
  )
  connection.autocommit = True
  like = ''
  if template is not None:
    like = f' TEMPLATE {template.rpartition("/")[2]} STRATEGY wal_log'
  connection.cursor().execute(f'CREATE DATABASE {name}{like}')
  connection.close()
  return f'{server}/{name}'


def _somebody() -> str:
  for name in ('postgres', 'nobody'):
    with contextlib.suppress(KeyError):
      return pwd.getpwnam(name).pw_name
  raise RuntimeError('no user postgres or nobody to run PostgreSQL as')
