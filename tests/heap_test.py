"""What malloc keeps, seen by the pages that the system has to give again."""

import platform
import subprocess
import sys

import pytest

from rsna_jax import heap

_FAULTS = """
import resource, sys
import numpy as np
from rsna_jax import heap
if sys.argv[1] == 'keep':
  assert heap.keep({})
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.ones(2**23, np.float32)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(), faults()
print(min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='not glibc')
def test_memory_that_was_freed_is_there_without_a_fault():
  def run(what):
    done = subprocess.run(
      [sys.executable, '-c', _FAULTS, what],
      capture_output=True,
      text=True,
      check=True,
    )
    return int(done.stdout)

  # 32 MiB are 8,192 pages of 4 KiB, or 16 of 2 MiB.
  assert run('keep') < run('plain') / 4


@pytest.mark.parametrize(
  'environ',
  [
    {'MALLOC_ARENA_MAX': '2'},
    {'GLIBC_TUNABLES': 'glibc.malloc.trim_threshold=1'},
  ],
)
def test_settings_of_the_user_go_before(environ):
  assert not heap.keep(environ)


def test_another_c_library_is_left_alone(monkeypatch):
  monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
  assert not heap.keep({})
