"""Ported networks, and how they are held against the originals."""

import functools
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import published

from rsna_jax import config, models, weights

SIZES = [(96, 80), (101, 77)]
_GOLDENS = pathlib.Path(__file__).parent / 'models' / 'timm_goldens.json'
# Compiled in a third of the time, for code that runs once.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def variables(found) -> dict:
  """Arrays by path as nested variables."""
  nested = {}
  for name, x in found.arrays.items():
    *rooms, last = name.split('/')
    at = nested
    for room in rooms:
      at = at.setdefault(room, {})
    at[last] = x
  return nested


def network(found):
  """The network that a run with these weights would make."""
  c = config.default()
  c.model.name = found.model
  c.model.update(found.fields)
  return models.create(c)


def randomise(model) -> None:
  """Gives a Keras model the weights that `published` makes for PyTorch."""
  kinds = {
    'gamma': 'weight',
    'moving_variance': 'running_var',
    'variable': 'gamma',  # of a LayerScale, which has no name
  }
  for layer in model.layers:
    values = []
    for variable in layer.weights:
      shape, name = tuple(variable.shape), variable.path
      order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(shape)]
      if shape[-1] == 1 and len(shape) == 4:
        order = (2, 3, 0, 1)  # (h, w, C, 1), of a depthwise
      prefix = 'blocks.' if name.startswith('block') and 'conv' in name else ''
      if 'sepconv' in name:
        prefix = ''
      x = published.random_array(
        f'{prefix}{name}.{kinds.get(variable.name, "bias")}',
        tuple(shape[i] for i in order),
      )
      values.append(np.transpose(x, np.argsort(order)))
    if values:
      layer.set_weights(values)


def timm_arrays(name: str, shapes: dict) -> dict:
  """Arrays of all of timm's names, which the golden file's hash tells."""
  golden = json.loads(_GOLDENS.read_text())[name]
  text = published.names_text(shapes)
  assert len(shapes) == golden['arrays']
  assert hashlib.sha256(text.encode()).hexdigest() == golden['names_sha256']
  return {key: published.random_array(key, s) for key, s in shapes.items()}


def from_keras(model, name: str, folder):
  """What is ported of a Keras model's file, whichever of its formats it is."""
  model.save(folder / 'x.h5')
  found = weights.convert(folder / 'x.h5', name)
  model.save_weights(folder / 'x.weights.h5')
  again = weights.convert(folder / 'x.weights.h5', name)
  assert found.arrays.keys() == again.arrays.keys()
  for key, x in found.arrays.items():
    np.testing.assert_array_equal(again.arrays[key], x, err_msg=key)
  return found


def features(found):
  """Yields an image of each size, and its feature map."""
  net, tree = network(found).clone(depthwise='lax'), variables(found)
  run = quick_jit(lambda v, x: net.apply(v, x, method=net.features))
  for size in SIZES:
    image = published.image(size)
    yield image, run(tree, image)


def assert_close(found, expected) -> None:
  """Holds the greatest difference below 1e-5 of the greatest value."""
  assert found.shape == expected.shape
  scale = np.abs(expected).max()
  difference = np.abs(found - expected).max() / scale
  print(f'{found.shape}: relative difference {difference:.2g}')
  assert scale > 0.5 and difference < 1e-5


def compare_with_timm(name: str, found, pool=None) -> None:
  """Holds feature maps, and what `pool` makes of them, against timm's."""
  golden = json.loads(_GOLDENS.read_text())[name]
  for size, (_, maps) in zip(SIZES, features(found), strict=True):
    pooled = jnp.mean(maps, axis=(1, 2))
    if pool is not None:
      pooled = pool(variables(found), pooled)
    for what, x in (('features', maps), ('pooled', pooled)):
      expected = np.asarray(golden[f'{what} {size[0]}x{size[1]}'])
      seen = published.sampled(x)
      difference = np.abs(seen - expected).max() / expected[-1]
      print(f'{name} {what} {size}: relative difference {difference:.2g}')
      assert difference < 1e-5
