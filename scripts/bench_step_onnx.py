"""Xception as an ONNX graph with made-up weights, for onnxruntime."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def graph(classes: int, channels: int) -> bytes:
  """A model of `image` (B, C, H, W) float32 to `logits` (B, classes)."""
  chance = np.random.default_rng(0)
  nodes, weights, count = [], [], [0]

  def weight(values):
    count[0] += 1
    name = f'w{count[0]}'
    weights.append(numpy_helper.from_array(np.float32(values), name))
    return name

  def node(kind, *inputs, **attributes):
    count[0] += 1
    name = f'x{count[0]}'
    nodes.append(helper.make_node(kind, inputs, [name], **attributes))
    return name

  def conv(x, inputs, outputs, side, stride, pad=0, groups=1):
    shape = (outputs, inputs // groups, side, side)
    kernel = chance.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5
    return node(
      'Conv',
      x,
      weight(kernel),
      kernel_shape=[side, side],
      strides=[stride, stride],
      pads=[pad] * 4,
      group=groups,
    )

  def norm(x, size):
    values = [np.ones(size), np.zeros(size), np.zeros(size), np.ones(size)]
    return node('BatchNormalization', x, *map(weight, values), epsilon=1e-3)

  def separable(x, inputs, outputs):
    x = conv(x, inputs, inputs, 3, 1, 1, inputs)
    return norm(conv(x, inputs, outputs, 1, 1), outputs)

  def strided(x, inputs, counts, first_relu=True):
    shortcut = norm(conv(x, inputs, counts[1], 1, 2), counts[1])
    if first_relu:
      x = node('Relu', x)
    x = node('Relu', separable(x, inputs, counts[0]))
    x = separable(x, *counts)
    x = node(
      'MaxPool',
      x,
      kernel_shape=[3, 3],
      strides=[2, 2],
      auto_pad='SAME_UPPER',
    )
    return node('Add', x, shortcut)

  x = node('Relu', norm(conv('image', channels, 32, 3, 2), 32))
  x = node('Relu', norm(conv(x, 32, 64, 3, 1), 64))
  x = strided(x, 64, (128, 128), False)
  x = strided(x, 128, (256, 256))
  x = strided(x, 256, (728, 728))
  for _ in range(8):
    y = x
    for _ in range(3):
      y = separable(node('Relu', y), 728, 728)
    x = node('Add', x, y)
  x = strided(x, 728, (728, 1024))
  x = node('Relu', separable(x, 1024, 1536))
  x = node('Relu', separable(x, 1536, 2048))
  x = node('Flatten', node('GlobalAveragePool', x))
  dense = weight(chance.normal(size=(2048, classes)) * 0.02)
  nodes.append(helper.make_node('MatMul', [x, dense], ['logits']))

  def value(name, shape):
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

  made = helper.make_model(
    helper.make_graph(
      nodes,
      'xception',
      [value('image', ['B', channels, 'H', 'W'])],
      [value('logits', ['B', classes])],
      weights,
    ),
    opset_imports=[helper.make_opsetid('', 17)],
    ir_version=9,
  )
  return made.SerializeToString()
