"""Ported weights compute what Keras and timm compute with them."""

import functools
import itertools

import keras1
import numpy as np
import ported
import published
import pytest

from rsna_jax import weights
from rsna_jax.models import layers, port
from rsna_jax.weight_files import safetensors


@pytest.fixture(scope='module')
def keras_model():
  """Keras's Xception of any size, with weights that are all unlike."""
  keras = pytest.importorskip('keras')
  keras.backend.clear_session()
  model = keras.applications.Xception(
    include_top=False, weights=None, input_shape=(None, None, 3)
  )
  ported.randomise(model)
  return model


@pytest.fixture(scope='module')
def legacy(keras_model, tmp_path_factory):
  """Its legacy file, and what was ported of it."""
  folder = tmp_path_factory.mktemp('legacy')
  keras_model.save(folder / 'x.h5')
  return weights.convert(folder / 'x.h5', 'xception', folder / 'out')


def block_outputs(network, variables, image):
  """What each batch normalisation gives, by name, and the feature map."""

  @ported.quick_jit
  def run(variables, image):
    features, seen = network.apply(
      variables,
      image,
      method=network.features,
      capture_intermediates=lambda module, _: isinstance(
        module, layers.BatchNorm
      ),
    )
    return features, seen['intermediates']['trunk']

  features, seen = run(variables, image)
  found = {name: x['__call__'][0] for name, x in seen.items()}
  return {**found, 'features': features}


@pytest.mark.parametrize('size', ported.SIZES)
def test_every_block_equals_keras(keras_model, legacy, size):
  keras = pytest.importorskip('keras')
  shortcuts = iter((2, 3, 4, 13))
  outputs = {}
  for layer in keras_model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
      name = layer.name
      if not name.startswith('block'):
        name = f'block{next(shortcuts)}_shortcut_bn'
      outputs[name] = layer.output
  outputs['features'] = keras_model.output
  image = published.image(size)
  colour = np.repeat(image, 3, axis=-1)
  scaled = keras.applications.xception.preprocess_input(colour * 255)
  expected = keras.Model(keras_model.input, outputs)(scaled, training=False)
  found = block_outputs(ported.network(legacy), ported.variables(legacy), image)
  assert found.keys() == expected.keys() and len(found) == 41
  worst = {}
  for name in expected:
    there = np.asarray(expected[name])
    scale = np.abs(there).max()
    assert scale > 0.5, name
    worst[name] = np.abs(found[name] - there).max() / scale
  print(f'{size}: greatest relative difference {max(worst.values()):.2g}')
  assert max(worst.values()) < 1e-5, worst


def test_all_forms_of_a_keras_file_give_the_same(keras_model, legacy, tmp_path):
  assert legacy.fields == {'epsilon': 1e-3, 'pool_padding': 'same'}
  with_weights = [x for x in keras_model.layers if x.weights]
  order = keras1.names()
  arrays = {
    here: layer.get_weights()
    for (_, here), layer in zip(order, with_weights, strict=True)
  }
  keras1.write(tmp_path / 'first.h5', arrays)
  keras_model.save(tmp_path / 'third.keras')
  keras_model.save_weights(tmp_path / 'third.weights.h5')
  for name in ('first.h5', 'third.keras', 'third.weights.h5'):
    found = weights.convert(tmp_path / name, 'xception')
    assert found.fields == legacy.fields
    assert found.arrays.keys() == legacy.arrays.keys()
    for key, x in legacy.arrays.items():
      np.testing.assert_array_equal(found.arrays[key], x, err_msg=key)
    (tmp_path / name).unlink()


def test_features_equal_those_of_timm(tmp_path):
  path = tmp_path / 'x.safetensors'
  arrays = ported.timm_arrays('legacy_xception', timm_shapes())
  del arrays['bn1.num_batches_tracked']  # older files have none
  safetensors.write(path, arrays)
  found = weights.convert(path, 'xception')
  assert found.fields == {'epsilon': 1e-5, 'pool_padding': 'one'}
  ported.compare_with_timm('legacy_xception', found)


def timm_shapes():
  """timm's names and shapes, which the golden hash holds to be all of them."""
  found = {
    'conv1.weight': (32, 3, 3, 3),
    'conv2.weight': (64, 32, 3, 3),
    'fc.weight': (1000, 2048),
    'fc.bias': (1000,),
  }

  def norm(name, size):
    for last in ('weight', 'bias', 'running_mean', 'running_var'):
      found[f'{name}.{last}'] = (size,)
    found[f'{name}.num_batches_tracked'] = ()

  def separable(name, norm_name, inputs, outputs):
    found[f'{name}.conv1.weight'] = (inputs, 1, 3, 3)
    found[f'{name}.pointwise.weight'] = (outputs, inputs, 1, 1)
    norm(norm_name, outputs)

  norm('bn1', 32)
  norm('bn2', 64)
  sizes = [(64, 128), (128, 256), (256, 728), *[(728, 728)] * 8, (728, 1024)]
  for block, (inputs, outputs) in enumerate(sizes, start=1):
    middle = 4 <= block <= 11
    widths = [inputs, outputs, outputs]
    if block == 12:
      widths = [inputs, inputs, outputs]
    if middle:
      widths = [728] * 4
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
      at = 3 * i + (block > 1)
      rep = f'block{block}.rep'
      separable(f'{rep}.{at}', f'{rep}.{at + 1}', a, b)
    if not middle:
      found[f'block{block}.skip.weight'] = (outputs, inputs, 1, 1)
      norm(f'block{block}.skipbn', outputs)
  separable('conv3', 'bn3', 1024, 1536)
  separable('conv4', 'bn4', 1536, 2048)
  return found


def test_a_grey_image_gives_what_three_equal_channels_give():
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, 3, 8)).astype(np.float32)
  image = rng.random((1, 9, 8, 1)).astype(np.float32)
  conv = functools.partial(layers.conv3x3, stride=2, padding='VALID')
  np.testing.assert_allclose(
    conv(image, port.grey(kernel).astype(np.float32)),
    conv(np.repeat(image, 3, axis=-1), kernel),
    atol=1e-5,
  )
