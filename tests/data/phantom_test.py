"""The phantoms: their files, their tables, and what is to be seen in them."""

import csv
import hashlib
import io
import json
import pathlib

import imagecodecs
import numpy as np
import pydicom
import pydicom.encaps
import pytest
from PIL import Image

from rsna_jax import errors, schema
from rsna_jax.data import phantom, phantom_dicom, phantom_image, phantom_patient

_SET = {'patients': 6, 'seed': 3, 'scale': 0.25, 'prevalence': 0.5}
_PADDED = {'MONOCHROME1': max, 'MONOCHROME2': min}


@pytest.fixture(scope='module')
def layout(tmp_path_factory):
  out = tmp_path_factory.mktemp('phantom') / 'set'
  phantom.write(out, **_SET)
  return out


@pytest.fixture(scope='module')
def many():
  """The phantoms of 40 patients, at a tenth of the size."""
  return [phantom.generate(i, seed=1, scale=0.1) for i in range(40)]


def _digests(out):
  return {
    str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(pathlib.Path(out).rglob('*'))
    if path.is_file()
  }


def _rows(path):
  with path.open(newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def _files(layout):
  for split in ('train', 'test'):
    for row in _rows(layout / f'{split}.csv'):
      folder = layout / f'{split}_images' / row['patient_id']
      yield row, pydicom.dcmread(folder / f'{row["image_id"]}.dcm')


def _pixels(ds):
  """Decoded by other libraries than the ones that encoded."""
  frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
  if ds.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLosslessSV1:
    return imagecodecs.ljpeg_decode(frame)
  with Image.open(io.BytesIO(frame)) as image:
    pixels = np.asarray(image).astype(np.int64)
  # Pillow aligns the values to 16 bits.
  start = frame.index(b'\xff\x4f\xff\x51')
  precision = (frame[start + 42] & 127) + 1
  return pixels >> (16 - precision)


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(
  layout, tmp_path
):
  phantom.write(tmp_path / 'again', **_SET, workers=2)
  assert _digests(tmp_path / 'again') == _digests(layout)


def test_another_seed_writes_other_images():
  one, two = (phantom.generate(0, seed=n, scale=0.1)[0] for n in (3, 4))
  assert one.row['image_id'] != two.row['image_id']
  assert one.pixels.shape != two.pixels.shape or np.any(
    one.pixels != two.pixels
  )


def test_the_layout_is_that_of_the_rsna_set(layout):
  train, test = _rows(layout / 'train.csv'), _rows(layout / 'test.csv')
  assert tuple(train[0]) == schema.TRAIN_COLUMNS
  assert tuple(test[0]) == schema.TEST_COLUMNS
  named = {
    f'{split}_images/{row["patient_id"]}/{row["image_id"]}.dcm'
    for split, rows in (('train', train), ('test', test))
    for row in rows
  }
  found = {str(p.relative_to(layout)) for p in layout.rglob('*.dcm')}
  assert found == named
  assert len(named) == len(train) + len(test)
  assert len({row['patient_id'] for row in train}) == _SET['patients']
  assert not {r['patient_id'] for r in train} & {r['patient_id'] for r in test}
  labels = _rows(layout / 'test_labels.csv')
  assert {r['prediction_id'] for r in labels} == {
    r['prediction_id'] for r in test
  }
  assert not list(layout.glob('.*'))


def test_files_are_read_by_pydicom_and_lossless(layout):
  made = {
    image.row['image_id']: image
    for split, count in (('train', 6), ('test', 1))
    for index in range(count)
    for image in phantom.generate(
      index, seed=3, split=split, scale=0.25, prevalence=0.5
    )
  }
  seen = set()
  for row, ds in _files(layout):
    assert 'Modality' not in ds and 'ViewPosition' not in ds
    assert ds.PatientID == row['patient_id']
    assert ds.ImageLaterality == row['laterality']
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    pixels = _pixels(ds)
    assert pixels.shape == (ds.Rows, ds.Columns)
    assert pixels.max() < 2**ds.BitsStored
    assert np.array_equal(pixels, made.pop(int(row['image_id'])).pixels)
    seen.add((ds.PhotometricInterpretation, ds.BitsStored))
    seen.add(ds.file_meta.TransferSyntaxUID.name.split(' ')[0:2][1])
    monochrome1 = ds.PhotometricInterpretation == 'MONOCHROME1'
    assert (ds.get('VOILUTFunction') == 'SIGMOID') == monochrome1
    edge = _PADDED[ds.PhotometricInterpretation](
      int(pixels.min()), int(pixels.max())
    )
    assert ds.PixelPaddingValue == edge
    assert (pixels == edge).mean() > 0.1
  assert not made
  assert {('MONOCHROME1', 16), ('MONOCHROME2', 12)} <= seen
  assert {'Lossless,', '2000'} <= seen


def test_a_jpeg_2000_file_is_decoded_by_pydicom_itself(layout):
  for _, ds in _files(layout):
    if ds.file_meta.TransferSyntaxUID == pydicom.uid.JPEG2000Lossless:
      assert np.array_equal(ds.pixel_array, _pixels(ds))
      return
  pytest.fail('no JPEG 2000 in the set')


def test_every_machine_has_one_syntax_and_a_site(many):
  assert {p[0].row['machine_id'] for p in many} == set(phantom_dicom.MACHINES)
  for images in many:
    for image in images:
      assert image.machine is phantom_dicom.MACHINES[image.row['machine_id']]
      assert image.row['site_id'] == image.machine.site_id
      assert (image.row['density'] == '') == (image.row['site_id'] == 2)
      assert image.row['implant'] == 0 or image.row['site_id'] == 1


def test_labels_agree_within_a_breast(many):
  for images in many:
    for laterality in 'LR':
      breast = [i for i in images if i.row['laterality'] == laterality]
      assert {'CC', 'MLO'} <= {i.row['view'] for i in breast}
      for column in ('cancer', 'biopsy', 'invasive', 'BIRADS', 'density'):
        assert len({i.row[column] for i in breast}) == 1
      cancer = breast[0].row['cancer']
      assert all(len(i.findings) == cancer for i in breast)
      assert breast[0].row['biopsy'] >= cancer >= breast[0].row['invasive']
      assert not (cancer and breast[0].row['difficult_negative_case'])
    assert sum(i.row['laterality'] == 'L' for i in images) >= 2


def test_three_of_ten_patients_have_cancer_in_one_breast(many):
  breasts = [
    {i.row['laterality'] for i in images if i.row['cancer']} for images in many
  ]
  assert sum(map(len, breasts)) == 12
  assert max(map(len, breasts)) == 1
  kinds = [f.kind for images in many for i in images for f in i.findings]
  assert {'mass', 'calcifications'} == set(kinds)


def test_some_ages_are_missing_and_some_views_come_twice_or_are_rare(many):
  rows = [i.row for images in many for i in images]
  assert 0 < sum(row['age'] == '' for row in rows) < len(rows) / 10
  views = [(r['patient_id'], r['laterality'], r['view']) for r in rows]
  assert len(set(views)) < len(views)
  assert {row['view'] for row in rows} > {'CC', 'MLO'}
  assert len({row['image_id'] for row in rows}) == len(rows)
  assert all(0 < row['image_id'] < 2**31 for row in rows)


def test_a_patient_faces_one_way_and_some_of_machine_49_the_other(many):
  turned = []
  for images in many:
    sides = set()
    for image in images:
      grey = image.pixels.astype(float)
      empty = grey.max() if image.machine.bits == 16 else 0
      tissue = grey != empty
      half = tissue.shape[1] // 2
      # The bar and the label fill less than the breast.
      left = tissue[:, :half].sum() > tissue[:, half:].sum()
      assert image.chest_side == ('left' if left else 'right')
      sides.add(left == (image.row['laterality'] == 'L'))
    assert len(sides) == 1
    turned.append((images[0].row['machine_id'], not sides.pop()))
  assert {machine for machine, other in turned if other} == {49}
  assert (49, False) in turned


def test_a_bar_of_full_height_stands_in_the_empty_part_of_monochrome1(many):
  for images in many:
    if images[0].machine.photometric == 'MONOCHROME1':
      pixels = images[0].pixels
      constant = (pixels == pixels[0]).all(axis=0)
      assert len(set(pixels[0][constant].tolist())) == 2
      return
  pytest.fail('no MONOCHROME1 in the set')


def test_findings_lie_in_the_breast_and_are_brighter_than_around_them(layout):
  findings = _rows(layout / 'findings.csv')
  files = {row['image_id']: (row, ds) for row, ds in _files(layout)}
  positive = {
    r['image_id'] for r in _rows(layout / 'train.csv') if r['cancer'] == '1'
  }
  test = _rows(layout / 'test.csv')
  truth = {
    r['prediction_id']: r['cancer'] for r in _rows(layout / 'test_labels.csv')
  }
  positive |= {r['image_id'] for r in test if truth[r['prediction_id']] == '1'}
  assert {f['image_id'] for f in findings} == positive
  brighter = []
  for finding in findings:
    _, ds = files[finding['image_id']]
    pixels = _pixels(ds).astype(float)
    x, y, radius = (float(finding[key]) for key in ('x', 'y', 'radius'))
    rows, cols = np.indices(pixels.shape) + 0.5
    far = np.hypot(rows - y, cols - x) / radius
    assert not (pixels[far < 1] == ds.PixelPaddingValue).any()
    if ds.PhotometricInterpretation == 'MONOCHROME1':
      pixels = -pixels
    spread = pixels[far < 3].std()
    around = pixels[(far > 1.5) & (far < 3)].mean()
    brighter.append((pixels[far < 0.8].mean() - around) / spread)
  assert np.mean(np.array(brighter) > 0) > 0.8
  assert np.mean(brighter) > 0.5


@pytest.mark.parametrize('kind', ['mass', 'calcifications'])
@pytest.mark.parametrize('view', ['CC', 'MLO'])
def test_a_lesion_adds_light_at_its_place_and_nowhere_else(kind, view):
  def draw(lesion):
    return phantom_image.render(
      phantom_image.Anatomy(density=2, lesion=lesion, lesion_size=0.04),
      view=view,
      shape=(300, 250),
      rng=np.random.default_rng(5),
      noise=0.0,
    )

  with_lesion, without = draw(kind), draw('')
  (finding,) = with_lesion.findings
  assert finding.kind == kind
  assert finding.radius == pytest.approx(12)
  added = with_lesion.values - without.values
  rows, cols = np.indices(added.shape) + 0.5
  far = np.hypot(rows - finding.y, cols - finding.x) / finding.radius
  assert added[far < 1].max() > 0.2
  assert added[far < 1].mean() > 0.03
  assert np.abs(added[far > 3]).max() < 5e-3


def test_repeated_views_show_the_same_breast_a_little_higher():
  def draw(shift):
    return phantom_image.render(
      phantom_image.Anatomy(density=3, lesion='mass'),
      view='CC',
      shape=(200, 160),
      rng=np.random.default_rng(2),
      noise=0.0,
      shift=shift,
    )

  first, second = draw(0.0), draw(0.05)
  assert np.array_equal(second.values[:190], first.values[10:])
  assert second.findings[0].y == first.findings[0].y - 10


def test_bright_tissue_grows_with_the_density_class():
  shares = []
  for density in (1, 2, 3, 4):
    share = []
    for seed in range(4):
      picture = phantom_image.render(
        phantom_image.Anatomy(density=density, vessels=0),
        view='CC',
        shape=(200, 160),
        rng=np.random.default_rng(seed),
      )
      share.append((picture.values[picture.breast] > 0.27).mean())
    shares.append(np.mean(share))
  assert shares == sorted(shares)
  assert np.all(np.diff(shares) > 0.04)


def test_a_label_is_burned_into_the_empty_part_alone():
  machine = phantom_dicom.MACHINES[21]
  values = np.zeros((300, 240), np.float32)
  breast = np.zeros((300, 240), bool)
  breast[60:260, :120] = True
  values[breast] = 0.3
  for side in ('left', 'right'):
    plain, labelled = (
      phantom_dicom.stored_values(
        values,
        breast,
        machine,
        chest_side=side,
        label=label,
        rng=np.random.default_rng(0),
      )
      for label in ('', 'L-CC')
    )
    changed = plain != labelled
    outer = changed[:, 120:] if side == 'left' else changed[:, :120]
    assert changed.sum() == outer.sum() > 20
    assert changed[:60].sum() == changed.sum()


def test_a_set_that_is_there_is_left_alone(layout, capsys):
  before = {path: path.stat().st_mtime_ns for path in layout.rglob('*')}
  again = phantom.write(layout, **_SET)
  assert again.reused
  assert again.images == sum(1 for _ in layout.rglob('*.dcm'))
  assert {path: path.stat().st_mtime_ns for path in layout.rglob('*')} == before
  assert 'already' in capsys.readouterr().out


def test_an_interrupted_call_goes_on_where_it_was(
  layout, tmp_path, monkeypatch
):
  calls, real = [], phantom_patient.generate

  def failing(index, **options):
    calls.append((options['split'], index))
    if len(calls) == 4:
      raise KeyboardInterrupt
    return real(index, **options)

  monkeypatch.setattr(phantom_patient, 'generate', failing)
  out = tmp_path / 'set'
  with pytest.raises(KeyboardInterrupt):
    phantom.write(out, **_SET)
  assert not (out / 'train.csv').exists()
  done = set(calls[:3])
  written = phantom.write(out, **_SET)
  assert not written.reused
  assert not done & set(calls[4:])
  assert _digests(out) == _digests(layout)


def test_a_lost_file_is_made_again(layout, tmp_path):
  small = {**_SET, 'patients': 1, 'scale': 0.1}
  out = tmp_path / 'set'
  phantom.write(out, **small)
  before = _digests(out)
  next(out.rglob('*.dcm')).unlink()
  assert not phantom.write(out, **small).reused
  assert _digests(out) == before


def test_a_folder_with_other_things_is_refused(layout, tmp_path):
  (tmp_path / 'mine.txt').write_text('keep')
  with pytest.raises(errors.DataError, match='not empty') as caught:
    phantom.write(tmp_path, **_SET)
  assert '\n' not in str(caught.value)
  with pytest.raises(errors.DataError, match='is a file'):
    phantom.write(tmp_path / 'mine.txt', **_SET)
  with pytest.raises(errors.DataError, match='seed=3, not 4'):
    phantom.write(layout, **{**_SET, 'seed': 4})
  assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']
  assert json.loads((layout / 'phantom.json').read_text())['seed'] == 3


@pytest.mark.parametrize(
  'options', [{'patients': 0}, {'seed': -1}, {'scale': 0.0}, {'workers': 0}]
)
def test_parameters_out_of_range_are_named(tmp_path, options):
  with pytest.raises(errors.ConfigError, match=next(iter(options))):
    phantom.write(tmp_path / 'set', **options)
  assert not (tmp_path / 'set').exists()
