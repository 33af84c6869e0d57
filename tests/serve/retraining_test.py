import dataclasses
import sys
import time

import pytest

from rsna_jax.serve import problems
from rsna_jax.serve import settings as settings_lib
from rsna_jax.serve.store import database
from rsna_jax.serve.web import retraining

_URL = 'postgresql://someone:secret@127.0.0.1/store'


class _Printing(retraining.Retraining):
  """Runs a line of Python in the place of the command."""

  line = f"import os; print(os.environ['{settings_lib.DATABASE_VARIABLE}'])"

  def command(self):
    self.real = super().command()
    return [sys.executable, '-c', self.line]


@pytest.fixture
def made(tmp_path):
  db = database.Database(None, tmp_path)
  db.migrate()
  settings = settings_lib.Settings(store=tmp_path)
  yield lambda kind, **changes: kind(
    dataclasses.replace(settings, **changes), db, tmp_path / 'run'
  )
  db.close()


def _ended(one):
  end = time.monotonic() + 60
  while one.state()['running']:
    assert time.monotonic() < end
    time.sleep(0.05)
  return one.state()


def test_the_password_of_the_database_is_on_no_command_line(made):
  one = made(_Printing, database=_URL)
  one.start()
  assert _ended(one) == {'running': False, 'exit_code': 0, 'said': _URL}
  assert 'retrain' in one.real
  assert not any('secret' in word for word in one.real)


def test_it_is_asked_for_in_a_name_and_shows_no_path(made):
  one = made(_Printing)
  one.line = (
    'import sys; '
    "print(sys.argv[1:], 'error: /srv/x/data: gone, see /a/b.', 'his/hers')"
  )
  one.start('anna')
  assert _ended(one)['said'] == (
    "['--by', 'anna'] error: ...: gone, see ... his/hers"
  )


def test_one_retraining_at_a_time_and_it_ends_with_the_server(made):
  one = made(_Printing)
  one.line = 'import time; time.sleep(600)'
  one.start()
  with pytest.raises(problems.Problem) as caught:
    one.start()
  assert caught.value.code == 'E_BUSY'
  one.stop()
  state = one.state()
  assert not state['running'] and state['exit_code'] == -15
