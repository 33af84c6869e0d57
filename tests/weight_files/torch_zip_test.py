"""PyTorch's zip format: what is read, and what is refused unexecuted."""

import pickle
import zipfile

import numpy as np
import pytest
import weight_writers

from rsna_jax import errors
from rsna_jax.weight_files import torch_zip

ARRAYS = {
  'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
  'a.num': np.asarray(7, np.int64),
}


def test_tensors_come_back_by_name_with_shape_and_type(tmp_path):
  path = tmp_path / 'x.pth'
  weight_writers.torch_zip(path, ARRAYS)
  found = torch_zip.read(path)
  assert found.keys() == ARRAYS.keys()
  for name, x in ARRAYS.items():
    assert found[name].dtype == x.dtype
    np.testing.assert_array_equal(found[name], x)


def test_strides_of_a_transposed_tensor_are_kept(tmp_path):
  x = np.arange(6, dtype=np.float32).reshape(2, 3).T
  path = tmp_path / 'x.pth'
  pickled = (
    b'\x80\x02}' + weight_writers.text('w') + weight_writers.tensor('0', x)
  )
  weight_writers.torch_zip(
    path, {'w': np.ascontiguousarray(x.T)}, pickled=pickled + b's.'
  )
  np.testing.assert_array_equal(torch_zip.read(path)['w'], x)


def test_a_pickle_is_never_executed(tmp_path):
  marker = tmp_path / 'marker'
  path = tmp_path / 'x.pth'
  pickled = weight_writers.pickle_that_makes(marker)
  weight_writers.torch_zip(path, ARRAYS, pickled=pickled)
  with pytest.raises(errors.DataError, match=r'its pickle calls posix\.mkdir'):
    torch_zip.read(path)
  path.write_bytes(pickled)
  with pytest.raises(errors.DataError, match='a bare pickle'):
    torch_zip.read(path)
  assert not marker.exists()
  pickle.loads(pickled)  # it would have
  assert marker.exists()


@pytest.mark.parametrize(
  ('opcodes', 'match'),
  [
    (
      b'\x80\x02cos\nsystem\n' + weight_writers.text('x') + b'\x85R.',
      'os.sys',
    ),
    (b'\x80\x02(S"id"\nios\nsystem\n.', 'opcode'),
    (b'\x80\x02(cos\nsystem\nX\x02\0\0\0ido.', 'opcode OBJ'),
    (b'\x80\x02}r\xff\xff\xff\xff.', 'holds no'),  # a memo of 2^32 places
    (b'\x80\x02X\xff\xff\xff\x7fab.', 'damaged'),
    (b'\x80\x02' + b'(' * 100_000, 'damaged'),
    (b'\x80\x02N.', 'holds no state dict'),
    (b'\x80\x02}.', 'holds no tensors'),
    (b'\x80\x02R.', 'damaged'),
    (b'', 'damaged'),
  ],
)
def test_other_opcodes_and_names_are_refused(tmp_path, opcodes, match):
  path = tmp_path / 'x.pth'
  weight_writers.torch_zip(path, ARRAYS, pickled=opcodes)
  with pytest.raises(errors.DataError, match=match):
    torch_zip.read(path)


@pytest.mark.parametrize(
  ('shape', 'offset'), [((3, 3), 0), ((2, 3), 1), ((-1, 3), 0), ((2, 3), -1)]
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, shape, offset):
  x = ARRAYS['a.weight']
  path = tmp_path / 'x.pth'
  pickled = (
    b'\x80\x02}'
    + weight_writers.text('w')
    + weight_writers.tensor('0', x, shape, offset)
    + b's.'
  )
  weight_writers.torch_zip(path, {'w': x}, pickled=pickled)
  with pytest.raises(errors.DataError, match='beyond its storage'):
    torch_zip.read(path)


def test_odd_archives_are_refused(tmp_path):
  path = tmp_path / 'x.pth'
  weight_writers.torch_zip(path, ARRAYS, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(errors.DataError, match='another kind'):
    torch_zip.read(path)
  weight_writers.torch_zip(path, ARRAYS, extra=[('b/data.pkl', b'')])
  with pytest.raises(errors.DataError, match='not one state dict'):
    torch_zip.read(path)
  weight_writers.torch_zip(path, {'w': ARRAYS['a.weight']})
  data = path.read_bytes()
  for damaged in (data[:-40], data.replace(b'\0\0\x80\x3f', b'\0\0\x80\x40')):
    path.write_bytes(damaged)
    with pytest.raises(errors.DataError):
      torch_zip.read(path)
