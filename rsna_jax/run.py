"""The files of a run directory: written at its start, compared on a restart.

They are what other tools rely on: config.json, preprocess.json (how pixels and
metadata become inputs), environment.json.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator

import jax
import ml_collections

from rsna_jax import checkpoint, errors, files
from rsna_jax import config as config_lib
from rsna_jax.data import metadata, preprocess
from rsna_jax.options import unused

# A restart may change these: they do not change what is computed.
_FREE = (
  'name',
  'parallel.mode',
  'parallel.space',
  'data.dir',
  'data.extra',  # whose fingerprints are compared
  'data.reader',
  'data.threads',
  'data.prefetch',
  'augment.sheet',
  'train.log_every',
  'train.keep',
  # A run that they stopped may go on; what was left out is a list of its own.
  'train.explode_factor',
  'train.on_divergence',
  'train.max_skips',
  'train.stall_s',
  'eval.batch_size',
  'eval.average',
  'eval.bootstrap',
  'eval.calibration',
  'eval.checkpoint',
  'eval.per_site',
  'eval.raw',
  'eval.reject_below',
  'eval.rule',
  'eval.worst',
)
_PACKAGES = (
  'rsna_jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'pydicom',
  'pylibjpeg-openjpeg',
  'imagecodecs',
  'pillow',
  'tensorflow-datasets',
  'ml-collections',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What a run directory says about itself.

  Attributes:
    workdir: the directory.
    config: the configuration of the training.
    spec: how pixels become the network's image; None where it sees none.
    encoder: how columns become the network's metadata.
    fingerprint: of the data set that it was trained on.
    extra_fingerprints: of those that were mixed in, in the order of
      `data.extra`.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict
  spec: preprocess.Spec | None
  encoder: metadata.Encoder
  fingerprint: str
  extra_fingerprints: tuple[str, ...] = ()


def load(workdir: str | os.PathLike) -> Run:
  """Reads a run directory.

  Raises:
    errors.RunError: it is not one, or a file of it is damaged.
  """
  workdir = pathlib.Path(workdir)
  if not (workdir / 'config.json').is_file():
    raise errors.RunError(
      f'{workdir}: no config.json, so not a run; train one with python -m '
      f'rsna_jax.main --config configs/... --workdir {workdir}'
    )
  try:
    text = (workdir / 'config.json').read_text(encoding='utf-8')
    c = config_lib.from_json(text, str(workdir / 'config.json'))
    how = json.loads((workdir / 'preprocess.json').read_text(encoding='utf-8'))
    spec = how['spec']
    return Run(
      workdir=workdir,
      config=c,
      spec=None if spec is None else preprocess.Spec.from_json(spec),
      encoder=metadata.Encoder.from_json(how['metadata']),
      fingerprint=how['data_fingerprint'],
      extra_fingerprints=tuple(how.get('extra_fingerprints', ())),
    )
  except FileNotFoundError as error:
    raise errors.RunError(f'{error.filename}: missing from the run') from error
  except RecursionError as error:
    raise errors.RunError(
      f'{workdir}: config.json or preprocess.json is nested too deep: no run '
      'of this package'
    ) from error
  except (KeyError, TypeError, json.JSONDecodeError, UnicodeError) as error:
    raise errors.RunError(
      f'{workdir}: preprocess.json is damaged: {error}'
    ) from error


def start(run: Run) -> None:
  """Writes a run's files, or compares them with those that are there.

  Raises:
    errors.RunError: the directory holds a run whose config or data differ in
      what is computed; every differing field is named.
  """
  # Without a checkpoint there is nothing that another config could spoil.
  if checkpoint.finished_steps(run.workdir):
    old = load(run.workdir)
    differences = _differences(old.config, run.config)
    if differences:
      raise errors.RunError(
        f'{run.workdir} holds a run with another config: '
        + '; '.join(differences)
        + '; choose another --workdir, or the old values'
      )
    if old.fingerprint != run.fingerprint:
      raise errors.RunError(
        f'{run.workdir} was trained on other data (fingerprint '
        f'{old.fingerprint[:12]}, now {run.fingerprint[:12]}); choose another '
        '--workdir, or the old --config.data.dir'
      )
    if old.extra_fingerprints != run.extra_fingerprints:
      raise errors.RunError(
        f'{run.workdir} was trained with other data mixed in (fingerprints '
        f'{_short(old.extra_fingerprints)}, now '
        f'{_short(run.extra_fingerprints)}); choose another --workdir, or the '
        'old --config.data.extra'
      )
  if jax.process_index() != 0:
    return
  files.write_json(
    run.workdir / 'preprocess.json',
    {
      'spec': None if run.spec is None else run.spec.to_json(),
      'metadata': run.encoder.to_json(),
      'target': run.config.data.target,
      'data_fingerprint': run.fingerprint,
      'extra_fingerprints': list(run.extra_fingerprints),
    },
  )
  files.write_json(run.workdir / 'environment.json', environment())
  # Last, because it is what makes the directory a run.
  files.write_text(run.workdir / 'config.json', config_lib.to_json(run.config))


def environment() -> dict:
  """Versions, devices and revision that a run stands on."""
  packages = {}
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      packages[name] = importlib.metadata.version(name)
  return {
    'python': platform.python_version(),
    'platform': platform.platform(),
    'cpu_count': os.cpu_count(),
    'packages': packages,
    'backend': jax.default_backend(),
    'devices': [str(device) for device in jax.devices()],
    'processes': jax.process_count(),
    'git_revision': _git_revision(),
  }


@contextlib.contextmanager
def lock(workdir: str | os.PathLike) -> Iterator[None]:
  """Holds the run directory, so that no second process writes into it.

  The lock goes with the process, so a killed run leaves none behind.

  Raises:
    errors.RunError: another process holds it.
  """
  workdir = pathlib.Path(workdir)
  if jax.process_index() != 0:  # the first of several processes holds it
    yield
    return
  workdir.mkdir(parents=True, exist_ok=True)
  with (workdir / '.lock').open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.RunError(
        f'{workdir}: another process is writing this run; wait for it, or '
        'choose another --workdir'
      ) from error
    yield


def _differences(old, new) -> list[str]:
  found = []
  before, after = _flat(old.to_dict()), _flat(new.to_dict())
  free = set(_FREE)
  if new.optim.schedule in ('constant', 'piecewise'):
    free.add('train.steps')  # else the learning rate depends on it
  # What did nothing, and does nothing now, may be left out.
  free |= unused.fields(old).keys() & unused.fields(new).keys()
  for field in sorted(before.keys() | after.keys()):
    if field not in free and before.get(field) != after.get(field):
      found.append(
        f'{field}: {before.get(field)!r} before, {after.get(field)!r} now'
      )
  return found


def _short(fingerprints: tuple[str, ...]) -> str:
  return ', '.join(x[:12] for x in fingerprints) or 'none'


def _flat(values: dict, prefix: str = '') -> dict:
  flat = {}
  for key, value in values.items():
    if isinstance(value, dict):
      flat |= _flat(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat


def _git_revision() -> str | None:
  try:
    result = subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=40'],
      cwd=pathlib.Path(__file__).parent,
      capture_output=True,
      text=True,
      timeout=10,
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return result.stdout.strip() if result.returncode == 0 else None
