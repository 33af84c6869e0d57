"""Published weights, in a file of Keras or PyTorch, ported to a network."""

import functools
import importlib.util
import os
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from rsna_jax import errors, models, weights_folder
from rsna_jax.data import sandbox
from rsna_jax.models import (
  convnext_port,
  efficientnetv2_port,
  port,
  xception_port,
)
from rsna_jax.weight_files import keras_file, safetensors, torch_zip

# Of each network, the port of a file: (what it holds, depth) -> its plan.
PORTS: Mapping[str, Callable[[port.Stored, float], port.Plan]] = {
  'convnext_small': convnext_port.plan,
  'efficientnetv2_s': efficientnetv2_port.plan,
  'xception': xception_port.plan,
}
_READ_S = 300.0


def convert(
  path: str | os.PathLike,
  model: str,
  out: str | os.PathLike | None = None,
  *,
  width: float = 1.0,
  depth: float = 1.0,
) -> weights_folder.Weights:
  """Ports a file of weights.

  Args:
    path: .h5, .weights.h5 or .keras of Keras; .safetensors, .pth, .pt or .bin
      of timm.
    model: a key of `PORTS`.
    out: folder to write; None: none.
    width: of the network, as config.model.width.
    depth: of the network, as config.model.depth.

  Raises:
    errors.ConfigError: no such model.
    errors.DataError: the file cannot be read, or is not of this network.
  """
  if model not in PORTS:
    raise errors.ConfigError(
      f'--model={model}: choose {", ".join(sorted(PORTS))}'
    )
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.DataError(f'{path}: no such file')
  stored = _read(path)
  plan = PORTS[model](stored, depth)
  arrays = port.fill(plan, stored.arrays, _shapes(model, width, depth), path)
  found = weights_folder.Weights(
    model=model,
    fields=plan.fields,
    arrays=arrays,
    left={key: why for key, why in plan.left.items() if key in stored.arrays},
    source={
      'name': path.name,
      'form': stored.form,
      'sha256': weights_folder.sha256(path),
    },
  )
  if out is not None:
    weights_folder.write(found, pathlib.Path(out))
  return found


def _read(path: pathlib.Path) -> port.Stored:
  suffix = path.suffix.lower()
  if suffix == '.safetensors':
    return port.Stored(form='names', arrays=safetensors.read(path))
  if suffix in ('.pth', '.pt', '.bin', '.tar'):
    return port.Stored(form='names', arrays=torch_zip.read(path))
  if suffix not in ('.h5', '.hdf5', '.keras'):
    raise errors.DataError(
      f'{path}: files that end in .h5, .keras, .safetensors or .pth are read'
    )
  if importlib.util.find_spec('h5py') is None:
    raise errors.DataError(
      f'{path}: needs h5py, which is not installed: pip install '
      "'rsna_jax[weights]'"
    )
  # HDF5 is a library in C, and the file is from outside.
  with sandbox.Pool(keras_file.read, time_s=_READ_S) as pool:
    try:
      found = pool.call(os.fspath(path), name=str(path))
    except sandbox.SandboxError as error:
      if not error.about:
        raise errors.DataError(str(error)) from error
      raise errors.DataError(
        f'{path}: reading it was stopped ({error.about}): the file is damaged '
        'or hostile; fetch it again from a source you trust'
      ) from error
  return port.Stored(
    form=found['form'],
    arrays=found['arrays'],
    names=found['names'],
    epsilons=frozenset(found['epsilons']),
  )


def _shapes(model: str, width: float, depth: float) -> dict[str, tuple]:
  """Of all arrays of a network but those of its last layer."""
  network = models.MODELS[model](width=width, depth=depth)
  tree = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 128, 128, 1), jnp.float32),
    jax.ShapeDtypeStruct((1, 0), jnp.float32),
  )
  named = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  return {
    name: shape
    for name, shape in named.items()
    if not name.startswith('params/head/logits/')
  }
