"""Mammograms pass, whatever is done to their file; other pictures do not."""

import io
import pathlib
import sys

import matplotlib
import numpy as np
import pytest
import serve_mammograms as mammograms
import tiny
from PIL import Image

from rsna_jax.data import image, preprocess, shown
from rsna_jax.serve.intake import gate, headers, intake_worker

SCRIPTS = pathlib.Path(__file__).parents[2] / 'scripts'
REAL = pathlib.Path(__file__).parents[3] / 'shared' / 'data' / 'rsna640'
SPEC = preprocess.Spec(size=(64, 32))
LIMIT = 0.5


@pytest.fixture(scope='module')
def gate_pictures():
  sys.path.insert(0, str(SCRIPTS))
  import gate_pictures

  sys.path.remove(str(SCRIPTS))
  return gate_pictures


def _score(data):
  """Of the bytes of a file, as an upload is scored."""
  found = image.open_mammogram(data)
  standard = preprocess.standardise(found, SPEC)
  picture = shown.whole(found, SPEC, standard.inverted, 512)
  return gate.score(picture, intake_worker.colours(data))[0]


def _refused(data):
  try:
    return _score(data) < LIMIT
  except preprocess.PreprocessError:
    return True


@pytest.mark.parametrize('seed', range(6))
def test_phantoms_pass(seed):
  assert _score(mammograms.dicom(mammograms.grey(seed, (640, 512)))) > LIMIT
  pixels = tiny.picture(np.random.default_rng(seed), bool(seed % 2))
  assert _score(mammograms.picture(pixels, 'PNG')) > LIMIT


@pytest.mark.parametrize('change', ['mirrored', 'inverted', 'jpeg', 'rgb'])
def test_what_is_done_to_a_picture_does_not_count(change):
  pixels = mammograms.grey(1)
  data = {
    'mirrored': lambda: mammograms.picture(pixels[:, ::-1], 'PNG'),
    'inverted': lambda: mammograms.picture(255 - pixels, 'PNG'),
    'jpeg': lambda: mammograms.picture(pixels, 'JPEG', quality=40),
    'rgb': lambda: mammograms.picture(
      np.repeat(pixels[..., None], 3, 2), 'JPEG', quality=60
    ),
  }[change]()
  assert _score(data) > LIMIT
  found = intake_worker.colours(data)
  assert (found is not None) == (change == 'rgb')
  assert found is None or not gate.is_tinted(found)


@pytest.mark.parametrize('name', ['jet', 'viridis', 'hot', 'inferno', 'bone'])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_a_mammogram_through_a_colour_map_passes(name, kind):
  colours = matplotlib.colormaps[name](mammograms.grey(2, (640, 512)))[..., :3]
  data = mammograms.picture((colours * 255).astype(np.uint8), kind)
  assert _score(data) > LIMIT
  if name != 'bone':
    assert gate.is_tinted(intake_worker.colours(data))


def test_real_mammograms_pass():
  paths = sorted(REAL.glob('train_images/*/*'))
  if not paths:
    pytest.skip('the pictures of rsna640 are not beside the project')
  assert sum(_refused(path.read_bytes()) for path in paths[::60]) == 0


def test_pictures_of_other_things_do_not_pass(gate_pictures):
  taken = total = 0
  for kind in gate_pictures.KINDS:
    # Others than those that the weights were found on.
    for picture in gate_pictures.pictures(kind, 3, seed=77):
      out = io.BytesIO()
      picture.save(out, 'PNG')
      taken += not _refused(out.getvalue())
      total += 1
  assert total == 42
  assert taken <= 2


def test_an_uneven_ground_in_colour_is_no_colour_map():
  pixels = np.repeat(mammograms.grey(2)[..., None], 3, 2)
  rng = np.random.default_rng(0)
  ground = rng.integers(0, 255, pixels.shape).astype(np.uint8)
  mixed = np.where(pixels == 0, ground, pixels)
  picture = mammograms.grey(2)
  assert gate.score(picture, pixels)[0] > LIMIT
  found, reason = gate.score(picture, mixed)
  assert found == 0
  assert 'in colour' in reason


def test_the_reason_names_what_is_unusual():
  blank, reason = gate.score(np.zeros((200, 200), np.uint8))
  assert blank == 0
  assert 'blank' in reason
  disk = np.hypot(*np.mgrid[-100:100, -100:100]) < 60
  found, reason = gate.score(disk.astype(np.uint8) * 200)
  assert found < LIMIT
  assert 'one side' in reason


def test_colours_are_those_of_the_upright_picture():
  pixels = np.zeros((60, 40, 3), np.uint8)
  pixels[:30, :, 0] = 200
  exif = Image.Exif()
  exif[0x0112] = 3  # upside down
  data = mammograms.picture(pixels, 'JPEG', exif=exif, subsampling=0)
  found = intake_worker.colours(data)
  assert found[10, 20, 0] < 50
  assert found[50, 20, 0] > 150


@pytest.mark.parametrize(
  'keyword, value, named',
  [
    ('Modality', 'CT', 'modality'),
    ('SOPClassUID', '1.2.840.10008.5.1.4.1.1.2', 'SOPClassUID'),
    ('BodyPartExamined', 'CHEST', 'part of the body'),
    ('BodyPartExamined', 'C SPINE', 'part of the body'),
    ('ImageType', ['ORIGINAL', 'PRIMARY', 'LOCALIZER'], 'localizer'),
    ('Modality', 'DX', None),
    ('BodyPartExamined', 'BREAST', None),
    ('BodyPartExamined', 'MAMMA', None),
    ('BodyPartExamined', '', None),
    ('ImageType', ['DERIVED', 'PRIMARY', '', 'LEFT'], None),
    ('SOPClassUID', '1.2.840.10008.5.1.4.1.1.7', None),
  ],
)
def test_a_header_that_names_something_else_is_believed(keyword, value, named):
  found = headers.reason(mammograms.dataset(**{keyword: value}))
  assert (found is None) == (named is None)
  assert named is None or named in found
