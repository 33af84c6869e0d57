"""What a server does with its store before and beside its work."""

import contextlib
import fcntl
import logging
import pathlib
from collections.abc import Iterator

from rsna_jax import errors
from rsna_jax.serve.store import blobs, database, frozen_index, upkeep
from rsna_jax.serve.web import observe

_LOG = logging.getLogger('rsna_jax.serve')


@contextlib.contextmanager
def only_server(store: pathlib.Path) -> Iterator[None]:
  """Keeps a second server off a store; a killed one leaves no lock behind.

  Raises:
    errors.RunError: another one is at work on it.
  """
  store.mkdir(mode=0o700, parents=True, exist_ok=True)
  with (store / '.server').open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.RunError(
        f'{store}: another server works on this store; end it, or choose '
        'another --store'
      ) from error
    yield


def clear(db: database.Database, pictures: blobs.Blobs) -> None:
  """Removes what a killed server has left, before requests are taken.

  Nobody else puts pictures there, so that however young they are, they go.
  """
  swept = blobs.sweep(db, pictures, older_than_s=0)
  for name in swept.removed:
    _LOG.info('removed %s, which no submission names', name)
  sweep(db, pictures)


def sweep(db: database.Database, pictures: blobs.Blobs) -> None:
  """Removes what processes that were killed long ago have left."""
  try:
    upkeep.sweep(db, pictures)
  except errors.DataError as error:
    _LOG.error('%s', error)


def index(
  db: database.Database, store: pathlib.Path, workdir: pathlib.Path | None
) -> None:
  """Makes sure that copies of validation images are recognised."""
  if workdir is None:
    return
  try:
    frozen_index.ensure(db, store, workdir)
  except Exception as error:  # the server goes on without
    observe.fault('frozen index', error)
