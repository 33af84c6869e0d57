"""Keeps compiled programs on disk, so that the next process need not compile.

JAX does it; what it is told stands in environment variables, so JAX is not
imported for it, and processes that a command starts share it. Programs for CPUs
hold instructions of the CPU that compiled them, which JAX's own key does not
name: each kind of CPU has a folder of its own.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import stat
import sys
import warnings
from collections.abc import MutableMapping

LARGEST_BYTES = 2 * 2**30
_FOLDER = 'JAX_COMPILATION_CACHE_DIR'
_SWITCH = 'JAX_ENABLE_COMPILATION_CACHE'
# What compiles faster than this is not worth a file.
_SHORTEST = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
_SHORTEST_S = '0.1'


def turn_on(environ: MutableMapping[str, str] = os.environ) -> str | None:
  """Turns the cache on, before JAX is imported.

  It lies below `XDG_CACHE_HOME`, or ~/.cache; `JAX_COMPILATION_CACHE_DIR` names
  another folder, and `JAX_ENABLE_COMPILATION_CACHE=0` turns it off. A folder
  that cannot be written, or that others may write, since programs are loaded
  from it, is not used.

  Returns:
    The folder; None without a cache.
  """
  if environ.get(_SWITCH, '1').lower() in ('0', 'false', 'no', 'off', ''):
    return None
  folder = environ.get(_FOLDER)
  if not folder:
    folder = _own_folder(environ)
    if folder is None:
      return None
    environ[_FOLDER] = folder
  environ.setdefault(_SHORTEST, _SHORTEST_S)
  # What cannot be read, or written, is compiled: no news for whoever trains.
  warnings.filterwarnings(
    'ignore', 'Error (reading|writing) persistent compilation cache'
  )
  if environ is os.environ and 'jax' in sys.modules:
    import jax

    jax.config.update('jax_compilation_cache_dir', folder)
    jax.config.update(
      'jax_persistent_cache_min_compile_time_secs', float(environ[_SHORTEST])
    )
  return folder


def prune(folder: str | os.PathLike, largest: int = LARGEST_BYTES) -> None:
  """Removes the files longest unused while there are more than `largest` bytes.

  Other processes may do the same at the same time.
  """
  found = []
  with contextlib.suppress(OSError):
    for file in pathlib.Path(folder).iterdir():
      with contextlib.suppress(OSError):
        about = file.stat()
        # File systems that keep no time of access keep that of writing.
        used = max(about.st_atime, about.st_mtime)
        found.append((used, about.st_size, file))
  total = sum(size for _, size, _ in found)
  for _, size, file in sorted(found):
    if total <= largest:
      break
    with contextlib.suppress(OSError):
      file.unlink()
    total -= size


def _own_folder(environ: MutableMapping[str, str]) -> str | None:
  base = environ.get('XDG_CACHE_HOME')
  # A relative one is invalid by the XDG Base Directory Specification.
  if not base or not os.path.isabs(base):
    base = os.path.expanduser('~/.cache')
    if not os.path.isabs(base):
      return None
  folder = pathlib.Path(base, 'rsna_jax', 'programs', _cpu())
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
  except OSError:
    return None
  if about.st_uid != os.getuid() or about.st_mode & (
    stat.S_IWGRP | stat.S_IWOTH
  ):
    return None
  if not os.access(folder, os.W_OK | os.X_OK):
    return None
  prune(folder)
  return str(folder)


def _cpu() -> str:
  """A name for the instructions that this CPU has."""
  found = [platform.system(), platform.machine()]
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    for key in ('model name', 'flags', 'Features', 'CPU implementer'):
      found += [line for line in lines if line.startswith(key)][:1]
  return hashlib.sha256('\n'.join(found).encode()).hexdigest()[:16]
