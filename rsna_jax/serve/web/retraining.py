"""`rsna-jax retrain` as a process of its own, one at a time, for the button."""

import os
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.store import audit_log, database

_LOG_NAME = 'retrain.log'
_MOST_BYTES = 4096
_PATH = re.compile(r'(?<![\w/])/(?!/)[^\s:;,"\']+')
_STOP_S = 10.0


class Retraining:
  """Starts the command, and says how it goes."""

  def __init__(
    self,
    settings: settings_lib.Settings,
    db: database.Database,
    workdir: pathlib.Path | None,
  ):
    self._settings = settings
    self._db = db
    self.workdir = workdir
    self._lock = threading.Lock()
    self._process: subprocess.Popen | None = None

  def start(self, by: str = 'administrator') -> dict[str, Any]:
    """Starts it; `by` whom is for the audit log.

    Raises:
      problems.Problem: E_BUSY, one is under way.
    """
    with self._lock:
      if self._process is not None and self._process.poll() is None:
        raise problems.Problem(
          'E_BUSY', 'A retraining is under way; wait for its end.', 60
        )
      if self.workdir is None:
        raise problems.Problem(
          'E_UNUSABLE', 'The server was started without the run to learn from.'
        )
      with self._db.session() as session:
        audit_log.append(session, by, 'retrain.start', 'retrain', {})
      folder = self._settings.store / 'retrain'
      folder.mkdir(exist_ok=True)
      with (folder / _LOG_NAME).open('wb') as log:
        self._process = subprocess.Popen(
          [*self.command(), '--by', by],
          env=self._environment(),
          stdin=subprocess.DEVNULL,
          stdout=log,
          stderr=subprocess.STDOUT,
          start_new_session=True,
        )
    return self.state()

  def command(self) -> list[str]:
    """The command line."""
    command = [sys.executable, '-m', 'rsna_jax.cli', 'retrain']
    command += ['--store', str(self._settings.store)]
    command += ['--workdir', str(self.workdir)]
    return command

  def _environment(self) -> dict[str, str]:
    """With the database's URL, whose password no command line may show."""
    found = dict(os.environ)
    found.pop(settings_lib.DATABASE_VARIABLE, None)
    if self._settings.database:
      found[settings_lib.DATABASE_VARIABLE] = self._settings.database
    return found

  def state(self) -> dict[str, Any]:
    """Whether one is under way, how the last one ended, and its last line."""
    process = self._process
    code = None if process is None else process.poll()
    return {
      'running': process is not None and code is None,
      'exit_code': code,
      'said': '' if process is None else self._last_line(),
    }

  def stop(self) -> None:
    """Ends it in good order; the next one goes on where it was."""
    process = self._process
    if process is None or process.poll() is not None:
      return
    process.terminate()
    try:
      process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()

  def _last_line(self) -> str:
    path = self._settings.store / 'retrain' / _LOG_NAME
    try:
      with path.open('rb') as file:
        file.seek(max(0, path.stat().st_size - _MOST_BYTES))
        text = file.read().decode('utf-8', 'replace')
    except OSError:
      return ''
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1] if lines else ''
    # Where things lie on the server is nobody's business.
    return _PATH.sub('...', said)
