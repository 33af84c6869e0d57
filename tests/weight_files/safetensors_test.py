"""safetensors: our writer, and a reader that takes no lie in the header."""

import json

import numpy as np
import pytest
import weight_writers

from rsna_jax import errors
from rsna_jax.weight_files import safetensors

ARRAYS = {
  'b': np.arange(6, dtype=np.float32).reshape(2, 3),
  'a': np.asarray([7], np.int64),
}


def test_what_another_writer_wrote_is_read(tmp_path):
  path = tmp_path / 'x.safetensors'
  weight_writers.safetensors(
    path, ARRAYS, lambda h: h.update(__metadata__={'format': 'pt'})
  )
  found = safetensors.read(path)
  assert list(found) == ['b', 'a'] and found['a'].dtype == np.int64
  np.testing.assert_array_equal(found['b'], ARRAYS['b'])


def test_bfloat16_is_read(tmp_path):
  path = tmp_path / 'x.safetensors'
  bits = (np.asarray([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(
    '<u2'
  )
  header = {'w': {'dtype': 'BF16', 'shape': [2], 'data_offsets': [0, 4]}}
  weight_writers.safetensors(
    path, {'w': bits.view('<f4')}, header=json.dumps(header).encode()
  )
  found = safetensors.read(path)['w'].astype(np.float32)
  np.testing.assert_array_equal(found, [1.5, -2.0])


def test_what_is_written_is_read_back_and_aligned(tmp_path):
  path = tmp_path / 'x.safetensors'
  arrays = {'x/y': np.ones((2, 0, 3), np.float32), 'z': np.float32([1, 2])}
  safetensors.write(path, arrays)
  assert int.from_bytes(path.read_bytes()[:8], 'little') % 8 == 0
  found = safetensors.read(path)
  assert {k: x.shape for k, x in found.items()} == {'x/y': (2, 0, 3), 'z': (2,)}
  np.testing.assert_array_equal(found['z'], [1, 2])


def overlap(header):
  header['a']['data_offsets'] = [16, 24]


def gap(header):
  header['a']['data_offsets'] = [28, 36]


def lie(header):
  header['b']['shape'] = [2, 300]


def negative(header):
  header['b']['shape'] = [-2, -3]


def huge(header):
  header['b']['shape'] = [2**40, 2**40]
  header['b']['data_offsets'] = [0, 2**82]


def other_type(header):
  header['b']['dtype'] = 'F8_E4M3'


def text(header):
  header['b']['data_offsets'] = ['0', '24']


def short(header):
  del header['a']


@pytest.mark.parametrize(
  ('change', 'match'),
  [
    (overlap, 'overlap'),
    (gap, 'leave a gap'),
    (lie, 'do not agree'),
    (negative, 'leave a gap|do not agree'),
    (huge, 'cut short'),
    (other_type, 'do not agree'),
    (text, 'do not agree'),
    (short, 'belong to no array'),
  ],
)
def test_a_header_that_lies_is_refused(tmp_path, change, match):
  path = tmp_path / 'x.safetensors'
  weight_writers.safetensors(path, ARRAYS, change)
  with pytest.raises(errors.DataError, match=match):
    safetensors.read(path)


@pytest.mark.parametrize(
  ('header', 'match'),
  [
    (b'[' * 100_000, 'damaged'),
    (b'{"a": 1, "a": 2}', 'twice'),
    (b'[]', 'no table'),
    (b'{"a": 1}', 'do not agree'),
    (b'\xff', 'damaged'),
  ],
)
def test_a_header_that_is_none_is_refused(tmp_path, header, match):
  path = tmp_path / 'x.safetensors'
  weight_writers.safetensors(path, ARRAYS, header=header)
  with pytest.raises(errors.DataError, match=match):
    safetensors.read(path)


def test_a_huge_header_and_a_cut_file_are_refused(tmp_path):
  path = tmp_path / 'x.safetensors'
  path.write_bytes((2**60).to_bytes(8, 'little') + b'{}')
  with pytest.raises(errors.DataError, match='a header of'):
    safetensors.read(path)
  path.write_bytes(b'')
  with pytest.raises(errors.DataError, match='cut short'):
    safetensors.read(path)
  weight_writers.safetensors(path, ARRAYS)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(errors.DataError, match='cut short'):
    safetensors.read(path)
