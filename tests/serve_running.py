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

from rsna_jax.serve.store import accounts, database

PASSWORD = 'correct horse 7'
ROLES = ('contributor', 'reviewer', 'administrator')
START_S = 180
# Loaded by every Python that the command starts, itself included: a line of who
# it is, and one for each name it looks up or address it calls. A decoder has to
# do neither that nor anything else beside its pipe.
_HOOK = """
import os
import sys

_DECODER = any('sandbox_worker' in word for word in sys.orig_argv)
_WHO = f'{"decoder" if _DECODER else "server"} {os.getpid()}'
_CALLS = (
  'socket.getaddrinfo', 'socket.gethostbyname', 'socket.gethostbyaddr',
  'socket.connect', 'socket.sendto', 'socket.sendmsg',
)
_DEEDS = (
  'socket.__new__', 'subprocess.Popen', 'os.system', 'os.exec', 'os.fork',
  'os.posix_spawn', 'os.kill', 'os.rename', 'os.remove', 'os.mkdir',
)
_calls = os.open(
  os.environ['RSNA_JAX_TEST_CALLS'], os.O_WRONLY | os.O_APPEND | os.O_CREAT
)

# Python keeps what it compiles, and urllib3 looks whether there is IPv6.
def _importing():
  frame = sys._getframe(2)
  while frame and not frame.f_code.co_filename.startswith('<frozen importlib'):
    frame = frame.f_back
  return bool(frame)

def _hear(event, arguments):
  deed = event in _DEEDS or event == 'open' and (arguments[2] or 0) & (
    os.O_WRONLY | os.O_RDWR
  )
  if event in _CALLS or _DECODER and deed and not _importing():
    os.write(_calls, f'{_WHO} {event} {arguments!r}\\n'.encode())

os.write(_calls, f'{_WHO}\\n'.encode())
sys.addaudithook(_hear)
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
    calls: a line for each process of it, 'server' or 'decoder' and its id; and
      one for each name that it looked up or address that it called.
    temporary: where its temporary files go.
  """

  url: str
  port: int
  process: subprocess.Popen
  store: pathlib.Path
  log: pathlib.Path
  calls: pathlib.Path
  temporary: pathlib.Path

  def client(self, **options) -> httpx.Client:
    """A browser without cookies."""
    # Without the certificates, which take long to read and are of no use.
    options = {'timeout': 60, 'verify': False, **options}
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

  def figures(self) -> dict[str, float]:
    """What /metrics tells, by name and labels."""
    with self.client() as client:
      lines = client.get('/metrics').text.splitlines()
    rows = (line.rpartition(' ') for line in lines if not line.startswith('#'))
    return {name: float(value) for name, _, value in rows}

  def decoders(self) -> list[int]:
    """Ids of the child processes that decode, those that ended left out."""
    found = []
    for folder in pathlib.Path('/proc').glob('[0-9]*'):
      with contextlib.suppress(OSError):
        state = (folder / 'stat').read_text().rpartition(')')[2].split()
        ours = int(state[1]) == self.process.pid and state[0] != 'Z'
        if ours and b'sandbox_worker' in (folder / 'cmdline').read_bytes():
          found.append(int(folder.name))
    return found


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
  temporary = folder / 'temporary'
  temporary.mkdir(exist_ok=True)
  add_people(store)
  command = [sys.executable, '-m', 'rsna_jax.cli']
  command += ['serve', '--workdir', str(workdir), '--store', str(store)]
  command += ['--port', '0']
  for pair in pairs:
    command += ['--set', pair]
  environment = heard(folder / 'hook', calls)
  environment |= {'JAX_PLATFORMS': 'cpu', 'TMPDIR': str(temporary)}
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
      made = Running(url, port, process, store, log, calls, temporary)
      if wait:
        wait_until_ready(made)
      yield made
    finally:
      if process.poll() is None:
        process.kill()


def heard(folder: pathlib.Path, calls: pathlib.Path) -> dict[str, str]:
  """Variables under which processes write to `calls` what they do."""
  folder.mkdir(exist_ok=True)
  (folder / 'sitecustomize.py').write_text(_HOOK)
  path = [str(folder), *filter(None, [os.environ.get('PYTHONPATH')])]
  return {
    **os.environ,
    'PYTHONPATH': os.pathsep.join(path),
    'RSNA_JAX_TEST_CALLS': str(calls),
  }


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
