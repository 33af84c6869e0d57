"""Fingerprints of the pictures that models are judged on, kept in the store.

They are those of the first run's validation and test patients. A submission
that copies one is quarantined, or a model would be judged on what it learned.
"""

import hashlib
import json
import logging
import pathlib

import numpy as np

from rsna_jax import division, errors, files
from rsna_jax import run as run_lib
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import preprocess
from rsna_jax.serve.store import database, near

SOURCE = 'validation'
_NOTE = 'frozen.json'
_BLOCK = 64  # images held at a time
_DIVISION = ('split', 'held_out', 'folds', 'fold', 'split_seed')
_LOG = logging.getLogger('rsna_jax')


def ensure(
  db: database.Database,
  store: pathlib.Path,
  workdir: pathlib.Path,
  data_dir: pathlib.Path | None = None,
) -> bool:
  """Makes the index, unless it is there; minutes for tens of thousands.

  Args:
    db: the rows.
    store: its folder.
    workdir: a run that was trained on the original data; an ensemble, and a
      run whose data are not there, has none, and a warning says so.
    data_dir: where the data are now; None: where the run says.

  Returns:
    Whether there is an index.
  """
  note = store / _NOTE
  try:
    run = run_lib.load(workdir)
    name = _name(run)
    if _read(note) == name:
      return True
    c = run.config.copy_and_resolve_references()
    if data_dir is not None:
      c.data.dir = str(data_dir)
    data = dataset_lib.open_dataset(c)
    if data.fingerprint != run.fingerprint:
      raise errors.DataError('other data than the run was trained on')
    if not data.has_images:
      raise errors.DataError('it sees no pixels')
  except errors.InputError as error:
    if _read(note) is None:
      _LOG.warning(
        'copies of validation images are not recognised among submissions: %s',
        error,
      )
    return _read(note) is not None
  found = _fingerprints(c, data)
  with db.session() as session:
    near.save_frozen(session, SOURCE, found)
  files.write_json(note, {'name': name, 'images': len(found)})
  return True


def load(db: database.Database) -> near.Frozen | None:
  """The index; None: there is none."""
  with db.reading() as session:
    return near.Frozen.load(session, SOURCE)


def _fingerprints(c, data: dataset_lib.Dataset) -> list[near.Fingerprints]:
  labelled = np.flatnonzero(data.split == 'train')
  rows = labelled[division.divide(c, data) != 'train']
  found = []
  for start in range(0, len(rows), _BLOCK):
    for png in data.read(rows[start : start + _BLOCK]):
      found.append(near.fingerprints(preprocess.decode_png(png)))
  return found


def _name(run: run_lib.Run) -> str:
  """Names the data and their division."""
  values = [run.fingerprint, *(run.config.data[x] for x in _DIVISION)]
  return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _read(note: pathlib.Path) -> str | None:
  try:
    return json.loads(note.read_text(encoding='utf-8'))['name']
  except (OSError, ValueError, KeyError, TypeError):
    return None
