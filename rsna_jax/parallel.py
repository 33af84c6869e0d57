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

from rsna_jax import errors, placement
from rsna_jax.models import spatial

AXIS, SPACE, MODES = placement.AXIS, placement.SPACE, placement.MODES
make_mesh = placement.make_mesh
mesh_for_prediction = placement.mesh_for_prediction
check_batch_size = placement.check_batch_size
data_size = placement.data_size
place_state = placement.place_state
place_batch = placement.place_batch
_JOIN_S = 300  # that processes wait for each other at the start
_HEARTBEAT_S = 60  # without a sign of life, after which one counts as gone


def axis_name(mode: str) -> str | None:
  """The axis that model and step are given: None under plain jit."""
  return None if placement.check_mode(mode) == 'jit' else AXIS


def psum(value: Any, axis: str | None) -> Any:
  """Sum over the devices of an axis; with None, the value itself."""
  return value if axis is None else lax.psum(value, axis)


def pmean(value: Any, axis: str | None) -> Any:
  """Mean over the devices of an axis; with None, the value itself."""
  return value if axis is None else lax.pmean(value, axis)


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
  if placement.check_mode(mode) == 'pmap':
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
      # The step averages the gradients itself. Where JAX keeps account of what
      # varies it has done so already, and all of them travel twice.
      check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=donated)
  replicated = NamedSharding(mesh, whole)
  return jax.jit(
    _sharing_rows(step, mesh),
    in_shardings=(replicated, _as_placed(mesh), replicated),
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
  if placement.check_mode(mode) == 'pmap':
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
    compiled = jax.jit(
      _sharing_rows(predict, mesh),
      in_shardings=(NamedSharding(mesh, whole), _as_placed(mesh)),
      out_shardings=NamedSharding(mesh, split),
    )
  return functools.partial(_run_and_gather, compiled, mode)


def _as_placed(mesh: jax.sharding.Mesh) -> NamedSharding | None:
  """The layout of a batch's arrays; None: each its own, as it was placed."""
  return (
    NamedSharding(mesh, P(AXIS)) if placement.space_size(mesh) == 1 else None
  )


def _sharing_rows(step: Callable, mesh: jax.sharding.Mesh) -> Callable:
  """The step, whose feature maps are shared by rows where images are."""
  if placement.space_size(mesh) == 1:
    return step

  def shared(*args):
    with spatial.shared(mesh, SPACE):
      return step(*args)

  return shared


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
