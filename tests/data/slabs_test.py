import numpy as np
import pytest
import volumes

from rsna_jax import errors
from rsna_jax.data import dicom, mammogram, slabs


def frames_of(stack, **fields):
  return [mammogram.Mammogram(pixels=pixels, **fields) for pixels in stack]


@pytest.mark.parametrize(
  ('frames', 'length', 'wanted'),
  [
    (60, 20, [(0, 20), (20, 40), (40, 60)]),
    (62, 20, [(0, 20), (20, 40), (40, 62)]),
    (50, 20, [(0, 20), (20, 40), (40, 50)]),
    (7, 20, [(0, 7)]),
    (3, 1, [(0, 1), (1, 2), (2, 3)]),
    (2, 1000, [(0, 2)]),
  ],
)
def test_slabs_cover_a_volume_once(frames, length, wanted):
  assert slabs.spans(frames, length) == wanted


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int16])
def test_projections_are_those_of_numpy(dtype):
  low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
  stack = np.random.default_rng(0).integers(low, high, (7, 9, 5), dtype, True)
  made = slabs.project(frames_of(stack), ('max', 'mean'))
  np.testing.assert_array_equal(made['max'].pixels, stack.max(axis=0))
  mean = stack.astype(np.float64).mean(axis=0)
  assert made['mean'].pixels.dtype == made['max'].pixels.dtype == dtype
  assert np.abs(made['mean'].pixels - mean).max() <= 0.5


def test_the_brightest_of_monochrome1_is_the_least():
  stack = np.random.default_rng(0).integers(0, 4096, (4, 6, 6), np.uint16)
  made = slabs.project(frames_of(stack, photometric='MONOCHROME1'), ('max',))
  np.testing.assert_array_equal(made['max'].pixels, stack.min(axis=0))


@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
def test_padding_counts_in_no_frame(photometric):
  stack = np.random.default_rng(0).integers(10, 4000, (5, 8, 8), np.uint16)
  padded = np.random.default_rng(1).uniform(size=stack.shape) < 0.4
  padded[:, 0, 0] = True
  bright, dark = (0, 9) if photometric == 'MONOCHROME1' else (4095, 9)
  for value in (bright, dark):
    stack[padded] = value
    made = slabs.project(
      frames_of(stack, photometric=photometric, padding=(value, value)),
      ('max', 'mean'),
    )
    masked = np.ma.array(stack, mask=padded)
    ends = masked.min(0) if photometric == 'MONOCHROME1' else masked.max(0)
    np.testing.assert_array_equal(made['max'].pixels, ends.filled(value))
    mean = masked.astype(np.float64).mean(axis=0).filled(value)
    assert np.abs(made['mean'].pixels - mean).max() <= 0.5


def test_frames_are_asked_for_one_by_one():
  alive = []

  def frames():
    for i in range(6):
      alive.append(i)
      pixels = np.full((4, 4), i, np.uint16)
      yield mammogram.Mammogram(pixels=pixels)

  made = slabs.project(frames(), ('mean',))
  assert alive == list(range(6))
  assert set(made) == {'mean'}
  # 2.5 is as near to 2 as to 3.
  assert set(made['mean'].pixels.flat) <= {2, 3}


def test_a_header_tells_frames_spacing_and_window(tmp_path):
  stack = np.stack([volumes.breast(seed=i)[0] for i in range(3)])
  for enhanced in (False, True):
    path = tmp_path / f'{enhanced}.dcm'
    more = {} if enhanced else {'SpacingBetweenSlices': 1.5}
    volumes.write(path, stack, enhanced=enhanced, **more)
    assert slabs.describe(path) == slabs.Volume(
      frames=3, spacing_mm=1.5, windowed=True
    )
  bare = {'WindowCenter': None, 'WindowWidth': None}
  volumes.write(tmp_path / 'bare.dcm', stack, **bare)
  assert slabs.describe(tmp_path / 'bare.dcm') == slabs.Volume(frames=3)


def test_what_has_one_frame_is_no_volume(tmp_path):
  volumes.write(tmp_path / 'a.dcm', volumes.breast()[0])
  (tmp_path / 'b.png').write_bytes(b'whatever')
  for name in ('a.dcm', 'b.png'):
    assert slabs.describe(tmp_path / name) == slabs.Volume()


@pytest.mark.parametrize('count', [0, -1, 3000, 10**9])
def test_an_absurd_number_of_frames_is_refused(count, tmp_path):
  volumes.write(
    tmp_path / 'a.dcm', volumes.breast()[0], NumberOfFrames=str(count)
  )
  with pytest.raises(dicom.DicomError, match='NumberOfFrames'):
    slabs.describe(tmp_path / 'a.dcm')


def test_millimetres_become_frames():
  assert slabs.frames_of_mm(10, 1.0, 'a') == 10
  assert slabs.frames_of_mm(10, 1.5, 'a') == 7
  assert slabs.frames_of_mm(0.1, 1.0, 'a') == 1
  with pytest.raises(errors.DataError, match='--slab-frames'):
    slabs.frames_of_mm(10, None, 'a.dcm')
