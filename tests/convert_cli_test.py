"""`rsna-jax convert` as a user calls it: bad input, and names that stay in."""

import numpy as np
import pytest
import volumes
from PIL import Image, PngImagePlugin

from rsna_jax import cli


def _ends(arguments, capsys) -> tuple[int, list[str]]:
  """Exit code, and the lines on standard error."""
  capsys.readouterr()
  with pytest.raises(SystemExit) as end:
    cli.main(['convert', '--workers', '1', *map(str, arguments)])
  return end.value.code or 0, capsys.readouterr().err.splitlines()


def _refused(arguments, capsys, *words: str) -> None:
  code, lines = _ends(arguments, capsys)
  assert code == 2, lines
  wrong = [line for line in lines if line.startswith('error: ')]
  assert len(wrong) == 1, lines
  for word in words:
    assert word in wrong[0], wrong[0]


def _volume(path, frames=5, **more):
  pixels, _ = volumes.breast()
  pixels[volumes.letters('CANARYDOE', pixels.shape, (12, 140), 13)] = 3500
  volumes.write(path, np.stack([pixels] * frames), **more)


def test_what_is_not_there_or_no_image_is_named(tmp_path, capsys):
  out = tmp_path / 'out'
  _refused([tmp_path / 'none', out], capsys, 'none', 'no such')
  (tmp_path / 'src').mkdir()
  (tmp_path / 'src' / 'notes.txt').write_text('no image')
  _refused([tmp_path / 'src', out], capsys, 'src', 'nothing to convert')
  _refused([tmp_path / 'src'], capsys, 'OUT')
  (tmp_path / 'a.png').write_text('none')
  _refused([tmp_path / 'a.png', out], capsys, 'a.png', '--bad-files skip')
  _refused([tmp_path / 'a.png', tmp_path / 'a.png'], capsys, 'is a file')
  assert not list(tmp_path.rglob('manifest.csv'))


def test_an_output_within_an_input_is_refused(tmp_path, capsys):
  src = tmp_path / 'src'
  volumes.write(src / 'a' / '1.dcm', volumes.breast()[0])
  for out in (src, src / 'a', src / 'new', tmp_path / 'src' / '..' / 'src'):
    _refused([src, out], capsys, 'lies in')
  picture = src / 'a' / '2.png'
  grey = (volumes.breast()[0] >> 4).astype(np.uint8)
  Image.fromarray(grey).save(picture)
  before = picture.read_bytes()
  _refused([picture, src / 'a'], capsys, '2.png')
  assert picture.read_bytes() == before


@pytest.mark.parametrize('count', ['0', '-3', '1000000000'])
def test_absurd_numbers_of_frames_are_refused(count, tmp_path, capsys):
  _volume(tmp_path / 'a.dcm', NumberOfFrames=count)
  arguments = [tmp_path / 'a.dcm', tmp_path / 'out']
  _refused(arguments, capsys, 'a.dcm', 'NumberOfFrames')


def test_wrong_options_are_refused(tmp_path, capsys):
  _volume(tmp_path / 'a.dcm')
  both = [tmp_path / 'a.dcm', tmp_path / 'out']
  _refused([*both, '--slab-frames', '0'], capsys, 'slab-frames', '0')
  _refused([*both, '--slab-mm', 'nan'], capsys, 'slab-mm', 'nan')
  _refused([*both, '--format', 'tiff'], capsys, 'tiff')
  slabs = [*both, '--frames', 'slabs']
  _refused([*slabs, '--slab-mm', '5'], capsys, 'a.dcm', '--slab-frames')
  more = ['--slab-mm', '5', '--slab-frames', '5']
  _refused([*slabs, *more], capsys, 'one of them')


def test_a_slab_longer_than_the_volume_is_the_volume(tmp_path, capsys):
  _volume(tmp_path / 'a.dcm')
  out = tmp_path / 'out'
  more = ['--frames', 'slabs', '--slab-frames', '500']
  assert _ends([tmp_path / 'a.dcm', out, *more], capsys)[0] == 0
  assert [path.name for path in out.glob('*.png')] == ['a_000-004_max.png']


def test_a_layout_is_converted_alone(tmp_path, capsys):
  for name in ('x', 'y'):
    volumes.write(tmp_path / name / '1.dcm', volumes.breast()[0])
  (tmp_path / 'x' / 'train.csv').write_text('image_id\n')
  arguments = [tmp_path / 'x', tmp_path / 'y', tmp_path / 'out']
  _refused(arguments, capsys, 'x', 'alone')


@pytest.mark.parametrize('kind', ['png8', 'png16', 'npy'])
def test_no_name_of_a_header_or_a_label_leaves(kind, tmp_path, capsys):
  src, out = tmp_path / 'src', tmp_path / 'out'
  _volume(src / 'v.dcm', enhanced=True)
  volumes.write(src / 'm.dcm', volumes.breast()[0], jpeg2000=True)
  info = PngImagePlugin.PngInfo()
  info.add_text('Comment', 'CANARYTXT')
  grey = (volumes.breast()[0] >> 4).astype(np.uint8)
  Image.fromarray(grey).save(src / 'p.png', pnginfo=info)
  # The canaries are there to be found.
  assert len(volumes.leaks(src)) == 2 * len(volumes.CANARIES) + 1
  more = ['--format', kind, '--frames', 'both', '--projection', 'both']
  assert _ends([src, out, *more], capsys)[0] == 0
  assert not volumes.leaks(out)
  text = volumes.letters('CANARYDOE', (320, 240), (12, 140), 13)
  pictures = [p for p in out.rglob('v_*') if p.suffix in ('.png', '.npy')]
  assert len(pictures) == 7
  for path in pictures:
    found = np.load(path) if kind == 'npy' else np.asarray(Image.open(path))
    assert found.max() > 100
    assert not found[text].any()
  kept = tmp_path / 'kept'
  assert _ends([src, kept, '--format', 'npy', '--keep-labels'], capsys)[0] == 0
  assert (np.load(kept / 'v_000.npy')[text] == 3500).all()
