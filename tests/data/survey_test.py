import hashlib
import json
import os
import pathlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import encaps, uid

from rsna_jax import errors
from rsna_jax.data import image, mammogram, preprocess, survey

DATA = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA')
  or pathlib.Path(__file__).parents[2] / '../shared/data'
)
SPEC = preprocess.Spec(size=(64, 32))


def breast(shape=(500, 380), top=4095):
  """Half an ellipse with texture at the left edge, 12 bits."""
  y, x = np.mgrid[: shape[0], : shape[1]]
  inside = ((y / shape[0] - 0.5) / 0.35) ** 2 + (x / shape[1] / 0.6) ** 2 < 1
  noise = np.random.default_rng(0).integers(-300, 300, shape)
  pixels = np.where(inside, 2200 + noise, 40 + noise // 20)
  pixels[200:260, 60:110] = top  # a sharp edge makes low-pass bands overshoot
  return pixels.clip(0, 4095).astype(np.uint16)


def write_dicom(path, pixels, syntax=uid.ExplicitVRLittleEndian, **fields):
  found = pydicom.Dataset()
  found.file_meta = pydicom.dataset.FileMetaDataset()
  found.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  found.SOPClassUID = '1.2.840.10008.5.1.4.1.1.1.2'
  found.SOPInstanceUID = '1.2.3.4'
  found.PhotometricInterpretation = 'MONOCHROME2'
  found.SamplesPerPixel = 1
  found.Rows, found.Columns = pixels.shape
  found.BitsAllocated, found.BitsStored, found.HighBit = 16, 12, 11
  found.PixelRepresentation = 0
  found.PixelData = pixels.tobytes()
  for name, value in fields.items():
    setattr(found, name, value)
  if syntax == uid.JPEG2000Lossless:
    found.compress(syntax, generate_instance_uid=False)
  elif syntax == uid.JPEGLosslessSV1:
    frame = imagecodecs.jpeg8_encode(
      pixels, lossless=True, predictor=1, bitspersample=12
    )
    found.PixelData = encaps.encapsulate([frame])
    found['PixelData'].VR = 'OB'
    found['PixelData'].is_undefined_length = True
    found.file_meta.TransferSyntaxUID = syntax
  found.save_as(path, enforce_file_format=True)
  return path


def described(pixels, **fields):
  found = mammogram.Mammogram(
    pixels=pixels, photometric='MONOCHROME2', bits_stored=12, **fields
  )
  return survey.describe(found, preprocess.standardise(found, SPEC))


@pytest.mark.parametrize('top', [2000, 4095])
def test_the_same_pixels_have_one_hash_in_every_codec(tmp_path, top):
  syntaxes = (
    uid.ExplicitVRLittleEndian,
    uid.JPEG2000Lossless,
    uid.JPEGLosslessSV1,
  )
  pixels, hashes = breast(top=top), set()
  for i, syntax in enumerate(syntaxes):
    path = write_dicom(tmp_path / f'{i}.dcm', pixels, syntax)
    found = image.open_mammogram(path)
    assert found.encoding['transfer_syntax'] == syntax
    hashes.add(survey.pixel_hash(found))
    hashes.add(survey.pixel_hash(image.read(path)))
  assert len(hashes) == 1
  pixels[100, 100] += 400
  path = write_dicom(tmp_path / 'other.dcm', pixels)
  assert survey.pixel_hash(image.open_mammogram(path)) not in hashes


def test_the_hash_of_a_small_picture_is_that_of_its_pixels():
  pixels = breast((200, 150))
  found = mammogram.Mammogram(pixels=pixels, bits_stored=12)
  digest = hashlib.sha256(b'(200, 150, 200, 150)')
  digest.update(pixels.astype('<i4').tobytes())
  assert survey.pixel_hash(found) == digest.hexdigest()


def test_real_transcoded_files_have_the_hash_of_their_originals():
  if not (DATA / 'rsna_transcoded').is_dir():
    pytest.skip('no real data at RSNA_JAX_DATA')
  originals = {p.stem: p for p in (DATA / 'rsna_dicom').rglob('*.dcm')}
  copies = sorted((DATA / 'rsna_transcoded').glob('*.dcm'))
  assert copies
  for path in copies:
    copy = image.open_mammogram(path)
    original = image.open_mammogram(originals[path.stem.split('_')[0]])
    assert survey.pixel_hash(copy) == survey.pixel_hash(original), path


def test_facts_are_plain_json_and_name_nobody(tmp_path):
  path = write_dicom(
    tmp_path / 'a.dcm',
    breast(),
    PatientID='SECRET-77',
    PatientName='Doe^Jane',
    ImageLaterality='R',
    ViewPosition='MLO',
    PatientAge='061Y',
    WindowCenter=[2000, 1800],
    WindowWidth=[4000, 900],
    PixelPaddingValue=0,
  )
  found = survey.describe(image.open_mammogram(path), None)
  text = json.dumps(found, allow_nan=False)
  assert json.loads(text) == found
  assert 'SECRET' not in text and 'Doe' not in text
  assert found['attributes'] == {'laterality': 'R', 'view': 'MLO', 'age': 61.0}
  assert found['patient'] == survey.patient_digest('SECRET-77')
  assert (found['rows'], found['columns']) == (500, 380)
  assert (found['windows'], found['window']) == (2, [2000.0, 4000.0])
  assert found['padding'] == [0, 0]
  assert found['bits_stored'] == 12 and found['photometric'] == 'MONOCHROME2'


def test_a_bar_a_label_and_nothing_beside_the_breast_are_told_apart():
  plain, barred, labelled = breast(), breast(), breast()
  barred[:, 330:336] = 700
  labelled[40:60, 320:350] = 4000
  found = [described(pixels) for pixels in (plain, barred, labelled)]
  assert [x['outside'] > 0.001 for x in found] == [False, True, True]
  assert found[1]['outside_height'] == 1.0
  assert 0.02 < found[2]['outside_height'] < 0.08
  assert 0.001 < found[2]['outside_area'] < 0.01
  for x in found:
    assert x['box'] == found[0]['box'] and not x['flipped']
    assert 0.3 < x['box_share'] < 0.7


def test_a_file_is_surveyed_with_pictures_and_without(tmp_path):
  path = str(
    write_dicom(
      tmp_path / 'a.dcm',
      4095 - breast(),
      PhotometricInterpretation='MONOCHROME1',
    )
  )
  spec = preprocess.Spec(size=(64, 32), bits=16)
  bare = survey.survey_file(survey.item(path, spec))
  assert set(bare) == {'facts', 'error'} and not bare['error']
  full = survey.survey_file(survey.item(path, spec, pictures=True))
  assert full['facts'] == bare['facts'] and full['facts']['inverted']
  standard = preprocess.standardise(image.read(path), spec)
  np.testing.assert_array_equal(full['image'], standard.pixels // 256)
  thumbnail = full['thumbnail']
  assert thumbnail.shape == (250, 190) and thumbnail.dtype == np.uint8
  # Shown as a radiologist sees it: bright breast at the left, dark air.
  assert thumbnail[125, 20] > 100 and thumbnail[10, 180] < 20


def test_a_picture_of_a_dark_breast_is_shown_bright(tmp_path):
  pixels = (255 - breast() // 16).astype(np.uint8)
  Image.fromarray(pixels).save(tmp_path / 'a.png')
  item = survey.item(str(tmp_path / 'a.png'), SPEC, pictures=True)
  answer = survey.survey_file(item)
  assert answer['facts']['inverted'] and answer['facts']['photometric'] == ''
  assert answer['thumbnail'][125, 20] > 100 > answer['thumbnail'][10, 180]


def test_a_blank_picture_has_facts_and_an_error(tmp_path):
  Image.new('L', (200, 300)).save(tmp_path / 'a.png')
  item = survey.item(str(tmp_path / 'a.png'), SPEC, pictures=True)
  answer = survey.survey_file(item)
  assert 'no breast' in answer['error'] and '\n' not in answer['error']
  assert answer['facts']['rows'] == 300 and 'box' not in answer['facts']
  assert answer['image'] is None and answer['thumbnail'].max() == 0


def test_a_damaged_file_is_an_error_of_the_input(tmp_path):
  path = tmp_path / 'a.dcm'
  path.write_bytes(b'no image')
  with pytest.raises(errors.InputError, match=r'a\.dcm'):
    survey.survey_file(survey.item(str(path), SPEC))
