"""The mesh of devices, and how states and batches lie on it.

Under jit devices may form groups that share each image by its rows.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rsna_jax import errors

AXIS = 'data'
SPACE = 'space'  # of the devices that share each image, by rows
MODES = ('pmap', 'shard_map', 'jit')
# Of a batch, what stays on the host.
HOST_KEYS = ('id',)


def make_mesh(
  devices: list | None = None, *, space: int = 1
) -> jax.sharding.Mesh:
  """A mesh of the axis `AXIS` over devices, and of `SPACE` where that is asked.

  Args:
    devices: None: all.
    space: how many neighbours share each image.

  Raises:
    errors.ConfigError: the devices form no groups of `space`.
  """
  devices = jax.devices() if devices is None else list(devices)
  shape, names = (len(devices),), (AXIS,)
  if space > 1:
    here = jax.local_device_count()
    if len(devices) % space or here % space:
      raise errors.ConfigError(
        f'parallel.space={space}: {len(devices)} devices ({here} of this '
        'process) form no such groups; choose a divisor of both'
      )
    shape, names = (len(devices) // space, space), (AXIS, SPACE)
  return jax.make_mesh(
    shape,
    names,
    axis_types=(jax.sharding.AxisType.Auto,) * len(shape),
    devices=devices,
  )


def mesh_for_prediction(space: int) -> jax.sharding.Mesh:
  """All devices, in groups of `space` where they form such groups.

  A run may be used on fewer devices than it was trained on.
  """
  counts = jax.device_count(), jax.local_device_count()
  return make_mesh(space=1 if any(n % space for n in counts) else space)


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
  """How many devices, or groups of them, have images of their own."""
  return mesh.shape[AXIS]


def space_size(mesh: jax.sharding.Mesh) -> int:
  """How many devices share each image."""
  return mesh.shape.get(SPACE, 1)


def spec(name: str, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
  """How an array of a batch is laid out: images by rows as well.

  Raises:
    errors.ConfigError: the rows of the images cannot be shared.
  """
  space = space_size(mesh)
  if name != 'image' or space == 1:
    return P(AXIS)
  if shape[-3] % space:
    raise errors.ConfigError(
      f'data.size: images have {shape[-3]} rows, which parallel.space={space} '
      'devices cannot share equally; change one of them'
    )
  return P(AXIS, *[None] * (len(shape) - 4), SPACE)


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
  check_mode(mode)
  count = len(mesh.local_devices) // space_size(mesh)
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
    sharding = NamedSharding(mesh, spec(name, value.shape, mesh))
    if mode == 'pmap':
      value = value.reshape(count, len(value) // count, *value.shape[1:])
      placed[name] = jax.device_put(value, sharding)
    else:
      placed[name] = jax.make_array_from_process_local_data(sharding, value)
  return placed


def check_mode(mode: str) -> str:
  """The mode, if it is one, and one for the processes that there are.

  Raises:
    errors.ConfigError: it is not.
  """
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
