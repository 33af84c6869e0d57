import pathlib

import numpy as np
import pytest
import serve_mammograms as mammograms

from rsna_jax.data import image, preprocess
from rsna_jax.serve import intake, problems, settings

SPEC = preprocess.Spec(size=(64, 32))


@pytest.fixture(scope='module')
def limits():
  return settings.Settings(store=pathlib.Path('unused'), decoders=1)


@pytest.fixture(scope='module')
def reader(limits):
  with intake.Intake(limits) as reader:
    reader.start()
    yield reader


def _refused(reader, data, name='a'):
  with pytest.raises(problems.Problem) as found:
    reader.read(data, name, [SPEC.to_json()])
  return found.value.code


@pytest.mark.parametrize('kind', ['dicom', 'png', 'jpeg', 'pgm'])
def test_each_kind_is_standardised_as_everywhere_else(reader, kind):
  if kind == 'dicom':
    data = mammograms.dicom()
  else:
    form = {'png': 'PNG', 'jpeg': 'JPEG', 'pgm': 'PPM'}[kind]
    data = mammograms.picture(mammograms.grey(), form)
  upload = reader.read(data, f'a/b.{kind}', [SPEC.to_json()])
  expected = preprocess.standardise(image.open_mammogram(data), SPEC)
  np.testing.assert_array_equal(upload.pixels[0], expected.pixels)
  assert upload.kind == kind
  assert upload.name == f'b.{kind}'
  assert upload.box == expected.box
  assert upload.original_shape == mammograms.SHAPE
  assert upload.picture.shape == mammograms.SHAPE
  np.testing.assert_array_equal(upload.to_original, expected.to_original)
  if kind == 'dicom':
    assert upload.attributes == {'laterality': 'L', 'view': 'CC', 'age': 61}
  assert upload.kept is None


def test_several_specs_are_made_of_one_decoding(reader):
  specs = [SPEC, preprocess.Spec(size=(32, 32), bits=16)]
  upload = reader.read(mammograms.dicom(), 'a', [s.to_json() for s in specs])
  assert [p.shape for p in upload.pixels] == [(64, 32), (32, 32)]
  assert [p.dtype.itemsize for p in upload.pixels] == [1, 2]


def test_what_is_no_image_is_refused_before_it_is_decoded(limits):
  # This intake has no children: it would fail to start one.
  reader = intake.Intake(limits)
  reader._pool.call = None
  assert _refused(reader, b'') == 'E_EMPTY'
  assert _refused(reader, b'x') == 'E_DAMAGED'
  assert _refused(reader, b'%PDF-1.7' + bytes(999)) == 'E_TYPE'
  assert _refused(reader, bytes(limits.file_bytes + 1)) == 'E_SIZE'
  preamble = b'MZ' + mammograms.dicom()[2:]
  assert _refused(reader, preamble) == 'E_PREAMBLE'
  assert _refused(reader, mammograms.dicom(), 'a.png') == 'E_UNUSABLE'
