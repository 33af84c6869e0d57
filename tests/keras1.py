"""Files as Keras 1 wrote them: numbered names, layers by their depth.

The numbers count layers as they were made, a shortcut before its block; the
order of the file is by depth, a shortcut after its block.
"""

import itertools

import h5py
import numpy as np

_WEIGHTS = {
  'convolution2d': ('W',),
  'separableconvolution2d': ('depthwise_kernel', 'pointwise_kernel'),
  'batchnormalization': ('gamma', 'beta', 'running_mean', 'running_std'),
  'dense': ('W', 'b'),
}


def names(middle: int = 8, top: bool = False) -> list[tuple[str, str]]:
  """(name, what it is here) of Xception's layers in the order of a file."""
  made = {kind: itertools.count(1) for kind in _WEIGHTS}

  def new(kind):
    return f'{kind}_{next(made[kind])}'

  found = []
  for i in (1, 2):
    found.append((new('convolution2d'), f'block1_conv{i}'))
    found.append((new('batchnormalization'), f'block1_conv{i}_bn'))
  counts = {2: 2, 3: 2, 4: 2, **{5 + i: 3 for i in range(middle)}}
  counts |= {5 + middle: 2, 6 + middle: 2}
  for block, count in counts.items():
    shortcut = []
    if block in (2, 3, 4, 5 + middle):
      shortcut = [
        (new('convolution2d'), f'block{block}_shortcut'),
        (new('batchnormalization'), f'block{block}_shortcut_bn'),
      ]
    for i in range(1, count + 1):
      name = f'block{block}_sepconv{i}'
      found.append((new('separableconvolution2d'), name))
      found.append((new('batchnormalization'), f'{name}_bn'))
    found += shortcut
  if top:
    next(made['dense'])  # as if another model had been made before
    found.append((new('dense'), 'predictions'))
  return found


def xception_arrays(width: int, middle: int = 1, top: bool = False) -> dict:
  """Random arrays by name here, with `width` channels wherever it can be."""
  rng = np.random.default_rng(0)
  found, channels = {}, 3
  for name, here in names(middle, top):
    kind = name.rpartition('_')[0]
    if kind == 'convolution2d':
      size = 1 if 'shortcut' in here else 3
      shapes = [(size, size, channels, width)]
    elif kind == 'separableconvolution2d':
      shapes = [(3, 3, width, 1), (1, 1, width, width)]
    elif kind == 'dense':
      shapes = [(width, 10), (10,)]
    else:
      shapes = [(width,)] * 4
    channels = width
    found[here] = [rng.uniform(0.1, 1, s).astype(np.float32) for s in shapes]
  return found


def write(path, arrays: dict, layers=None) -> None:
  """A file of `arrays`, with layers without weights in between.

  Args:
    path: to write.
    arrays: by name here.
    layers: (name, name here) in the order of the file; None: all of Xception.
  """
  if layers is None:
    middle = sum(name.endswith('sepconv3') for name in arrays)
    layers = names(middle, 'predictions' in arrays)
  with h5py.File(path, 'w') as file:
    listed = ['input_1']
    file.create_group('input_1').attrs['weight_names'] = []
    for i, (name, here) in enumerate(layers, start=1):
      group = file.create_group(name)
      weights = []
      kinds = _WEIGHTS[name.rpartition('_')[0]]
      for kind, x in zip(kinds, arrays[here], strict=True):
        weights.append(f'{name}_{kind}:0'.encode())
        group[weights[-1].decode()] = x
      group.attrs['weight_names'] = weights
      file.create_group(f'activation_{i}').attrs['weight_names'] = []
      listed += [name, f'activation_{i}']
    file.attrs['layer_names'] = [x.encode() for x in listed]
