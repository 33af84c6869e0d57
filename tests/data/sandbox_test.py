import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from rsna_jax import errors
from rsna_jax.data import sandbox

FUNCTIONS = """
import os, resource, signal, time
import numpy as np
from rsna_jax import errors

def work(item):
  what, value = item
  if what == 'double':
    return 2 * value
  if what == 'exit':
    os._exit(7)
  if what == 'kill':
    os.kill(os.getpid(), signal.SIGKILL)
  if what == 'hang':
    time.sleep(600)
  if what == 'allocate':
    return len(bytearray(value))
  if what == 'array':
    return {'a': np.arange(12).reshape(3, 4)[:, ::2], 'b': np.float32(2.5)}
  if what == 'input':
    raise errors.DataError('a.dcm: no pixels: leave it out')
  if what == 'fault':
    raise KeyError('gone')
  if what == 'object':
    return errors.DataError('not a plain value')
  if what == 'big':
    return bytes(value)
  if what == 'write':
    with open(value, 'wb') as file:
      file.write(bytes(2 ** 22))
  if what == 'pid':
    time.sleep(value)
    return os.getpid()
  if what == 'threads':
    return os.environ['OMP_NUM_THREADS']
"""


@pytest.fixture
def function(tmp_path, monkeypatch):
  (tmp_path / 'functions_of_a_test.py').write_text(FUNCTIONS)
  monkeypatch.syspath_prepend(tmp_path)
  return 'functions_of_a_test:work'


def _gone(pid):
  try:
    with open(f'/proc/{pid}/stat') as file:
      return file.read().rpartition(')')[2].split()[0] == 'Z'
  except FileNotFoundError:
    return True


def _wait_until(condition, seconds=20):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_a_crash_a_hang_and_an_error_cost_one_item_each(function):
  bad = {
    3: ('exit', None, 'exit code 7'),
    8: ('kill', None, 'SIGKILL'),
    12: ('hang', None, 'not done after 2 s'),
    17: ('input', None, 'a.dcm: no pixels: leave it out'),
    21: ('fault', None, "KeyError: 'gone'"),
    26: ('allocate', 2**40, 'memory'),
    29: ('object', None, 'DataError is not a plain value'),
  }
  items = [bad.get(i, ('double', i))[:2] for i in range(32)]
  with sandbox.Pool(function, 2, time_s=2) as pool:
    answers = list(pool.map(items, name=lambda item: f'<{item[0]}>'))
  assert [index for index, _ in answers] == list(range(32))
  for index, answer in answers:
    if index not in bad:
      assert answer == 2 * index
      continue
    what, _, reason = bad[index]
    assert isinstance(answer, sandbox.SandboxError)
    assert reason in str(answer)
    if what != 'input':
      assert str(answer).startswith(f'<{what}>: ')
    if what in ('exit', 'kill'):
      assert answer.about == {'exit': 'crash', 'kill': 'killed'}[what]


def test_memory_is_limited(function):
  with sandbox.Pool(function, memory_bytes=2**30) as pool:
    assert pool.call(('allocate', 2**28)) == 2**28
    with pytest.raises(sandbox.SandboxError, match=r'more than 1\.0 GB'):
      pool.call(('allocate', 2**30), name='b.dcm')
    assert pool.call(('double', 4)) == 8


def test_the_size_of_an_answer_is_limited(function, monkeypatch):
  monkeypatch.setattr(sandbox, 'RESULT_BYTES', 2**20)
  with sandbox.Pool(function) as pool:
    assert len(pool.call(('big', 2**19))) == 2**19
    with pytest.raises(sandbox.SandboxError, match='its result cannot'):
      pool.call(('big', 2**21))
    assert pool.call(('double', 4)) == 8


def test_arrays_come_back(function):
  with sandbox.Pool(function) as pool:
    found = pool.call(('array', None))
  np.testing.assert_array_equal(found['a'], np.arange(12).reshape(3, 4)[:, ::2])
  assert found['b'] == np.float32(2.5)


def test_a_child_computes_in_one_thread(function):
  with sandbox.Pool(function) as pool:
    assert pool.call(('threads', None)) == '1'


def test_a_child_cannot_fill_the_disk(function, tmp_path):
  path = tmp_path / 'out'
  with (
    sandbox.Pool(function) as pool,
    pytest.raises(sandbox.SandboxError, match='File too large'),
  ):
    pool.call(('write', str(path)))
  assert path.stat().st_size <= 2**20


def test_a_child_that_died_idle_costs_no_item(function):
  with sandbox.Pool(function) as pool:
    pid = pool.call(('pid', 0))
    os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: _gone(pid))
    assert pool.call(('double', 3)) == 6


def test_children_end_with_the_pool_even_at_work(function):
  with sandbox.Pool(function, 2) as pool:
    pid = pool.call(('pid', 0))
    start = time.monotonic()
    for _ in pool.map([('double', 1), *[('hang', None)] * 3]):
      break
  assert time.monotonic() - start < 20
  assert _gone(pid)
  with pytest.raises(sandbox.SandboxError):
    pool.call(('double', 1))


def test_children_end_with_a_parent_that_is_killed(function, tmp_path):
  code = f"""
    import sys
    sys.path.insert(0, {str(tmp_path)!r})
    from rsna_jax.data import sandbox
    pool = sandbox.Pool({function!r})
    print(pool.call(('pid', 0)), flush=True)
    sys.stdin.read()
  """
  parent = subprocess.Popen(
    [sys.executable, '-c', textwrap.dedent(code)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    cwd=pathlib.Path(__file__).parents[2],
  )
  with parent:
    pid = int(parent.stdout.readline())
    assert not _gone(pid)
    parent.kill()
  _wait_until(lambda: _gone(pid))


def test_ctrl_c_leaves_no_child_behind(function, tmp_path):
  # No __main__ guard, as in a notebook or a short script.
  script = tmp_path / 'script.py'
  script.write_text(
    f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\n'
    'from rsna_jax.data import sandbox\n'
    f'with sandbox.Pool({function!r}, 2) as pool:\n'
    "  for _, pid in pool.map([('pid', 0), *[('pid', 600)] * 4]):\n"
    '    print(pid, flush=True)\n'
  )
  parent = subprocess.Popen(
    [sys.executable, str(script)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env=os.environ | {'PYTHONPATH': str(pathlib.Path(__file__).parents[2])},
    start_new_session=True,
  )
  with parent:
    parent.stdout.readline()
    _wait_until(lambda: len(_children(parent.pid)) == 2)
    children = _children(parent.pid)
    start = time.monotonic()
    parent.send_signal(signal.SIGINT)
    parent.wait(30)
    assert time.monotonic() - start < 20
    assert b'KeyboardInterrupt' in parent.stderr.read()
  _wait_until(lambda: all(map(_gone, children)))


def _children(pid):
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = path.read_text().rpartition(')')[2].split()
    except OSError:
      continue
    if int(fields[1]) == pid:
      found.append(int(path.parent.name))
  return found


def test_a_function_that_is_not_there_is_a_fault_of_ours():
  with (
    sandbox.Pool('rsna_jax.data.sandbox:absent') as pool,
    pytest.raises(RuntimeError, match='absent'),
  ):
    pool.call(1)


def test_errors_are_input_errors():
  assert issubclass(sandbox.SandboxError, errors.InputError)
