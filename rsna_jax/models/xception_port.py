"""The tables of Xception's weights: Keras's files, and timm's.

timm's `legacy_xception` was converted from Keras's weights, but normalises with
PyTorch's epsilon and pads its pools on both sides.
"""

from collections.abc import Iterator

from rsna_jax.models import keras_port, port, torch_port, xception

_POOLED = (2, 3, 4)  # blocks with a shortcut, beside the last but one


def plan(stored: port.Stored, depth: float = 1.0) -> port.Plan:
  """The port of a file.

  Args:
    stored: the file.
    depth: of the network.
  """
  middle = xception.middle_blocks(depth)
  if stored.form == 'names':
    return _timm(stored, middle)
  fields = {'epsilon': 1e-3, 'pool_padding': 'same'}
  return keras_port.plan(list(_layers(middle)), stored, fields, 'xception')


def _blocks(middle: int) -> Iterator[tuple[int, int, bool]]:
  """(number, separable convolutions, with a shortcut) of blocks 2 and on."""
  for block in _POOLED:
    yield block, 2, True
  for block in range(5, 5 + middle):
    yield block, 3, False
  yield 5 + middle, 2, True
  yield 6 + middle, 2, False


def _layers(middle: int) -> Iterator[keras_port.Layer]:
  """All layers with weights in Keras's order, which is by depth.

  A shortcut is stored after its block, but was made before it.
  """
  for i in (1, 2):
    name = f'block1_conv{i}'
    yield keras_port.conv(name, f'trunk/{name}', stem=i == 1)
    yield keras_port.batch_norm(f'{name}_bn', f'trunk/{name}_bn', i)
  made = 2  # batch normalisations
  for block, count, shortcut in _blocks(middle):
    first = made + 1 + shortcut
    for i in range(count):
      name = f'block{block}_sepconv{i + 1}'
      yield keras_port.Layer(
        kind='separable_conv2d',
        name=name,
        weights=(
          (
            'depthwise_kernel',
            port.Entry(
              f'params/trunk/{name}_depthwise/kernel', port.keras_depthwise
            ),
          ),
          (
            'pointwise_kernel',
            port.Entry(f'params/trunk/{name}_pointwise/kernel'),
          ),
        ),
      )
      yield keras_port.batch_norm(f'{name}_bn', f'trunk/{name}_bn', first + i)
    if shortcut:
      name = f'trunk/block{block}_shortcut'
      yield keras_port.conv('', name)
      yield keras_port.batch_norm('', f'{name}_bn', made + 1)
    made += count + shortcut
  yield keras_port.top()


def _timm(stored: port.Stored, middle: int) -> port.Plan:
  before = torch_port.prefix(stored.arrays, ('bn1.weight',), 'xception')
  t = torch_port.Table(stored, before)

  def separable(source, norm, name):
    t.conv(f'{source}.conv1', f'trunk/{name}_depthwise')
    t.conv(f'{source}.pointwise', f'trunk/{name}_pointwise')
    t.batch_norm(norm, f'trunk/{name}_bn')

  t.conv('conv1', 'trunk/block1_conv1', port.torch_grey)
  t.conv('conv2', 'trunk/block1_conv2')
  for i in (1, 2):
    t.batch_norm(f'bn{i}', f'trunk/block1_conv{i}_bn')
  for block, count, shortcut in _blocks(middle):
    if block == 6 + middle:
      for i in (1, 2):
        separable(f'conv{2 + i}', f'bn{2 + i}', f'block{block}_sepconv{i}')
      break
    theirs = f'block{block - 1}'
    # The first block has no leading ReLU, so its places begin one earlier.
    start = 0 if block == 2 else 1
    for i in range(count):
      at = start + 3 * i
      name = f'block{block}_sepconv{i + 1}'
      separable(f'{theirs}.rep.{at}', f'{theirs}.rep.{at + 1}', name)
    if shortcut:
      t.conv(f'{theirs}.skip', f'trunk/block{block}_shortcut')
      t.batch_norm(f'{theirs}.skipbn', f'trunk/block{block}_shortcut_bn')
  t.classes('fc')
  return t.plan({'epsilon': 1e-5, 'pool_padding': 'one'})
