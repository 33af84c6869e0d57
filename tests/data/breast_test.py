"""Finding the breast in pictures whose breast is known, and in real ones."""

import csv
import os
import pathlib

import numpy as np
import pytest

from rsna_jax.data import breast, grey, image

DATA = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA')
  or pathlib.Path(__file__).parents[3] / 'shared' / 'data'
)
real = pytest.mark.skipif(
  not (DATA / 'rsna640').is_dir(), reason='no real data at RSNA_JAX_DATA'
)


def scene(
  air=0.0, noise=0.005, top=200, height=400, width=250, shape=(800, 600)
):
  """(image, box): half an ellipse at the left edge, textured."""
  rng = np.random.default_rng(0)
  rows = np.arange(shape[0])[:, None] + 0.5
  cols = np.arange(shape[1])[None] + 0.5
  middle = top + height / 2
  inside = ((rows - middle) / (height / 2)) ** 2 + (cols / width) ** 2 < 1
  picture = np.where(inside, 0.5 + rng.normal(0, 0.1, shape), air)
  picture += rng.normal(0, noise, shape)
  return np.clip(picture, 0, 1), (top, 0, top + height, width)


def close(box, expected, pixels=12) -> bool:
  """Whether a box holds another one, with no more than a small margin."""
  signs = np.array([1, 1, -1, -1])
  margin = (np.array(expected) - np.array(box)) * signs
  return bool((margin >= 0).all() and (margin <= pixels + 1).all())


@pytest.mark.parametrize('air', [0.0, 0.1])
@pytest.mark.parametrize('noise', [0.0, 0.005])
def test_the_box_holds_the_breast_and_little_else(air, noise):
  picture, expected = scene(air, noise)
  found = breast.find(picture)
  assert close(found.box, expected), found.box
  assert found.chest_side == 'left'
  mirrored = breast.find(picture[:, ::-1])
  assert mirrored.chest_side == 'right'
  top, left, bottom, right = expected
  assert close(mirrored.box, (top, 600 - right, bottom, 600 - left))


def test_labels_bars_and_frames_are_left_out():
  picture, expected = scene()
  picture[20:60, 420:560] = 1.0  # a label
  picture[:, 400:408] = 0.6  # a full-height bar
  picture[:, -6:] = 1.0  # a film's frame
  picture[-5:] = 1.0
  found = breast.find(picture)
  assert close(found.box, expected), found.box
  rows, cols = np.array(picture.shape) / found.mask.shape
  assert not found.mask[:, int(350 / cols) :].any()
  assert not found.mask[: int(150 / rows)].any()


def test_a_bright_marker_does_not_hide_a_faint_breast():
  picture, expected = scene()
  picture = picture * 0.3
  picture[20:60, 420:460] = 1.0
  assert close(breast.find(picture).box, expected)


def test_the_nipple_is_kept():
  picture, expected = scene()
  picture[390:410, 240:265] = 0.5
  found = breast.find(picture)
  assert close(found.box, (*expected[:3], 265)), found.box


def test_an_implant_is_no_hole_in_the_breast():
  picture, _ = scene()
  rows, cols = np.ogrid[:800, :600]
  picture[(rows - 400) ** 2 + (cols - 90) ** 2 < 60**2] = 0
  found = breast.find(picture)
  scale = 800 / found.mask.shape[0]
  assert found.mask[int(400 / scale), int(90 / scale)]


@pytest.mark.parametrize('shape', [(64, 64), (300, 70), (70, 300)])
def test_small_pictures_have_breasts_too(shape):
  picture, expected = scene(
    top=shape[0] // 4,
    height=shape[0] // 2,
    width=shape[1] // 2,
    shape=shape,
  )
  found = breast.find(picture)
  assert close(found.box, expected, pixels=5), found.box


@pytest.mark.parametrize(
  'picture',
  [
    np.zeros((200, 100)),
    np.full((200, 100), 0.7),
    np.pad(np.ones((4, 4)), 150),
  ],
)
def test_a_blank_picture_has_no_breast(picture):
  with pytest.raises(breast.BreastError, match='no breast'):
    breast.find(picture)


@real
def test_side_and_polarity_of_real_pictures_are_found():
  with (DATA / 'rsna640' / 'facts.csv').open() as file:
    facts = [r for r in csv.DictReader(file) if r['chest_side'] != 'unclear']
  chosen = facts[::18]  # 150 pictures of all machines
  wrong_side = wrong_polarity = 0
  for fact in chosen:
    folder = DATA / 'rsna640' / 'train_images' / fact['patient_id']
    picture = image.read(folder / f'{fact["image_id"]}.jpg')
    inverted = grey.looks_inverted(picture.pixels)
    wrong_polarity += inverted != (fact['inverted'] == 'True')
    found = breast.find(grey.presentation(picture))
    wrong_side += found.chest_side != fact['chest_side']
  # All of them were right when this was written (2,704 of 2,704).
  assert wrong_side <= len(chosen) // 100
  assert wrong_polarity <= len(chosen) // 100


def test_a_label_close_to_the_skin_is_not_taken_for_the_nipple():
  y, x = np.mgrid[:300, :220]
  picture = np.where((y - 150) ** 2 + x**2 < 100**2, 1.0, 0.0)
  # As near as a nipple may be thin: 2 / 64 of the longer side.
  picture[140:160, 104:109] = 1.0
  found = breast.find(picture)
  assert found.box[3] < 104 + 2
  picture[145:155, 98:104] = 1.0  # now it hangs on the skin
  assert breast.find(picture).box[3] > 108
