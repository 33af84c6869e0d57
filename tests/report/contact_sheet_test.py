import numpy as np
import pytest
from PIL import Image

from rsna_jax import errors
from rsna_jax.audit import checks
from rsna_jax.data import dataset, inventory, preprocess
from rsna_jax.report import contact_sheet, sheet_choice

ORANGE = (255, 149, 0)


def made(i, machine=49, view='CC', implant=0, error='', **facts):
  """An image that no file stands behind."""
  row = {'patient_id': i, 'image_id': i, 'machine_id': machine, 'view': view}
  row |= {'implant': implant, 'laterality': 'L'}
  common = {
    'photometric': 'MONOCHROME2',
    'presentation_lut_shape': '',
    'warnings': [],
    'box_share': 0.5,
    'box': [0, 0, 1, 1],
    'flipped': False,
    'inverted': False,
    'outside': 0.0,
    'outside_area': 0.0,
    'outside_height': 0.0,
    'outside_width': 0.0,
    'attributes': {},
  }
  item = inventory.Item('train', f'{i}.dcm', f'{i}.dcm', row, i)
  return checks.Image(item, common | facts, error)


def many():
  """400 ordinary images of three machines, and a few odd ones among them."""
  images = [made(i, machine=(1, 2, 3)[i % 3]) for i in range(400)]
  odd = {
    'implant': made(1000, implant=1),
    'unusual view': made(1001, view='ML'),
    'bar or frame': made(1002, outside=0.02, outside_height=1.0),
    'large thing beside': made(1003, outside=0.1, outside_area=0.1),
    'warning': made(1004, warnings=['reduced to luma']),
    'no standard image': made(1005, error='no breast'),
    'dark breast on bright': made(1006, photometric='', inverted=True),
    'smallest box': made(1007, box_share=0.01),
    'largest box': made(1008, box_share=1.0),
    'brightest beside': made(1009, outside=0.3),
  }
  strata = [
    made(2000, machine=77),
    made(2001, photometric='MONOCHROME1'),
    made(2002, view='MLO'),
    made(2003, flipped=True),
  ]
  return [*images, *odd.values(), *strata], odd


def test_every_odd_kind_and_every_stratum_is_chosen():
  images, odd = many()
  chosen = sheet_choice.choose(images, cap=40)
  tags = {x.known('image_id'): found for x, found in chosen}
  for tag, image in odd.items():
    assert tag in tags[image.known('image_id')], tag
  for i in (2000, 2001, 2002, 2003):
    assert i in tags
  assert {x.known('machine_id') for x, _ in chosen} >= {1, 2, 3, 77}
  assert len(chosen) == len(tags) == 40


def test_a_small_sheet_still_shows_each_odd_kind_once():
  images, odd = many()
  chosen = sheet_choice.choose(images, cap=11)
  found = {x.known('image_id') for x, _ in chosen}
  assert {image.known('image_id') for image in odd.values()} <= found


def test_the_choice_is_the_same_for_a_seed_and_skips_what_cannot_be_opened():
  images, _ = many()
  gone = checks.Image(inventory.Item('train', 'x', '', {}, 1))
  broken = checks.Image(inventory.Item('train', 'y', 'y'), None, 'bad')
  images += [gone, broken]
  first, second, other = (
    [x.item.name for x, _ in sheet_choice.choose(images, seed=seed)]
    for seed in (1, 1, 2)
  )
  assert first == second != other
  assert not {'x', 'y'} & {*first, *other}
  assert len(first) == 60


def entry(box=(0.25, 0.1, 0.75, 0.6), standard=True):
  thumbnail = np.full((200, 160), 90, np.uint8)
  image = np.full((128, 64), 200, np.uint8) if standard else None
  return contact_sheet.Entry(thumbnail, image, box, ('one', 'two', ''))


def test_the_box_is_drawn_where_it_is():
  picture = np.asarray(contact_sheet.pair(entry()))
  height, width = contact_sheet.HEIGHT, round(160 * 256 / 200)
  original = picture[:, :width]
  ys, xs = np.nonzero((original == ORANGE).all(axis=2))
  edges = np.array([ys.min(), xs.min(), ys.max() + 1, xs.max() + 1])
  wanted = np.array([0.25, 0.1, 0.75, 0.6]) * [height, width, height, width]
  assert np.abs(edges - wanted).max() <= 1
  assert (original[5, 5] == 90).all()
  # The standard image stands right of it, undistorted and without a box.
  assert (picture[:, -128:] == 200).all()
  assert picture.shape == (256, width + 8 + 128, 3)


def test_a_picture_without_a_standard_image_stands_alone():
  picture = np.asarray(contact_sheet.pair(entry(None, standard=False)))
  assert picture.shape[:2] == (256, 205) and (picture == 90).all()


def test_a_sheet_has_a_place_for_each_pair_and_its_caption(tmp_path):
  contact_sheet.write(tmp_path / 'a.png', [entry()] * 5, columns=2)
  with Image.open(tmp_path / 'a.png') as sheet:
    pixels = np.asarray(sheet)
  cell = (256 + 3 * 17 + 20, 205 + 8 + 128 + 20)
  assert pixels.shape == (3 * cell[0], 2 * cell[1], 3)
  filled = (pixels == 90).all(axis=2)
  for i in range(6):
    y, x = i // 2 * cell[0], i % 2 * cell[1]
    part = (slice(y, y + cell[0]), slice(x, x + cell[1]))
    assert filled[part].any() == (i < 5)
    below = pixels[y + 268 : y + 320, part[1]]
    assert (below < 150).any() == (i < 5), 'a caption'
  with pytest.raises(errors.DataError, match='no image'):
    contact_sheet.write(tmp_path / 'b.png', [])


def test_a_jpeg_of_a_pair_shows_the_pair():
  data = contact_sheet.jpeg(entry())
  assert data[:3] == b'\xff\xd8\xff'


def test_the_sheet_of_a_prepared_set_shows_its_own_images(
  tiny_layout, tiny_data, monkeypatch, tmp_path
):
  folder = tiny_data / 'rsna_mammography/64x32/1.0.0'
  shown, decode = [], preprocess.decode_png
  # Marks what comes from the shards: made anew, the images would be the same.
  monkeypatch.setattr(preprocess, 'decode_png', lambda png: 255 - decode(png))
  monkeypatch.setattr(
    contact_sheet, 'write', lambda path, found: shown.extend([path, *found])
  )
  path = contact_sheet.from_prepared(folder, tiny_layout, cap=6)
  assert path == shown.pop(0) == folder / 'contact_sheet.png'
  assert len(shown) == 6
  prepared = dataset.open_folder(folder)
  ids = prepared.table['image_id'].tolist()
  for found in shown:
    (png,) = prepared.read([ids.index(int(found.caption[0]))])
    np.testing.assert_array_equal(found.image, 255 - decode(png))
    top, left, bottom, right = found.box
    assert 0 <= top < bottom <= 1 and 0 <= left < right <= 1
    assert found.thumbnail.shape == (256, 160)
  with pytest.raises(errors.DataError):
    contact_sheet.from_prepared(folder, tmp_path)
