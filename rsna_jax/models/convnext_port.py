"""The tables of ConvNeXt's weights: timm's, its authors', and Keras's.

All were trained on images that each channel has a mean and a deviation of its
own for; the first kernel, whose patches need no padding, takes that up.
"""

import re
from collections.abc import Iterator

import numpy as np

from rsna_jax.models import convnext, keras_port, port, torch_port

_MEAN = np.asarray([0.485, 0.456, 0.406])
_DEVIATION = np.asarray([0.229, 0.224, 0.225])


def plan(stored: port.Stored, depth: float = 1.0) -> port.Plan:
  """The port of a file; `depth` is that of the network."""
  if stored.form == 'names':
    return _torch(stored, depth)
  layers = list(_layers(depth))
  found = keras_port.plan(
    layers, stored, {'epsilon': convnext.EPSILON}, 'convnext_small'
  )
  if found.problems:
    return found
  stem = _key_of(found, 'params/trunk/stem/kernel')
  return port.Plan(
    entries=found.entries,
    left=found.left,
    fields=found.fields,
    added={'params/trunk/stem/bias': lambda x: _bias(x[stem], 2)},
  )


def _key_of(plan: port.Plan, target: str) -> str:
  (key,) = (k for k, e in plan.entries.items() if e.target == target)
  return key


def _scaled(kernel: np.ndarray) -> np.ndarray:
  """A first kernel (h, w, 3, D) for 2 x - 1 of a grey image x in [0, 1]."""
  if kernel.ndim != 4 or kernel.shape[2] != 3:
    raise ValueError('3 input channels wanted')
  return port.grey(kernel / (2 * _DEVIATION)[:, None])


def _torch_scaled(kernel: np.ndarray) -> np.ndarray:
  return _scaled(port.torch_conv(kernel))


def _bias(kernel: np.ndarray, axis: int) -> np.ndarray:
  """What `_scaled` leaves to the bias; `axis` has the input channels."""
  shift = (0.5 - _MEAN) / _DEVIATION
  sums = np.moveaxis(kernel.astype(np.float64), axis, 0)
  sums = np.tensordot(shift, sums, axes=1)
  return sums.sum(axis=(0, 1) if axis == 2 else (1, 2))


def _torch(stored: port.Stored, depth: float) -> port.Plan:
  ours, theirs = 'stem.0.weight', 'downsample_layers.0.0.weight'
  before = torch_port.prefix(stored.arrays, (ours, theirs), 'convnext_small')
  authors = before + theirs in stored.arrays
  t = torch_port.Table(stored, before, _authors_name if authors else str)
  t.conv('stem.0', 'trunk/stem', _torch_scaled, bias=True)
  t.layer_norm('stem.1', 'trunk/stem_norm/norm')
  for stage, count in enumerate(convnext.depths(depth)):
    if stage:
      down = f'trunk/downsample{stage}'
      t.layer_norm(f'stages.{stage}.downsample.0', f'{down}_norm/norm')
      t.conv(f'stages.{stage}.downsample.1', down, bias=True)
    for i in range(count):
      source = f'stages.{stage}.blocks.{i}'
      target = f'trunk/stage{stage}_block{i}'
      t.conv(f'{source}.conv_dw', f'{target}/depthwise', bias=True)
      t.layer_norm(f'{source}.norm', f'{target}/norm/norm')
      t.dense(f'{source}.mlp.fc1', f'{target}/expand')
      t.dense(f'{source}.mlp.fc2', f'{target}/project')
      t.add(f'{source}.gamma', f'params/{target}/scale')
  t.layer_norm('head.norm', 'head/norm')
  t.classes('head.fc')
  return t.plan(
    {'epsilon': convnext.EPSILON},
    added={
      'params/trunk/stem/bias': lambda x: _bias(x[t.key('stem.0.weight')], 1)
    },
  )


def _authors_name(name: str) -> str:
  """The name in the authors' own files, whose blocks are timm's."""
  for pattern, text in (
    (r'^stem\.', 'downsample_layers.0.'),
    (r'^stages\.(\d+)\.downsample\.', r'downsample_layers.\1.'),
    (r'\.blocks\.', '.'),
    (r'conv_dw', 'dwconv'),
    (r'mlp\.fc', 'pwconv'),
    (r'^head\.norm', 'norm'),
    (r'^head\.fc', 'head'),
  ):
    name = re.sub(pattern, text, name)
  return name


def _layers(depth: float) -> Iterator[keras_port.Layer]:
  """All layers with weights in Keras's order."""

  def norm(target):
    return (
      ('gamma', port.Entry(f'params/{target}/scale')),
      ('beta', port.Entry(f'params/{target}/bias')),
    )

  def kernel(target, transform=port.same):
    return (
      ('kernel', port.Entry(f'params/{target}/kernel', transform)),
      ('bias', port.Entry(f'params/{target}/bias')),
    )

  def layer(kind, name, weights, parts=()):
    return keras_port.Layer(
      kind=kind, name=f'convnext_small_{name}', weights=weights, parts=parts
    )

  conv, normalisation = ('conv2d', 2), ('layer_normalization', 2)
  for stage, count in enumerate(convnext.depths(depth)):
    if stage == 0:
      yield layer(
        'sequential',
        'stem',
        (*kernel('trunk/stem', _scaled), *norm('trunk/stem_norm/norm')),
        (conv, normalisation),
      )
    else:
      down = f'trunk/downsample{stage}'
      yield layer(
        'sequential',
        f'downsampling_block_{stage - 1}',
        (*norm(f'{down}_norm/norm'), *kernel(down)),
        (normalisation, conv),
      )
    for i in range(count):
      name, target = f'stage_{stage}_block_{i}', f'trunk/stage{stage}_block{i}'
      yield layer(
        'conv2d', f'{name}_depthwise_conv', kernel(f'{target}/depthwise')
      )
      yield layer(
        'layer_normalization', f'{name}_layernorm', norm(f'{target}/norm/norm')
      )
      for number, ours in ((1, 'expand'), (2, 'project')):
        yield layer(
          'dense', f'{name}_pointwise_conv_{number}', kernel(f'{target}/{ours}')
        )
      # Whose weight had several names.
      scale = port.Entry(f'params/{target}/scale')
      yield layer('layer_scale', f'{name}_layer_scale', (('', scale),))
  yield layer('layer_normalization', 'head_layernorm', norm('head/norm'))
  yield keras_port.top('convnext_small_head_dense')
