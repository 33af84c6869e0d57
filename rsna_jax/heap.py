"""Keeps memory that was freed, so that the system need not give it again.

XLA on CPUs takes the memory of a step from malloc and gives it back after each.
glibc returns blocks of that size to the system, and the next step finds them
empty: each page of 4 KiB is a fault, some 20,000 for 88 MB. Where the C library
is another one, nothing is done.
"""

import ctypes
import os
import platform
from collections.abc import Mapping

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_NEVER_TRIMMED_BYTES = 2**31 - 1
_GROWS_BY_BYTES = 2**28


def keep(environ: Mapping[str, str] = os.environ) -> bool:
  """Makes malloc keep what was freed; call it before JAX is imported.

  Args:
    environ: a user's own `MALLOC_...` variables, or GLIBC_TUNABLES, go before.

  Returns:
    Whether it was done.
  """
  users_own = any(name.startswith('MALLOC_') for name in environ)
  users_own = users_own or 'malloc' in environ.get('GLIBC_TUNABLES', '')
  if users_own or platform.libc_ver()[0] != 'glibc':
    return False
  library = ctypes.CDLL(None)
  return all(
    library.mallopt(option, value)
    for option, value in (
      (_M_MMAP_MAX, 0),
      (_M_ARENA_MAX, 1),
      (_M_TRIM_THRESHOLD, _NEVER_TRIMMED_BYTES),
      (_M_TOP_PAD, _GROWS_BY_BYTES),
    )
  )
