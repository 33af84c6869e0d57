"""Trees of arrays as files, by Orbax: the one module that knows it."""

import errno
import os
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class OtherArrays(ValueError):
  """A file holds arrays of other names or shapes; says which."""


def write(path: pathlib.Path, tree: Any) -> None:
  """Writes a tree of numpy arrays, from the first of several processes.

  Raises:
    OSError: the disk is full, or the folder cannot be written.
  """
  try:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as orbax:
      orbax.save(path, args=ocp.args.PyTreeSave(tree))
  except ValueError as error:
    # tensorstore reports a full disk as a ValueError.
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
      if os.strerror(code) in str(error) or errno.errorcode[code] in str(error):
        raise OSError(code, os.strerror(code), str(path)) from error
    raise


def read(path: pathlib.Path, like: Any) -> Any:
  """Reads what `write` wrote, as numpy arrays.

  Args:
    path: as given to `write`.
    like: a tree of the same structure; its leaves' shapes are required.

  Raises:
    OtherArrays: there are others.
    ValueError, KeyError, TypeError, OSError: the files are damaged.
  """
  template = jax.tree.map(
    lambda leaf: (
      np.zeros(np.shape(leaf), np.asarray(leaf).dtype)
      if not hasattr(leaf, 'dtype')
      else np.zeros(leaf.shape, leaf.dtype)
    ),
    like,
  )
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as orbax:
    # Shapes first: Orbax would cut or pad an array silently.
    about = orbax.metadata(path).item_metadata
    if about is None:
      raise ValueError(f'{path}: Orbax knows no arrays there')
    stored = _shapes(about.tree)
    expected = _shapes(template)
    for name in sorted(expected.keys() | stored.keys()):
      if expected.get(name) != stored.get(name):
        raise OtherArrays(
          f'{name} is {stored.get(name, "missing")}, the model has '
          f'{expected.get(name, "no such array")}'
        )
    return orbax.restore(
      path,
      args=ocp.args.PyTreeRestore(
        item=template,
        restore_args=jax.tree.map(
          lambda leaf: ocp.RestoreArgs(
            restore_type=np.ndarray, dtype=leaf.dtype
          ),
          template,
        ),
      ),
    )


def not_finite(tree: Any, without: str = '') -> str | None:
  """The name of an array that holds NaN or infinity, or None.

  Args:
    tree: of numpy arrays.
    without: the top level's name of what may hold them.
  """
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    name = _name(path)
    if without and name.startswith(without):
      continue
    if leaf.dtype.kind not in 'iub' and not np.isfinite(leaf).all():
      return name
  return None


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path) -> str:
  """The same name for an attribute, a key and an index of a tree."""
  parts = []
  for key in path:
    for attribute in ('name', 'key', 'idx'):
      if hasattr(key, attribute):
        parts.append(str(getattr(key, attribute)))
        break
  return '/'.join(parts)
