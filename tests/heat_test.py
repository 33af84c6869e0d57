import numpy as np
import pytest
from PIL import Image

from rsna_jax import heat
from rsna_jax.data import mammogram, preprocess, shown


def _breast(side: str, dot: tuple[int, int], shape=(600, 400)) -> np.ndarray:
  """Half an ellipse with a bright square of 9 pixels about (row, column)."""
  y, x = np.mgrid[: shape[0], : shape[1]]
  inside = ((y - 290) / 200) ** 2 + (x / 260) ** 2 < 1
  pixels = np.where(inside, 90, 0).astype(np.uint8)
  if side == 'right':
    pixels = pixels[:, ::-1].copy()
  pixels[dot[0] - 4 : dot[0] + 5, dot[1] - 4 : dot[1] + 5] = 255
  return pixels


@pytest.mark.parametrize('size', [(128, 64), (96, 200), (700, 500)])
@pytest.mark.parametrize(
  ('side', 'dot'),
  [('left', (200, 90)), ('left', (400, 30)), ('right', (350, 310))],
)
def test_a_dot_comes_back_to_where_it_was(side, dot, size):
  image = mammogram.Mammogram(pixels=_breast(side, dot), bits_stored=8)
  standard = preprocess.standardise(image, preprocess.Spec(size=size))
  assert standard.flipped == (side == 'right')
  # The only thing on the map is what the dot adds to the breast.
  plain = np.median(standard.pixels[standard.pixels > 0])
  values = standard.pixels - plain
  values[values < 25] = 0  # the outline rings a little in a smaller level
  back = heat.map_back(
    values.astype(np.float32), standard.to_original, standard.original_shape
  )
  assert back.shape == (600, 400)
  rows, columns = np.mgrid[:600, :400] + 0.5
  scale = abs(standard.to_original[0, 0]), standard.to_original[1, 1]
  row = (back * rows).sum() / back.sum()
  column = (back * columns).sum() / back.sum()
  assert row == pytest.approx(dot[0] + 0.5, abs=0.15 * max(scale) + 0.1)
  assert column == pytest.approx(dot[1] + 0.5, abs=0.15 * max(scale) + 0.1)
  x, y = heat.peak(values.astype(np.float32), standard.to_original)
  assert abs(x - dot[1] - 0.5) <= 4.5 + scale[0]
  assert abs(y - dot[0] - 0.5) <= 4.5 + scale[1]


@pytest.mark.parametrize('flipped', [False, True])
def test_each_pixel_covers_its_own_area_of_the_original(flipped):
  # 3x2 pixels of 4x5 each, from row 7 and column 10 of a 30x40 original.
  matrix = np.array([[5.0, 0, 10], [0, 4, 7]])
  if flipped:
    matrix = np.array([[-5.0, 0, 20], [0, 4, 7]])
  values = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
  back = heat.map_back(values, matrix, (30, 40))
  inside = np.zeros((30, 40), bool)
  inside[7:19, 10:20] = True
  assert ((back != 0) == inside).all()
  for row in range(3):
    for column in range(2):
      x, y = matrix @ (column + 0.5, row + 0.5, 1)
      near = back[int(np.floor(y - 0.5)) : int(np.floor(y - 0.5)) + 2]
      near = near[:, int(np.floor(x))]
      assert near.mean() == pytest.approx(values[row, column], abs=0.3)
  # Where a pixel does not count, nothing of its neighbours shows.
  mask = values > 2
  masked = heat.map_back(values, matrix, (30, 40), mask=mask)
  assert not masked[:11].any()
  assert (masked[11:] == back[11:]).all()
  # A copy of half the size shows the same at the same places.
  half = heat.map_back(values, matrix, (30, 40), (15, 20))
  np.testing.assert_allclose(
    half[4:9, 6:9],
    back.reshape(15, 2, 20, 2).mean(axis=(1, 3))[4:9, 6:9],
    atol=0.3,
  )


def test_a_slanting_outline_has_no_steps_as_large_as_the_pixels():
  matrix = np.array([[9.0, 0, 0], [0, 9, 0]])
  ones, corner = np.ones((3, 3), np.float32), np.tri(3, dtype=bool)
  slanted = heat.map_back(ones, matrix, (27, 27), mask=corner)
  ends = (slanted > 0).sum(axis=1)
  assert 0 < np.diff(ends).max() <= 5
  assert not slanted[np.triu_indices(27, 13)].any()


def test_the_breast_is_all_but_the_air_around_it():
  image = np.zeros((20, 16), np.float32)
  image[4:16, :10] = 0.5
  image[8:10, 3:5] = 0.0  # a hole
  image[6:8, 0] = 0.0  # black at the chest wall
  image[4, 10] = 0.01  # the rim, where the outline fades
  expected = np.zeros((20, 16), bool)
  expected[4:16, :10] = True
  assert (heat.breast_mask(image) == expected).all()
  assert not heat.breast_mask(np.zeros((20, 16))).any()
  assert heat.breast_mask(np.ones((20, 16))).all()


def test_smoothing_keeps_the_sum_and_stays_in_the_breast():
  values = np.zeros((40, 30), np.float32)
  values[20, 15] = 2
  mask = np.ones((40, 30), bool)
  found = heat.smoothed(values, mask, 2.0)
  assert found.sum() == pytest.approx(2, rel=1e-4)
  row, column = np.mgrid[:40, :30]
  exact = np.exp(-((row - 20) ** 2 + (column - 15) ** 2) / 8)
  np.testing.assert_allclose(found, 2 * exact / exact.sum(), atol=3e-4)
  mask[:, 16:] = False
  assert not heat.smoothed(values, mask, 2.0)[~mask].any()
  assert heat.smoothed(values, mask, 0.0) is values


def test_the_peak_of_a_plateau_is_its_middle():
  values = np.zeros((20, 12), np.float32)
  values[4:9, 2:9] = 3
  matrix = np.array([[2.0, 0, 0], [0, 3, 100]])
  assert heat.peak(values, matrix) == (2 * 5.5, 100 + 3 * 6.5)


def test_nothing_above_zero_has_no_peak():
  matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
  assert heat.peak(np.zeros((3, 3), np.float32), matrix) is None
  assert heat.peak(np.full((3, 3), -1, np.float32), matrix) is None


@pytest.mark.parametrize('dark', [False, True])
def test_the_picture_shows_the_whole_original_bright_on_black(tmp_path, dark):
  pixels = _breast('right', (350, 310))
  path = tmp_path / 'a.png'
  Image.fromarray(255 - pixels if dark else pixels).save(path)
  spec = preprocess.Spec(size=(128, 64)).to_json()
  found = shown.shown_file((path, spec, 300))
  assert found['picture'].shape == (300, 200)
  expected = pixels.reshape(300, 2, 200, 2).mean(axis=(1, 3))
  assert np.corrcoef(found['picture'].ravel(), expected.ravel())[0, 1] > 0.999
  assert found['original_shape'] == (600, 400)
  assert shown.shown_file((path, spec, 0))['picture'] is None


def test_a_file_is_standardised_for_several_specs_as_for_each(tmp_path):
  path = tmp_path / 'a.png'
  Image.fromarray(_breast('left', (200, 90))).save(path)
  specs = [preprocess.Spec(size=size) for size in ((64, 32), (128, 100))]
  found = shown.standard_files((path, [spec.to_json() for spec in specs]))
  for pixels, spec in zip(found['pixels'], specs, strict=True):
    alone = shown.shown_file((path, spec.to_json(), 0))
    assert (pixels == alone['pixels']).all()
    assert alone['box'] == found['box']
