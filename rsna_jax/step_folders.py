"""The folders of a run's checkpoints: which are finished, best, or to go.

A step is finished when it has a manifest. Its score stands beside the state, so
that the best one is known after any restart.
"""

import json
import logging
import pathlib
import shutil

import numpy as np

from rsna_jax import files, integrity

# As Orbax's manager, which wrote the checkpoints of the first versions, has it.
_SCORE = pathlib.Path('metrics', 'metrics')
_LOG = logging.getLogger('rsna_jax')


def finished(folder: pathlib.Path) -> list[int]:
  """The steps that have a manifest, in order."""
  return sorted(
    int(path.parent.name)
    for path in folder.glob(f'*/{integrity.MANIFEST}')
    if path.parent.name.isdigit()
  )


def is_scored(step: pathlib.Path) -> bool:
  """Whether a step was evaluated."""
  return (step / _SCORE).is_file()


def write_score(step: pathlib.Path, score: float) -> None:
  """Notes the score of a step; NaN counts as the lowest."""
  score = float(score) if np.isfinite(score) else -1.0
  files.write_json(step / _SCORE, {'score': score})


def best(folder: pathlib.Path) -> int | None:
  """The finished step with the highest score, the later of equal ones."""
  scored = []
  for step in finished(folder):
    try:
      text = (folder / str(step) / _SCORE).read_text(encoding='utf-8')
      scored.append((float(json.loads(text)['score']), step))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
      continue
  return max(scored)[1] if scored else None


def remove(step: pathlib.Path) -> None:
  """Removes a step; at any moment it is whole, or counts as unfinished."""
  (step / integrity.MANIFEST).unlink(missing_ok=True)
  shutil.rmtree(step, ignore_errors=True)


def remove_old(folder: pathlib.Path, keep: int) -> None:
  """Removes all but the `keep` latest and the best."""
  steps = finished(folder)
  kept = {*steps[-keep:], best(folder)}
  for step in steps:
    if step not in kept:
      remove(folder / str(step))


def remove_unfinished(folder: pathlib.Path) -> None:
  """Removes what was being written when the process died."""
  there = set(finished(folder))
  for path in folder.iterdir():
    step = path.name.partition('.')[0]  # Orbax's manager added a suffix
    if path.is_dir() and step.isdigit():
      if path.name == step and int(step) in there:
        continue
      _LOG.warning('checkpoint %s was never finished: removed', path)
      shutil.rmtree(path)
