"""ConvNeXt-small computes what Keras and timm compute with the same weights."""

import numpy as np
import ported
import published
import pytest
import weight_writers
from flax import linen as nn

from rsna_jax import errors, weights

DEPTHS = (3, 3, 27, 3)


def timm_shapes(widths=(96, 192, 384, 768), depths=DEPTHS, classes=1000):
  """timm's names and shapes, which the golden hash holds to be all of them."""
  found = {}

  def both(name, shape):
    found[f'{name}.weight'] = shape
    found[f'{name}.bias'] = shape[:1]

  both('stem.0', (widths[0], 3, 4, 4))
  both('stem.1', widths[:1])
  for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
    if stage:
      both(f'stages.{stage}.downsample.0', (widths[stage - 1],))
      both(f'stages.{stage}.downsample.1', (width, widths[stage - 1], 2, 2))
    for i in range(depth):
      block = f'stages.{stage}.blocks.{i}'
      found[f'{block}.gamma'] = (width,)
      both(f'{block}.conv_dw', (width, 1, 7, 7))
      both(f'{block}.norm', (width,))
      both(f'{block}.mlp.fc1', (4 * width, width))
      both(f'{block}.mlp.fc2', (width, 4 * width))
  both('head.norm', widths[-1:])
  both('head.fc', (classes, widths[-1]))
  return found


def head_norm(tree, pooled):
  return nn.LayerNorm(1e-6).apply(
    {'params': tree['params']['head']['norm']}, pooled
  )


def test_features_equal_those_of_timm(tmp_path):
  path = tmp_path / 'x.safetensors'
  arrays = ported.timm_arrays('convnext_small', timm_shapes())
  weight_writers.safetensors(path, arrays)
  found = weights.convert(path, 'convnext_small')
  assert found.fields == {'epsilon': 1e-6}
  ported.compare_with_timm('convnext_small', found, head_norm)


def test_features_and_pooled_ones_equal_keras(tmp_path):
  keras = pytest.importorskip('keras')
  keras.backend.clear_session()
  model = keras.applications.ConvNeXtSmall(
    include_top=False,
    weights=None,
    pooling='avg',
    input_shape=(None, None, 3),
  )
  ported.randomise(model)
  found = ported.from_keras(model, 'convnext_small', tmp_path)
  last = model.layers[-2].input  # of the pooling
  both = keras.Model(model.input, [last, model.output])
  tree = ported.variables(found)
  for image, features in ported.features(found):
    expected = both(np.repeat(image, 3, axis=-1) * 255, training=False)
    pooled = head_norm(tree, np.asarray(features).mean(axis=(1, 2)))
    for seen, there in zip((features, pooled), expected, strict=True):
      ported.assert_close(seen, np.asarray(there))


TINY = {'width': 0.01, 'depth': 0.1}  # 4, 4, 4 and 8 channels


def tiny_arrays():
  shapes = timm_shapes((4, 4, 4, 8), (1, 1, 3, 1), 2)
  return {key: published.random_array(key, s) for key, s in shapes.items()}


def authors_names(arrays):
  """As the files of the paper have them: other words for the same blocks."""
  found = {}
  for key, x in arrays.items():
    parts = key.split('.')
    if parts[0] == 'stem':
      parts[:1] = ['downsample_layers', '0']
    elif parts[:2] == ['head', 'norm']:
      parts = ['norm', *parts[2:]]
    elif parts[:2] == ['head', 'fc']:
      parts = ['head', *parts[2:]]
    elif parts[2] == 'downsample':
      parts = ['downsample_layers', parts[1], *parts[3:]]
    else:
      words = {'conv_dw': ['dwconv'], 'mlp': []}
      words |= {'fc1': ['pwconv1'], 'fc2': ['pwconv2']}
      rest = [w for p in parts[4:] for w in words.get(p, [p])]
      parts = ['stages', parts[1], parts[3], *rest]
    found['.'.join(parts)] = x
  return found


def converted(tmp_path, arrays):
  path = tmp_path / 'x.pth'
  weight_writers.torch_zip(path, arrays)
  return weights.convert(path, 'convnext_small', **TINY)


def test_other_names_of_the_same_weights_give_the_same(tmp_path):
  arrays = tiny_arrays()
  plain = converted(tmp_path, arrays)
  wrapped = {f'module.backbone.{key}': x for key, x in arrays.items()}
  wrapped['module.head.weight'] = np.ones((1, 8), np.float32)
  authors = authors_names(arrays)
  assert 'stages.2.2.pwconv1.weight' in authors
  assert 'downsample_layers.3.1.bias' in authors
  for other in (wrapped, authors):
    found = converted(tmp_path, other)
    for key, x in plain.arrays.items():
      np.testing.assert_array_equal(found.arrays[key], x)
  assert found.left == {
    'head.weight': 'the classes of its last layer are not ours',
    'head.bias': 'the classes of its last layer are not ours',
  }


def test_a_missing_an_additional_array_and_two_backbones_are_refused(tmp_path):
  arrays = tiny_arrays()
  del arrays['stages.1.blocks.0.gamma']
  arrays['norm_pre.weight'] = np.ones(8, np.float32)
  with pytest.raises(errors.DataError) as caught:
    converted(tmp_path, arrays)
  assert caught.value.problems == (
    'stages.1.blocks.0.gamma is missing',
    'norm_pre.weight is additional',
  )
  arrays = tiny_arrays()
  twice = {f'{p}.{k}': x for p in 'ab' for k, x in arrays.items()}
  with pytest.raises(errors.DataError, match='2 backbones'):
    converted(tmp_path, twice)
