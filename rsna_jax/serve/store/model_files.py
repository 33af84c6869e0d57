"""A model of the store: the files that serving needs, and their one hash."""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

from rsna_jax import ensemble_file, errors, files
from rsna_jax.serve.store import blobs

_NEEDED = ('config.json', 'preprocess.json')
_TOLD = (
  'environment.json',
  'MODEL_CARD.md',
  'eval/validation/metrics.json',
  'eval/validation/breasts.csv',
  'eval/validation/predictions.csv',
)
_HASHED = (*_NEEDED, ensemble_file.NAME)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
  """A model of the store.

  Attributes:
    number: from 1.
    folder: the run directory, absolute.
    weights_sha256: of what its answers depend on.
    parent: the version that it was fine-tuned from, or None.
    dataset_number: the frozen submissions that it learned from, or None.
    status: candidate | promoted | refused.
    scores: what it was judged by.
    reason: why it was promoted or refused.
    created_at, promoted_at: ISO times.
    promoted_by: who did it.
  """

  number: int
  folder: pathlib.Path
  weights_sha256: str
  parent: int | None
  dataset_number: int | None
  status: str
  scores: dict[str, Any]
  reason: str
  created_at: str
  promoted_by: str | None
  promoted_at: str | None


def weights_sha256(folder: str | os.PathLike) -> str:
  """SHA-256 of what a model's answers depend on.

  These are the names and contents of its checkpoints, its config, how pixels
  become inputs, and for ensembles the list of its members.
  """
  folder = pathlib.Path(folder)
  total = hashlib.sha256()
  for path in sorted(folder.rglob('*')):
    parts = path.relative_to(folder).parts
    if path.is_file() and ('checkpoints' in parts[:-1] or path.name in _HASHED):
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
      total.update(f'{digest}  {"/".join(parts)}\n'.encode())
  return total.hexdigest()


def copy_run(
  workdir: pathlib.Path, target: pathlib.Path, which: str | None = None
) -> None:
  """Copies what serving needs of a run, or of an ensemble's runs.

  Args:
    workdir: the run, or the folder of the ensemble.
    target: a folder that is not there yet.
    which: the checkpoint: best | latest; None: as the config says.

  Raises:
    errors.RunError: it is no run, or has no undamaged checkpoint.
  """
  path = workdir / ensemble_file.NAME
  members = ensemble_file.folds(workdir)
  if path.is_file():
    found = ensemble_file.read(path)
    for i, entry in enumerate(found['runs']):
      one = entry.pop('checkpoint', None)
      copy_run(workdir / entry['path'], target / f'run{i}', which or one)
      entry['path'] = f'run{i}'
    _write(target / ensemble_file.NAME, json.dumps(found, indent=2).encode())
  elif members and not (workdir / 'config.json').is_file():
    for member in members:
      copy_run(member, target / member.name, which)
  else:
    _copy_one(workdir, target, which)
    return
  _copy_told(workdir, target)


def _copy_one(
  workdir: pathlib.Path, target: pathlib.Path, which: str | None
) -> None:
  from rsna_jax import checkpoint, run  # they need JAX, and the rest does not

  which = which or run.load(workdir).config.eval.checkpoint
  with checkpoint.Checkpoints(workdir, read_only=True) as saved:
    step = saved.best() if which == 'best' else saved.latest()
    whole = [s for s in saved.steps() if saved.damage(s) is None]
  if not whole:
    raise errors.RunError(
      f'{workdir}: no undamaged checkpoint; train it first, or restore it'
    )
  step = step if step in whole else whole[-1]
  for name in _NEEDED:
    _write(target / name, (workdir / name).read_bytes())
  source = workdir / 'checkpoints' / str(step)
  for path in sorted(source.rglob('*')):
    if path.is_file():
      _write(target / path.relative_to(workdir), path.read_bytes())
  _copy_told(workdir, target)


def _copy_told(workdir: pathlib.Path, target: pathlib.Path) -> None:
  for name in _TOLD:
    if (workdir / name).is_file():
      _write(target / name, (workdir / name).read_bytes())


def _write(path: pathlib.Path, data: bytes) -> None:
  files.write_bytes(path, data)
  blobs.sync_folder(path.parent)
