import os
import pathlib

import numpy as np
import pytest
import volumes

from rsna_jax import errors, schema
from rsna_jax.data import (
  breast,
  convert,
  dataset,
  deidentify,
  grey,
  image,
  phantom_dicom,
  phantom_patient,
  preprocess,
)

ROOT = pathlib.Path(__file__).parents[2]
REAL = pathlib.Path(os.environ.get('RSNA_JAX_DATA', ROOT / '../shared/data'))
SHAPE = (800, 600)


def made_up(air=0.0, noise=0.0):
  """A breast of 800x600 on air, and where it is."""
  grey_values, inside = volumes.breast(SHAPE)
  shown = (grey_values / 4095).astype(np.float32)
  shown[~inside] = air
  shown += np.random.default_rng(1).normal(0, noise, SHAPE).astype(np.float32)
  return shown, inside


@pytest.mark.parametrize(
  ('air', 'noise', 'mirrored'),
  [(0.0, 0.0, False), (0.0, 0.004, True), (0.15, 0.004, False)],
)
@pytest.mark.parametrize(
  ('place', 'size'),
  [
    ((60, 430), 24),  # in the air
    ((390, 372), 14),  # beside the skin
    ((8, 480), 30),  # in a corner
    ((0, 400), 20),  # touching the frame
    ((770, 470), 40),  # cut off by the frame
    ((20, 300), 9),  # tiny
  ],
)
def test_planted_text_is_found_and_the_breast_is_not(
  place, size, air, noise, mirrored
):
  shown, inside = made_up(air, noise)
  text = volumes.letters('DOE JANE 1943', SHAPE, place, size) & ~inside
  assert text.sum() > 100
  shown[text] = 0.8
  if mirrored:
    shown, inside, text = shown[:, ::-1], inside[:, ::-1], text[:, ::-1]
  found = deidentify.labels(shown)
  assert found[text].all()
  assert not found[inside].any()
  assert found.mean() < 0.15


def test_nothing_is_found_where_nothing_is():
  for air, noise in ((0, 0), (0.2, 0.01)):
    assert not deidentify.labels(made_up(air, noise)[0]).any()
  assert not deidentify.labels(np.zeros(SHAPE, np.float32)).any()


def test_a_plate_with_dark_letters_goes_as_a_whole():
  shown, inside = made_up()
  shown[40:80, 420:580] = 0.9
  # As dark as air, and too thick to be closed by a margin.
  shown[50:70, 440:470] = 0.005
  found = deidentify.labels(shown)
  assert found[40:80, 420:580].all()
  assert not found[inside].any()


def test_strokes_of_one_pixel_are_found_in_a_large_picture():
  small, inside = made_up()
  shown = np.repeat(np.repeat(small, 4, axis=0), 4, axis=1)
  inside = np.repeat(np.repeat(inside, 4, axis=0), 4, axis=1)
  text = np.zeros(shown.shape, bool)
  text[201:260, 2001:2100:9] = True
  text[203, 2001:2100] = True
  shown[text] = 0.6
  found = deidentify.labels(shown)
  assert found[text].all()
  assert not found[inside].any()


def test_skin_that_stands_out_is_not_cut_by_a_label_beside_it():
  shown, _ = made_up()
  nipple = np.zeros(SHAPE, bool)
  nipple[395:405, 330:384] = True
  shown[nipple] = 0.5
  text = np.zeros(SHAPE, bool)
  text[396:404, 386:400:4] = True
  shown[text] = 0.8
  found = deidentify.labels(shown)
  assert found[text].all()
  assert not found[nipple].any()


def test_dark_letters_on_grey_air_are_found():
  shown, inside = made_up(air=0.3)
  text = volumes.letters('DOE JANE', SHAPE, (50, 400), 24)
  shown[text] = 0
  found = deidentify.labels(shown)
  assert found[text].all()
  assert not found[inside].any()


def test_a_piece_of_the_belly_stays():
  shown, _ = made_up()
  y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
  belly = (y - 800) ** 2 + x**2 < 50**2
  shown[belly] = 0.5
  assert not deidentify.labels(shown)[belly].any()


def test_text_regions_take_a_mask_of_any_size():
  shown, inside = made_up()
  text = volumes.letters('DOE', SHAPE, (60, 430), 24)
  shown[text] = 0.8
  found = deidentify.text_regions(shown, inside[::8, ::8])
  assert found.shape == SHAPE
  assert found[text].all()
  assert not found[inside].any()


def test_without_a_breast_labels_cannot_be_told():
  shown = np.zeros(SHAPE, np.float32)
  shown[volumes.letters('DOE', SHAPE, (60, 430), 24)] = 0.8
  with pytest.raises(breast.BreastError):
    deidentify.labels(shown)


def test_every_label_of_the_phantoms_is_found(monkeypatch):
  known = []
  stored_values = phantom_dicom.stored_values

  def spy(values, mask, machine, *, chest_side, label, rng):
    state = rng.bit_generator.state
    bare = stored_values(
      values, mask, machine, chest_side=chest_side, label='', rng=rng
    )
    rng.bit_generator.state = state
    full = stored_values(
      values, mask, machine, chest_side=chest_side, label=label, rng=rng
    )
    mask = mask if chest_side == 'left' else mask[:, ::-1]
    known.append((full != bare, mask))
    return full

  monkeypatch.setattr(phantom_dicom, 'stored_values', spy)
  labels = 0
  for index in range(4):
    known.clear()
    made = phantom_patient.generate(index, seed=3, scale=0.7)
    for phantom, (text, mask) in zip(made, known, strict=True):
      shown = grey.presentation(image.read(phantom.encode()))
      found = deidentify.labels(shown)
      labels += text.any()
      assert found[text].all()
      assert not found[mask].any()
  assert labels >= 5


def test_real_labels_and_bars_go():
  folder = REAL / 'rsna_dicom' / 'train_images'
  if not folder.is_dir():
    pytest.skip(f'{folder} is not there')
  # Rows and columns of the label and of the bar, seen by eye.
  for name, place in (
    ('10011/220375232.dcm', np.s_[245:325, 1645:1850]),
    ('10006/462822612.dcm', np.s_[:, 1700:1810]),
  ):
    shown = grey.presentation(image.read(folder / name))
    found = deidentify.labels(shown)
    bright = shown[place] > 0.05
    assert bright.sum() > 2000
    assert found[place][bright].all()
    assert found.mean() < 0.05


def test_only_columns_of_the_schema_may_leave():
  columns = [*schema.TRAIN_COLUMNS, 'patient_name', 'slab', 'PatientBirthDate']
  assert deidentify.allowed(columns) == [*schema.TRAIN_COLUMNS, 'slab']
  deidentify.check(schema.TEST_COLUMNS)
  with pytest.raises(errors.DataError, match='patient_name'):
    deidentify.check(columns)


def test_no_name_of_a_header_or_a_foreign_column_is_in_a_data_set(tmp_path):
  src = tmp_path / 'src'
  lines = [','.join([*schema.TRAIN_COLUMNS, 'patient_name'])]
  for number, side in enumerate('LR'):
    pixels, _ = volumes.breast(seed=number)
    path = src / 'train_images' / '5' / f'{number}.dcm'
    volumes.write(path, pixels, ImageLaterality=side)
    row = f'1,5,{number},{side},CC,50,0,0,0,,0,B,49,False'
    lines.append(f'{row},CANARYDOE')
  broken = src / 'train_images' / '5' / '9.dcm'
  broken.write_bytes(path.read_bytes()[:-5000])
  lines.append('1,5,9,R,MLO,50,0,0,0,,0,B,49,False,CANARYDOE')
  (src / 'train.csv').write_text('\n'.join(lines) + '\n')
  out = tmp_path / 'out'
  spec = preprocess.Spec(size=(64, 32))
  folder = convert.prepare(src, out, spec=spec, workers=1, bad_files='skip')
  assert (folder / 'skipped.csv').is_file()
  assert not volumes.leaks(out)
  # Shards are compressed, so their examples are looked at as well.
  prepared = dataset.open_folder(folder)
  assert len(prepared) == 2
  (tmp_path / 'examples').mkdir()
  for number, record in enumerate(prepared.read(range(2))):
    (tmp_path / 'examples' / str(number)).write_bytes(record)
  assert not volumes.leaks(tmp_path / 'examples')
