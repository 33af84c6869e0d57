"""The shards of a data set as work for Apache Beam, one element a shard.

A worker gets the name of a job, finds it in the store, and leaves the shard
and its note there, as `convert.write` does in one process. So a run can be
stopped and taken up by any runner, and what it gives depends on none.
"""

import contextlib
import dataclasses
import io
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from rsna_jax import errors, files
from rsna_jax.data import convert, preprocess, sandbox, store


class BeamError(errors.InputError):
  """Apache Beam, a runner or its options are not usable."""


@dataclasses.dataclass(frozen=True)
class Work:
  """What all jobs of a data set have in common; plain values.

  Attributes:
    spec: `preprocess.Spec.to_json()`.
    skip: whether to leave bad files out.
    workers: child processes of a shard.
    limits: `time_s` and `memory_bytes` of `sandbox.Pool`.
  """

  spec: dict[str, Any]
  skip: bool
  workers: int
  limits: dict[str, float]


class Runner:
  """A runner of Apache Beam and its options."""

  def __init__(self, name: str, options: Sequence[str]):
    """Checks what can be checked before any work.

    Args:
      name: such as DirectRunner, FlinkRunner, SparkRunner or DataflowRunner.
      options: as on the command line of a pipeline.

    Raises:
      BeamError: Beam is not installed, or does not know these.
    """
    try:
      from apache_beam import runners
      from apache_beam.options import pipeline_options
    except ImportError as error:
      raise BeamError(
        f"no Apache Beam ({error}): pip install 'rsna_jax[beam]'"
      ) from error
    options = list(options)
    if not any(
      o.startswith('--default_sdk_harness_log_level') for o in options
    ):
      options.append('--default_sdk_harness_log_level=ERROR')
    # It warns of options that its own parts do not know of each other.
    logging.getLogger('apache_beam').setLevel(logging.ERROR)
    said = io.StringIO()
    try:
      with contextlib.redirect_stderr(said):
        self._options = pipeline_options.PipelineOptions(
          [f'--runner={name}', *options]
        )
        self._options.get_all_options()
        if _is_direct(name):
          self._runner = _direct_runner(self._options)
        else:
          self._runner = runners.create_runner(name)
    except SystemExit:
      lines = said.getvalue().splitlines()[-1:] or ['unknown']
      raise BeamError(f'Beam options {" ".join(options)}: {lines[0]}') from None
    except (ValueError, ImportError, AttributeError) as error:
      raise BeamError(f'Beam runner {name}: {error}') from error

  def run(self, names: Sequence[str], work: dict[str, Any]) -> None:
    """Calls `write_shard` with each name.

    Raises:
      BeamError: the runner gave up.
    """
    import apache_beam

    try:
      pipeline = apache_beam.Pipeline(self._runner, self._options)
      _ = (
        pipeline
        | 'Shards' >> apache_beam.Create(names, reshuffle=True)
        | 'Write' >> apache_beam.Map(write_shard, work)
      )
      state = pipeline.run().wait_until_finish()
    except (RuntimeError, OSError, ValueError) as error:
      raise BeamError(
        f'the Beam runner gave up: {_line(error)}: run the same command '
        'again; finished shards stay'
      ) from error
    if state not in (None, 'DONE'):
      raise BeamError(
        f'the Beam runner ended as {state}: run the same command again; '
        'finished shards stay'
      )


def write(
  where: store.Store, jobs: Sequence[store.Job], work: Work, runner: Runner
) -> None:
  """Has shards written by the workers of a runner.

  Args:
    where: they go; every worker has to see this folder under this path.
    jobs: of the shards.
    work: what they have in common.
    runner: that does it.

  Raises:
    errors.DataError: a bad file, without `work.skip`.
    BeamError: the runner gave up.
    OSError: the disk is full or cannot be written.
  """
  names = []
  for job in jobs:
    # In files, since runners bound the size of a pipeline and its elements.
    path = where.folder / f'{job.fingerprint}.job'
    files.write_text(path, json.dumps(list(job.rows())))
    names.append(str(path))
  runner.run(names, dataclasses.asdict(work))
  for job in jobs:
    if where.header(job.fingerprint) is None:
      _raise_error(where.folder / f'{job.fingerprint}.error')


def write_shard(name: str, work: dict[str, Any]) -> None:
  """Writes one shard; runs in a worker.

  What is wrong with a file is left beside the job: an exception would only
  make the runner try again.

  Args:
    name: path of the job.
    work: `Work`, as a dict.
  """
  path = pathlib.Path(name)
  rows = json.loads(path.read_text(encoding='utf-8'))
  job = store.Job(path.stem, len(rows), lambda: rows)
  spec = preprocess.Spec.from_json(work['spec'])
  try:
    with sandbox.Pool(
      convert.standard_example, work['workers'], **work['limits']
    ) as pool:
      where = store.Store(path.parent)
      convert.write(where, [job], spec, pool, skip=work['skip'], bar=False)
  except (errors.InputError, OSError) as error:
    number = getattr(error, 'errno', None)
    what = [number, str(error), getattr(error, 'filename', None)]
    files.write_text(path.with_suffix('.error'), json.dumps(what))


def _raise_error(path: pathlib.Path) -> None:
  """Raises what a worker left."""
  try:
    number, text, file = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    raise BeamError(
      f'{path.parent}: a worker left no shard there: it has to see this folder '
      'under this path; mount it on all of them'
    ) from None
  if number is not None:
    raise OSError(number, text, file)
  raise errors.DataError(text)


def _is_direct(name: str) -> bool:
  return name.lower() in ('direct', 'directrunner')


def _direct_runner(options: Any) -> Any:
  """Beam's own runner in Python.

  Asked by its name, Beam would look for a program of another language first,
  in the network, and that one knows no processes.
  """
  from apache_beam.portability.api import beam_provision_api_pb2
  from apache_beam.runners.portability import portable_runner
  from apache_beam.runners.portability.fn_api_runner import fn_runner

  encoded = portable_runner.JobServiceHandle.encode_pipeline_options(
    options.get_all_options()
  )
  info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
  return fn_runner.FnApiRunner(
    provision_info=fn_runner.ExtendedProvisionInfo(info)
  )


def _line(error: BaseException) -> str:
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return lines[-1][:300] if lines else type(error).__name__
