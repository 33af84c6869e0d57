"""HDF5 that leads out of its file, and models that hold code, are refused."""

import io
import json
import zipfile

import h5py
import keras1
import numpy as np
import pytest

from rsna_jax import errors
from rsna_jax.weight_files import keras_file


@pytest.fixture
def path(tmp_path):
  path = tmp_path / 'x.h5'
  keras1.write(path, keras1.xception_arrays(4, top=True))
  return path


def test_layers_come_in_the_order_of_the_file_not_of_their_names(path):
  found = keras_file.read(path)
  assert found['form'] == 'layers' and found['epsilons'] == []
  order = list(dict.fromkeys(key.partition('/')[0] for key in found['arrays']))
  assert order == [name for name, _ in keras1.names(1, True)]
  assert order != sorted(order) and order[-1] == 'dense_2'
  expected = keras1.xception_arrays(4, top=True)['block1_conv1'][0]
  key = 'convolution2d_1/convolution2d_1_W:0'
  np.testing.assert_array_equal(found['arrays'][key], expected)


def test_a_list_of_names_that_keras_cut_into_pieces_is_joined(path):
  whole = keras_file.read(path)['arrays']
  with h5py.File(path, 'r+') as file:
    names = list(file.attrs['layer_names'])
    del file.attrs['layer_names']
    file.attrs['layer_names0'] = names[:5]
    file.attrs['layer_names1'] = names[5:]
  assert list(keras_file.read(path)['arrays']) == list(whole)


def outside(tmp_path):
  secret = tmp_path / 'secret.h5'
  with h5py.File(secret, 'w') as file:
    file['w'] = np.full(4, 42, np.float32)
  return secret


def soft_link(file, tmp_path):
  file['convolution2d_1/y'] = h5py.SoftLink('/batchnormalization_1')


def external_link(file, tmp_path):
  name = 'batchnormalization_1/batchnormalization_1_beta:0'
  del file[name]
  file[name] = h5py.ExternalLink(str(outside(tmp_path)), '/w')


def external_storage(file, tmp_path):
  name = 'batchnormalization_1/batchnormalization_1_beta:0'
  del file[name]
  raw = tmp_path / 'raw'
  raw.write_bytes(bytes(16))
  file.create_dataset(name, (4,), 'f4', external=[(str(raw), 0, 16)])


def virtual(file, tmp_path):
  name = 'batchnormalization_1/batchnormalization_1_beta:0'
  del file[name]
  layout = h5py.VirtualLayout((4,), 'f4')
  layout[:] = h5py.VirtualSource(str(outside(tmp_path)), 'w', (4,))
  file.create_virtual_dataset(name, layout)


def four_terabytes(file, tmp_path):
  name = 'batchnormalization_1/batchnormalization_1_beta:0'
  del file[name]
  file.create_dataset(name, (2**40,), 'f4', chunks=(1024,))


def texts(file, tmp_path):
  name = 'batchnormalization_1/batchnormalization_1_beta:0'
  del file[name]
  file[name] = ['a', 'b']


def code(file, tmp_path):
  layer = {'class_name': 'Lambda', 'config': {'function': ['4wEA', None, None]}}
  file.attrs['model_config'] = json.dumps({'config': {'layers': [layer]}})


def deep(file, tmp_path):
  file.attrs['model_config'] = '[' * 30_000


def no_such_layer(file, tmp_path):
  file.attrs['layer_names'] = [b'nowhere']


def no_names(file, tmp_path):
  del file['convolution2d_1'].attrs['weight_names']


def same_twice(file, tmp_path):
  names = list(file.attrs['layer_names'])
  file.attrs['layer_names'] = [*names, names[1]]


@pytest.mark.parametrize(
  ('harm', 'match'),
  [
    (soft_link, 'is a link'),
    (external_link, 'is a link'),
    (external_storage, 'values in another file'),
    (virtual, 'values in another file'),
    (four_terabytes, 'too many'),
    (texts, 'floats wanted'),
    (code, 'Lambda'),
    (deep, 'description is damaged'),
    (no_such_layer, 'damaged'),
    (no_names, 'has no weight_names'),
    (same_twice, 'twice'),
  ],
)
def test_hostile_files_are_refused(path, tmp_path, harm, match):
  with h5py.File(path, 'r+') as file:
    harm(file, tmp_path)
  with pytest.raises(errors.DataError, match=match):
    keras_file.read(path)


def test_an_array_that_no_attribute_lists_is_told(path):
  with h5py.File(path, 'r+') as file:
    file['convolution2d_1/more'] = np.zeros(3, np.float32)
  assert 'convolution2d_1/more' in keras_file.read(path)['arrays']


def test_files_that_are_cut_or_of_another_kind_are_refused(path):
  data = path.read_bytes()
  for text in (data[: len(data) // 2], b'', b'not HDF5', b'PK\3\4 no zip'):
    path.write_bytes(text)
    with pytest.raises(errors.DataError, match='damaged or no file of Keras'):
      keras_file.read(path)


def archive(path, config, members=()):
  file = io.BytesIO()
  with h5py.File(file, 'w') as made:
    made['layers/dense/vars/0'] = np.ones((2, 2), np.float32)
    made['layers/dense/vars'].attrs['name'] = 'predictions'
    made['optimizer/vars/0'] = np.ones(1, np.float32)
  with zipfile.ZipFile(path, 'w') as out:
    out.writestr('config.json', json.dumps(config))
    out.writestr('model.weights.h5', file.getvalue())
    for name in members:
      out.writestr(name, b'')


def test_an_archive_gives_paths_names_and_epsilons(tmp_path):
  path = tmp_path / 'x.keras'
  norm = {'class_name': 'BatchNormalization', 'config': {'epsilon': 0.5}}
  archive(path, {'config': {'layers': [norm]}})
  found = keras_file.read(path)
  assert found['form'] == 'paths' and found['epsilons'] == [0.5]
  assert list(found['arrays']) == ['layers/dense/vars/0']
  assert found['names'] == {'layers/dense': 'predictions'}


def test_an_archive_with_code_or_too_many_members_is_refused(tmp_path):
  path = tmp_path / 'x.keras'
  inner = {'class_name': '__lambda__', 'config': {'code': '4wEA'}}
  archive(path, {'layers': [{'config': {'activation': inner}}]})
  with pytest.raises(errors.DataError, match='Lambda'):
    keras_file.read(path)
  archive(path, {}, [f'assets/{i}' for i in range(20)])
  with pytest.raises(errors.DataError, match='other members'):
    keras_file.read(path)
