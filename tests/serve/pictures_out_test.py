"""PNG files against plain arithmetic."""

import io

import numpy as np
import pytest
from PIL import Image

from rsna_jax.report import heatmap
from rsna_jax.serve import problems
from rsna_jax.serve.answering import pictures_out


def _open(data: bytes) -> Image.Image:
  picture = Image.open(io.BytesIO(data))
  picture.load()
  return picture


def _pixels(data: bytes) -> np.ndarray:
  return np.asarray(_open(data))


def test_eight_bits_leave_as_they_are_and_sixteen_are_scaled():
  small = np.arange(256, dtype=np.uint8).reshape(16, 16)
  np.testing.assert_array_equal(_pixels(pictures_out.grey(small)), small)
  large = np.array([[0, 257, 32768, 65535]], np.uint16)
  found = _pixels(pictures_out.grey(large))
  np.testing.assert_array_equal(found, [[0, 1, 128, 255]])


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_a_window_stretches_what_lies_in_it(kind):
  white = np.iinfo(kind).max
  levels = np.linspace(0, white, 256).astype(kind)[None]
  found = _pixels(pictures_out.windowed(levels, 0.5, 0.25))[0]
  for level, said in zip(levels[0], found, strict=True):
    share = (int(level) / white - 0.375) / 0.25
    assert abs(int(said) - 255 * min(max(share, 0), 1)) <= 0.51


def test_the_whole_window_changes_nothing():
  levels = np.arange(256, dtype=np.uint8)[None]
  found = _pixels(pictures_out.windowed(levels, 0.5, 1))
  np.testing.assert_array_equal(found, levels)


@pytest.mark.parametrize(
  ('center', 'width'),
  [
    (-0.1, 1),
    (1.1, 1),
    (0.5, 0),
    (0.5, -1),
    (0.5, 3),
    (float('nan'), 1),
    (0.5, float('nan')),
    (0.5, float('inf')),
  ],
)
def test_windows_out_of_range_are_refused(center, width):
  with pytest.raises(problems.Problem) as caught:
    pictures_out.windowed(np.zeros((2, 2), np.uint8), center, width)
  assert caught.value.code == 'E_FIELD'


def test_a_map_is_clear_where_it_says_nothing_and_strong_at_its_peak():
  values = np.array([[0, 2, -4], [1, 4, 0]], np.float32)
  picture = _open(pictures_out.heat(values))
  assert picture.mode == 'RGBA'
  found = np.asarray(picture)
  assert (found[values == 0, 3] == 0).all()
  assert found[1, 1, 3] == found[0, 2, 3] == found[..., 3].max()
  assert found[0, 1, 3] < found[1, 1, 3]
  assert found[1, 1, 0] > found[1, 1, 2]  # for: yellow
  assert found[0, 2, 2] > found[0, 2, 0]  # against: blue


def test_a_layer_over_a_picture_is_the_reports_overlay():
  chance = np.random.default_rng(0)
  grey = chance.integers(0, 256, (40, 30)).astype(np.uint8)
  values = chance.uniform(-1, 1, (40, 30)).astype(np.float32)
  layer = Image.fromarray(heatmap.layer(values))
  below = Image.fromarray(grey).convert('RGBA')
  laid = np.asarray(Image.alpha_composite(below, layer))[..., :3]
  direct = heatmap.coloured(grey, values)
  assert np.abs(laid.astype(int) - direct.astype(int)).max() <= 2


def test_a_flat_map_is_clear():
  found = _pixels(pictures_out.heat(np.zeros((3, 3), np.float32)))
  assert (found[..., 3] == 0).all()


def test_every_file_says_what_it_is_not_for():
  pixels = np.zeros((3, 3), np.uint8)
  for data in (
    pictures_out.grey(pixels),
    pictures_out.windowed(pixels, 0.5, 1),
    pictures_out.heat(pixels.astype(np.float32)),
  ):
    assert _open(data).text == {
      'Disclaimer': 'Research use only, not a medical device.'
    }
