"""One step function on one device or many, under pmap, shard_map or jit.

The state has no device axis in any mode, so the three take and return the same
state and give the same result. Only the batch is laid out differently.
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rsna_jax import errors

AXIS = 'data'
MODES = ('pmap', 'shard_map', 'jit')
# Of a batch, what stays on the host.
HOST_KEYS = ('id',)
_JOIN_S = 300  # that processes wait for each other at the start
_HEARTBEAT_S = 60  # without a sign of life, after which one counts as gone


def axis_name(mode: str) -> str | None:
  """The axis that model and step are given: None under plain jit."""
  return None if _check_mode(mode) == 'jit' else AXIS


def psum(value: Any, axis: str | None) -> Any:
  """Sum over the devices of an axis; with None, the value itself."""
  return value if axis is None else lax.psum(value, axis)


def pmean(value: Any, axis: str | None) -> Any:
  """Mean over the devices of an axis; with None, the value itself."""
  return value if axis is None else lax.pmean(value, axis)


def make_mesh(devices: list | None = None) -> jax.sharding.Mesh:
  """A mesh of one axis, `AXIS`, over the given devices, or over all."""
  devices = jax.devices() if devices is None else list(devices)
  return jax.make_mesh(
    (len(devices),),
    (AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=devices,
  )


def check_batch_size(
  batch_size: int,
  mesh: jax.sharding.Mesh,
  field: str = 'train.batch_size',
  accumulate: int = 1,
) -> None:
  """Checks that each device gets equally many examples, in equal parts.

  Raises:
    errors.ConfigError: the devices, or `accumulate` times as many, do not
      divide `batch_size`.
  """
  devices = data_size(mesh)
  count = devices * accumulate
  if batch_size % count:
    near = max(1, round(batch_size / count)) * count
    raise errors.ConfigError(
      f'{field}={batch_size}: {devices} devices share a batch equally'
      + (f', each in train.accumulate={accumulate} parts' * (accumulate > 1))
      + f'; take a multiple of {count}, such as {near}'
    )


def data_size(mesh: jax.sharding.Mesh) -> int:
  """Of how many devices, or groups of them, each has images of its own."""
  return mesh.shape[AXIS]


def place_state(state: Any, mesh: jax.sharding.Mesh) -> Any:
  """The state, whole on each device of the mesh."""
  return jax.device_put(state, NamedSharding(mesh, P()))


def place_batch(
  batch: Mapping[str, np.ndarray], mode: str, mesh: jax.sharding.Mesh
) -> dict[str, jax.Array]:
  """Lays out a batch for `wrap` and `wrap_predict`.

  Args:
    batch: numpy arrays of B rows; with several processes, this one's rows.
    mode: pmap, shard_map or jit.
    mesh: the devices.

  Returns:
    The batch without `HOST_KEYS`: (devices, B / devices, ...) for pmap, else
    (B of all processes, ...).

  Raises:
    errors.ConfigError: the devices do not divide B.
  """
  _check_mode(mode)
  sharding = NamedSharding(mesh, P(AXIS))
  count = len(mesh.local_devices)
  placed = {}
  for name, value in batch.items():
    if name in HOST_KEYS:
      continue
    value = np.asarray(value)
    if len(value) % count:
      raise errors.ConfigError(
        f'batch of {len(value)}: {count} devices share it equally; take a '
        f'multiple of {count} as train.batch_size and eval.batch_size'
      )
    if mode == 'pmap':
      value = value.reshape(count, len(value) // count, *value.shape[1:])
      placed[name] = jax.device_put(value, sharding)
    else:
      placed[name] = jax.make_array_from_process_local_data(sharding, value)
  return placed


def wrap(
  step: Callable, mode: str, mesh: jax.sharding.Mesh, *, donate: bool = True
) -> Callable:
  """Compiles a training step for the devices of a mesh.

  Args:
    step: (state, batch, rng) -> (state, metrics), such as `steps.train_step`
      with its keywords bound, `axis` being `axis_name(mode)`.
    mode: pmap, shard_map or jit.
    mesh: the devices.
    donate: lets the new state take the memory of the old one, which is gone
      then.

  Returns:
    A function of (state, placed batch, rng) that returns state and metrics,
    whole on every device.

  Raises:
    errors.ConfigError: unknown mode, or pmap with several processes.
  """
  donated = (0,) if donate else ()
  whole, split = P(), P(AXIS)
  if _check_mode(mode) == 'pmap':
    return jax.pmap(
      step,
      axis_name=AXIS,
      in_axes=(None, 0, None),
      out_axes=(None, None),
      devices=list(mesh.devices.flat),
      donate_argnums=donated,
    )
  if mode == 'shard_map':
    mapped = jax.shard_map(
      step,
      mesh=mesh,
      in_specs=(whole, split, whole),
      out_specs=(whole, whole),
    )
    return jax.jit(mapped, donate_argnums=donated)
  replicated = NamedSharding(mesh, whole)
  return jax.jit(
    step,
    in_shardings=(replicated, NamedSharding(mesh, split), replicated),
    out_shardings=(replicated, replicated),
    donate_argnums=donated,
  )


def wrap_predict(
  predict: Callable, mode: str, mesh: jax.sharding.Mesh
) -> Callable[[Any, Mapping[str, jax.Array]], dict[str, np.ndarray]]:
  """Compiles a prediction for the devices of a mesh.

  Args:
    predict: (state, batch) -> dict of arrays of B rows, such as
      `steps.predict_step` with its keywords bound.
    mode: pmap, shard_map or jit.
    mesh: the devices.

  Returns:
    A function of (state, placed batch) to numpy arrays of all B rows, the same
    in every process.

  Raises:
    errors.ConfigError: unknown mode, or pmap with several processes.
  """
  whole, split = P(), P(AXIS)
  if _check_mode(mode) == 'pmap':
    compiled = jax.pmap(
      predict,
      axis_name=AXIS,
      in_axes=(None, 0),
      devices=list(mesh.devices.flat),
    )
  elif mode == 'shard_map':
    compiled = jax.jit(
      jax.shard_map(
        predict, mesh=mesh, in_specs=(whole, split), out_specs=split
      )
    )
  else:
    rows = NamedSharding(mesh, split)
    compiled = jax.jit(
      predict,
      in_shardings=(NamedSharding(mesh, whole), rows),
      out_shardings=rows,
    )
  return functools.partial(_run_and_gather, compiled, mode)


def _run_and_gather(compiled, mode, state, batch) -> dict[str, np.ndarray]:
  outputs = compiled(state, batch)
  if jax.process_count() > 1:
    outputs = multihost_utils.process_allgather(outputs, tiled=True)
  outputs = jax.tree.map(np.asarray, jax.device_get(outputs))
  if mode == 'pmap':
    outputs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
  return outputs


def start_distributed(
  environ: Mapping[str, str] = os.environ,
  *,
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> bool:
  """Joins the processes of a run where options or the environment ask for it.

  A coordinator `auto`, or `RSNA_JAX_DISTRIBUTED=auto`, leaves all to JAX (TPU
  VMs, GKE, Slurm, Open MPI); otherwise it is the host:port of the first
  process, and `num_processes` and `process_id` are given with it. In the
  environment they are `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
  `JAX_PROCESS_ID`; options come first. Call it before anything uses a device.

  Returns:
    Whether processes were joined.

  Raises:
    errors.ConfigError: a number is missing or none, or the others do not come.
  """
  given = {'JAX_NUM_PROCESSES': num_processes, 'JAX_PROCESS_ID': process_id}
  if coordinator is None and any(x is not None for x in given.values()):
    raise errors.ConfigError(
      '--num-processes and --process-id need --coordinator HOST:PORT of the '
      'first process'
    )
  environ = dict(environ) | {
    name: str(value) for name, value in given.items() if value is not None
  }
  if coordinator == 'auto' or (
    coordinator is None and environ.get('RSNA_JAX_DISTRIBUTED') == 'auto'
  ):
    _initialize()
    return True
  address = coordinator or environ.get('JAX_COORDINATOR_ADDRESS')
  if not address:
    return False
  numbers = {}
  for name in ('JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'):
    text = environ.get(name, '')
    if not text.isdecimal():
      raise errors.ConfigError(
        f'{name}={text!r}: a coordinator is given, so set this to a whole '
        'number too (or --num-processes and --process-id), or set '
        'RSNA_JAX_DISTRIBUTED=auto alone'
      )
    numbers[name] = int(text)
  count, number = numbers['JAX_NUM_PROCESSES'], numbers['JAX_PROCESS_ID']
  if number >= count:
    raise errors.ConfigError(
      f'--process-id {number}: of --num-processes {count} they are 0 to '
      f'{count - 1}'
    )
  _initialize(
    coordinator_address=address, num_processes=count, process_id=number
  )
  return True


def _initialize(**options) -> None:
  """`jax.distributed.initialize`, with an answer within minutes.

  Raises:
    errors.ConfigError: the processes did not find each other.
  """
  try:
    jax.distributed.initialize(
      initialization_timeout=_JOIN_S,
      heartbeat_timeout_seconds=_HEARTBEAT_S,
      # On its way out a process does not wait long for one that has gone.
      shutdown_timeout_seconds=_HEARTBEAT_S,
      **options,
    )
  except (RuntimeError, ValueError) as error:
    raise errors.ConfigError(
      f'the processes of the run did not find each other within {_JOIN_S} s '
      f'({str(error).splitlines()[0][:160]}): start all of them, and look at '
      '--coordinator, --num-processes and --process-id'
    ) from error


def _check_mode(mode: str) -> str:
  if mode not in MODES:
    raise errors.ConfigError(
      f'parallel.mode={mode!r}: choose {", ".join(MODES)}'
    )
  if mode == 'pmap' and jax.process_count() > 1:
    raise errors.ConfigError(
      f'parallel.mode=pmap: runs in one process, here are '
      f'{jax.process_count()}; choose shard_map or jit'
    )
  return mode
