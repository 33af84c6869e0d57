"""A real server: `rsna-jax serve` as a process, and clients of it."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

from rsna_jax.serve import accounts, database

PASSWORD = 'correct horse 7'
ROLES = ('contributor', 'reviewer', 'administrator')
START_S = 180
# Whom the process looks up or calls, a line each; and then the command itself.
_MAIN = """
import sys

calls = open(sys.argv.pop(1), 'a', buffering=1)

def heard(event, arguments):
  if event in ('socket.getaddrinfo', 'socket.gethostbyname', 'socket.connect'):
    calls.write(f'{event} {arguments!r}\\n')

sys.addaudithook(heard)
from rsna_jax import cli

cli.main()
"""


@dataclasses.dataclass
class Running:
  """A server that runs.

  Attributes:
    url: without a slash at the end.
    port: of it.
    process: of it.
    store: its folder.
    log: what it writes to standard error.
    calls: a line for each name that it looked up or address that it called.
  """

  url: str
  port: int
  process: subprocess.Popen
  store: pathlib.Path
  log: pathlib.Path
  calls: pathlib.Path

  def client(self, **options) -> httpx.Client:
    """A browser without cookies."""
    options = {'timeout': 60, **options}
    return httpx.Client(base_url=self.url, **options)

  @contextlib.contextmanager
  def logged_in(self, name: str) -> Iterator[httpx.Client]:
    """A browser of somebody who has logged in, with what changes need."""
    with self.client(headers={'Origin': self.url}) as client:
      answer = client.post(
        '/api/v1/login', json={'name': name, 'password': PASSWORD}
      )
      assert answer.status_code == 200, answer.text
      client.headers['X-CSRF-Token'] = answer.json()['csrf']
      yield client

  def raw(self, data: bytes, wait_s: float = 10) -> bytes:
    """What comes back on a bare connection until it ends."""
    with socket.create_connection(('127.0.0.1', self.port), wait_s) as one:
      one.sendall(data)
      return receive(one, wait_s)

  def stop(self, number: int = signal.SIGTERM) -> int:
    """Its exit code after a signal."""
    self.process.send_signal(number)
    return self.process.wait(60)

  def resident_bytes(self) -> int:
    """Memory of the server itself."""
    text = pathlib.Path(f'/proc/{self.process.pid}/status').read_text()
    line = next(x for x in text.splitlines() if x.startswith('VmRSS'))
    return int(line.split()[1]) * 1024


def receive(connection: socket.socket, wait_s: float = 10) -> bytes:
  """All that comes until the other side closes, or nothing more does."""
  connection.settimeout(wait_s)
  found = b''
  with contextlib.suppress(TimeoutError, ConnectionError):
    while chunk := connection.recv(65536):
      found += chunk
  return found


@contextlib.contextmanager
def running(
  workdir: pathlib.Path, folder: pathlib.Path, *pairs: str, wait: bool = True
) -> Iterator[Running]:
  """Starts a server with people of every role; ends it however it goes.

  Args:
    workdir: of the run.
    folder: in which the store and logs are made.
    pairs: settings, as in 'queue=3'.
    wait: until it is ready.
  """
  store, log, calls = folder / 'store', folder / 'log', folder / 'calls'
  store.mkdir(parents=True, exist_ok=True)
  add_people(store)
  command = [sys.executable, '-c', _MAIN, str(calls)]
  command += ['serve', '--workdir', str(workdir), '--store', str(store)]
  command += ['--port', '0']
  for pair in pairs:
    command += ['--set', pair]
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  with (
    log.open('a') as errors,
    subprocess.Popen(
      command,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
      env=environment,
    ) as process,
  ):
    try:
      line = process.stdout.readline()
      assert line.startswith('http://'), log.read_text()
      url = line.split()[0].rstrip('/')
      port = int(url.rpartition(':')[2])
      made = Running(url, port, process, store, log, calls)
      if wait:
        wait_until_ready(made)
      yield made
    finally:
      if process.poll() is None:
        process.kill()


def add_people(store: pathlib.Path) -> None:
  """One of each role, named as it, and another contributor."""
  db = database.Database(None, store)
  db.migrate()
  with db.session() as session:
    if not accounts.all(session):
      for name in ROLES:
        accounts.create(session, name, PASSWORD, name)
      accounts.create(session, 'other', PASSWORD, 'contributor')
  db.close()


def wait_until_ready(made: Running) -> None:
  end = time.monotonic() + START_S
  with made.client() as client:
    while time.monotonic() < end:
      if made.process.poll() is not None:
        break
      with contextlib.suppress(httpx.TransportError):
        if client.get('/ready').status_code == 200:
          return
      time.sleep(0.2)
  raise AssertionError(f'not ready: {made.log.read_text()}')
