"""The tables of EfficientNetV2-S's weights: timm's `tf_` ones, and Keras's.

Keras scales its input a little less than timm.
"""

from collections.abc import Iterator

from rsna_jax.models import efficientnetv2, keras_port, port, torch_port

_KERAS_SCALE = 255 / 128


def plan(stored: port.Stored, depth: float = 1.0) -> port.Plan:
  """The port of a file; `depth` is that of the network."""
  if stored.form == 'names':
    return _timm(stored, depth)
  fields = {'epsilon': 1e-3, 'input_scale': _KERAS_SCALE}
  return keras_port.plan(
    list(_layers(depth)), stored, fields, 'efficientnetv2_s'
  )


def _timm(stored: port.Stored, depth: float) -> port.Plan:
  before = torch_port.prefix(
    stored.arrays, ('conv_stem.weight',), 'efficientnetv2_s'
  )
  t = torch_port.Table(stored, before)
  t.conv('conv_stem', 'trunk/stem_conv', port.torch_grey)
  t.batch_norm('bn1', 'trunk/stem_bn')
  for name, number, i, stage in efficientnetv2.blocks(depth):
    source, target = f'blocks.{number}.{i}', f'trunk/{name}'
    if stage.fused and stage.expand == 1:
      t.conv(f'{source}.conv', f'{target}/project_conv')
      t.batch_norm(f'{source}.bn1', f'{target}/project_bn')
      continue
    first = 'conv_exp' if stage.fused else 'conv_pw'
    t.conv(f'{source}.{first}', f'{target}/expand_conv')
    t.batch_norm(f'{source}.bn1', f'{target}/expand_bn')
    if not stage.fused:
      t.conv(f'{source}.conv_dw', f'{target}/dwconv2')
      t.batch_norm(f'{source}.bn2', f'{target}/bn')
      for theirs, ours in (('reduce', 'se_reduce'), ('expand', 'se_expand')):
        t.conv(f'{source}.se.conv_{theirs}', f'{target}/{ours}', bias=True)
    t.conv(f'{source}.conv_pwl', f'{target}/project_conv')
    last = 'bn2' if stage.fused else 'bn3'
    t.batch_norm(f'{source}.{last}', f'{target}/project_bn')
  t.conv('conv_head', 'trunk/top_conv')
  t.batch_norm('bn2', 'trunk/top_bn')
  t.classes('classifier')
  return t.plan({'epsilon': 1e-3, 'input_scale': 2.0})


def _layers(depth: float) -> Iterator[keras_port.Layer]:
  """All layers with weights in Keras's order."""

  def conv(name, **kwargs):
    return keras_port.conv(name.replace('/', '_'), f'trunk/{name}', **kwargs)

  def norm(name):
    return keras_port.batch_norm(name.replace('/', '_'), f'trunk/{name}')

  yield conv('stem_conv', stem=True)
  yield norm('stem_bn')
  for name, _, _, stage in efficientnetv2.blocks(depth):
    if not (stage.fused and stage.expand == 1):
      yield conv(f'{name}/expand_conv')
      yield norm(f'{name}/expand_bn')
    if not stage.fused:
      kernel = port.Entry(
        f'params/trunk/{name}/dwconv2/kernel', port.keras_depthwise
      )
      yield keras_port.Layer(
        kind='depthwise_conv2d',
        name=f'{name}_dwconv2',
        weights=(('', kernel),),  # whose weight had two names
      )
      yield norm(f'{name}/bn')
      yield conv(f'{name}/se_reduce', bias=True)
      yield conv(f'{name}/se_expand', bias=True)
    yield conv(f'{name}/project_conv')
    yield norm(f'{name}/project_bn')
  yield conv('top_conv')
  yield norm('top_bn')
  yield keras_port.top()
