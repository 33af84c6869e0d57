"""EfficientNetV2-S computes what Keras and timm do with the same weights."""

import numpy as np
import ported
import pytest
import weight_writers

from rsna_jax import weights

# Blocks, channels, expansion, and whether the 3x3 is a depthwise.
STAGES = (
  (2, 24, 1, False),
  (4, 48, 4, False),
  (4, 64, 4, False),
  (6, 128, 4, True),
  (9, 160, 6, True),
  (15, 256, 6, True),
)


def timm_shapes():
  """timm's names and shapes, which the golden hash holds to be all of them."""
  found = {
    'conv_stem.weight': (24, 3, 3, 3),
    'conv_head.weight': (1280, 256, 1, 1),
    'classifier.weight': (1000, 1280),
    'classifier.bias': (1000,),
  }

  def norm(name, size):
    for last in ('weight', 'bias', 'running_mean', 'running_var'):
      found[f'{name}.{last}'] = (size,)
    found[f'{name}.num_batches_tracked'] = ()

  norm('bn1', 24)
  norm('bn2', 1280)
  inputs = 24
  for stage, (count, outputs, expand, depthwise) in enumerate(STAGES):
    for i in range(count):
      block, wide = f'blocks.{stage}.{i}', inputs * expand
      if expand == 1:
        found[f'{block}.conv.weight'] = (outputs, inputs, 3, 3)
        norm(f'{block}.bn1', outputs)
      else:
        name, side = ('conv_pw', 1) if depthwise else ('conv_exp', 3)
        found[f'{block}.{name}.weight'] = (wide, inputs, side, side)
        norm(f'{block}.bn1', wide)
        if depthwise:
          found[f'{block}.conv_dw.weight'] = (wide, 1, 3, 3)
          norm(f'{block}.bn2', wide)
          narrow = inputs // 4
          for way, shape in (
            ('reduce', (narrow, wide, 1, 1)),
            ('expand', (wide, narrow, 1, 1)),
          ):
            found[f'{block}.se.conv_{way}.weight'] = shape
            found[f'{block}.se.conv_{way}.bias'] = shape[:1]
        found[f'{block}.conv_pwl.weight'] = (outputs, wide, 1, 1)
        norm(f'{block}.bn{3 if depthwise else 2}', outputs)
      inputs = outputs
  return found


def test_features_equal_those_of_timm(tmp_path):
  path = tmp_path / 'x.pth'
  arrays = ported.timm_arrays('tf_efficientnetv2_s', timm_shapes())
  weight_writers.torch_zip(path, arrays)
  found = weights.convert(path, 'efficientnetv2_s')
  assert found.fields == {'epsilon': 1e-3, 'input_scale': 2.0}
  ported.compare_with_timm('tf_efficientnetv2_s', found)


def test_features_equal_keras(tmp_path):
  keras = pytest.importorskip('keras')
  keras.backend.clear_session()
  model = keras.applications.EfficientNetV2S(
    include_top=False, weights=None, input_shape=(None, None, 3)
  )
  ported.randomise(model)
  found = ported.from_keras(model, 'efficientnetv2_s', tmp_path)
  assert found.fields['input_scale'] == 255 / 128
  for image, features in ported.features(found):
    colour = np.repeat(image, 3, axis=-1)
    expected = model(colour * 255, training=False)
    ported.assert_close(features, np.asarray(expected))
