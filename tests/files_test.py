import errno
import json
import os
import pathlib
import resource
import subprocess
import sys

import pytest

from rsna_jax import errors, files

_ROOT = pathlib.Path(__file__).parent.parent


def test_what_is_written_is_read_back_and_nothing_else_is_left(tmp_path):
  path = tmp_path / 'new' / 'folder' / 'file.txt'
  files.write_text(path, 'grüße\n')
  assert path.read_bytes() == 'grüße\n'.encode()
  files.write_bytes(str(path), b'\0\1')
  assert path.read_bytes() == b'\0\1'
  assert [p.name for p in path.parent.iterdir()] == ['file.txt']


def test_files_get_the_rights_that_open_would_give(tmp_path):
  files.write_bytes(tmp_path / 'a', b'')
  with (tmp_path / 'b').open('wb'):
    pass
  modes = [(tmp_path / name).stat().st_mode for name in 'ab']
  assert modes[0] == modes[1]


@pytest.mark.parametrize('call', ['fsync', 'replace', 'chmod'])
def test_a_failure_leaves_the_old_file_and_no_other(
  tmp_path, monkeypatch, call
):
  path = tmp_path / 'file'
  files.write_bytes(path, b'old')

  def fail(*args, **kwargs):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, call, fail)
  with pytest.raises(OSError, match='No space left') as caught:
    files.write_bytes(path, b'new')
  assert caught.value.filename == str(path)
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path):
  path = tmp_path / 'file'
  files.write_bytes(path, b'old')
  # A limit on the size of files stands for a full disk.
  code = (
    'import resource, signal, sys\n'
    'from rsna_jax import files\n'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))\n'
    'try:\n  files.write_bytes(sys.argv[1], bytes(100_000))\n'
    'except OSError as error:\n  print(error.filename)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, str(path)],
    capture_output=True,
    text=True,
    cwd=_ROOT,
  )
  assert done.stdout.strip() == str(path), done.stderr
  assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]
  assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_an_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
  def interrupt(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, 'fsync', interrupt)
  with pytest.raises(KeyboardInterrupt):
    files.write_bytes(tmp_path / 'file', b'new')
  assert not list(tmp_path.iterdir())


def test_json_is_strict(tmp_path):
  files.write_json(tmp_path / 'a.json', {'b': [1, 2.5, None]})
  assert json.loads((tmp_path / 'a.json').read_text()) == {'b': [1, 2.5, None]}
  with pytest.raises(ValueError, match='JSON'):
    files.write_json(tmp_path / 'c.json', float('nan'))
  assert not (tmp_path / 'c.json').exists()


def test_a_folder_that_nothing_came_of_is_taken_away_again(tmp_path):
  (tmp_path / 'old').mkdir()
  for name in ('old', 'a/b/c', 'full'):
    with pytest.raises(KeyError), files.folder(tmp_path / name) as made:
      assert made.is_dir()
      if name == 'full':
        (made / 'file').write_text('kept')
      raise KeyError
  assert sorted(x.name for x in tmp_path.iterdir()) == ['full', 'old']
  with files.folder(tmp_path / 'd' / 'e') as made:
    pass
  assert made.is_dir()


def test_a_folder_without_a_name_or_in_the_place_of_a_file_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.ConfigError, match='--out is empty'):
    files.folder('').__enter__()
  for name in ('file', 'file/below'):
    with pytest.raises(OSError), files.folder(tmp_path / name):
      pass
  assert (tmp_path / 'file').is_file()
