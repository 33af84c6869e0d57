"""Bad input through the commands: one line, exit code 2, nothing left over."""

import errno
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rsna_jax import cli, files, main, shell

_ROOT = pathlib.Path(__file__).parent.parent
_REAL = pathlib.Path(
  os.environ.get('RSNA_JAX_DATA', _ROOT / '..' / 'shared' / 'data')
)
_HEADER = (
  'site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,'
  'BIRADS,implant,density,machine_id,difficult_negative_case'
)
_ROW = '1,5,7,L,CC,50,0,0,0,,0,B,49,False'
_CONFIG = f'--config={_ROOT / "configs" / "cnn.py"}'


def _ends(call, capsys) -> tuple[int, list[str]]:
  """Exit code, and the lines on standard error."""
  capsys.readouterr()
  try:
    code = call()
  except SystemExit as end:
    code = end.code
  return code, capsys.readouterr().err.splitlines()


def _refused(call, capsys, *words: str) -> str:
  code, lines = _ends(call, capsys)
  assert code == 2, lines
  wrong = [line for line in lines if line.startswith('error: ')]
  assert len(wrong) == 1, lines
  assert not any('Traceback' in line for line in lines)
  for word in words:
    assert word in wrong[0], wrong[0]
  return wrong[0]


def _picture(path, shape=(160, 120)) -> None:
  y, x = np.mgrid[: shape[0], : shape[1]]
  inside = (y / shape[0] - 0.5) ** 2 * 5 + (x / shape[1]) ** 2 * 2 < 1
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.where(inside, 80 + y % 40, 0).astype(np.uint8)).save(path)


def _layout(tmp_path, *rows, header=_HEADER):
  src = tmp_path / 'src'
  _picture(src / 'train_images' / '5' / '7.png')
  (src / 'train.csv').write_text('\n'.join([header, *rows]) + '\n')
  return src


def _prepare(src, tmp_path, *more):
  return lambda: cli.main(
    [
      *('prepare', str(src), '--data-dir', str(tmp_path / 'data')),
      *('--size', '64x32', '--workers', '1', *more),
    ]
  )


def test_a_folder_that_is_no_data_set_is_answered_with_what_is_missing(
  tmp_path, capsys
):
  (tmp_path / 'src').mkdir()
  _refused(_prepare(tmp_path / 'src', tmp_path), capsys, 'train.csv')
  _refused(_prepare(tmp_path / 'none', tmp_path), capsys, 'none')
  assert not list(tmp_path.glob('data/**/*.array_record*'))


@pytest.mark.parametrize(
  ('row', 'words'),
  [
    (_ROW.replace(',50,', ',fifty,'), ('train.csv:2', 'age', 'fifty')),
    (_ROW.replace(',L,', ',X,'), ('train.csv:2', 'laterality', 'X')),
    (_ROW.replace(',CC,', ',top,'), ('train.csv:2', 'view', 'top')),
    (_ROW.replace('1,5,', '1,../../etc,'), ('train.csv:2', 'patient_id')),
    (_ROW.replace(',B,', ',Z,'), ('train.csv:2', 'density', 'Z')),
    (_ROW.replace('50,0,', '50,maybe,'), ('train.csv:2', 'cancer', 'maybe')),
    (f'{_ROW}\n{_ROW}', ('train.csv:3', 'image_id', '7')),
    (
      _ROW + '\n' + _ROW.replace(',7,', ',8,').replace('50,0,', '50,1,'),
      ('train.csv', 'cancer', '5_L'),
    ),
    (_ROW + ',1', ('train.csv:2',)),
  ],
)
def test_a_bad_row_is_named_by_its_line(row, words, tmp_path, capsys):
  _refused(_prepare(_layout(tmp_path, row), tmp_path), capsys, *words)


def test_a_missing_column_is_named(tmp_path, capsys):
  src = _layout(tmp_path, _ROW, header=_HEADER.replace('laterality', 'side'))
  _refused(_prepare(src, tmp_path), capsys, 'train.csv', 'laterality')


def test_an_unknown_column_is_kept_out_and_said_once(tmp_path, capsys):
  src = _layout(tmp_path, _ROW + ',x', header=_HEADER + ',remark')
  code, lines = _ends(_prepare(src, tmp_path), capsys)
  assert code == 0
  assert sum('remark' in line for line in lines) == 1


@pytest.mark.parametrize(
  ('content', 'word'),
  [
    (b'', 'empty'),
    (b'not a picture', ''),
    (b'\x89PNG\r\n\x1a\n' + b'\0' * 40, ''),
    (b'\0' * 128 + b'DICM', ''),
  ],
)
def test_a_file_that_is_no_mammogram_stops_or_is_skipped(
  content, word, tmp_path, capsys
):
  src = _layout(tmp_path, _ROW, _ROW.replace(',7,L', ',8,R'))
  (src / 'train_images' / '5' / '8.png').write_bytes(content)
  _refused(_prepare(src, tmp_path), capsys, '8.png', word, '--bad-files skip')
  folder = tmp_path / 'data' / 'rsna_mammography' / '64x32' / '1.0.0'
  assert not (folder / 'dataset_info.json').exists()
  code, _ = _ends(_prepare(src, tmp_path, '--bad-files', 'skip'), capsys)
  assert code == 0
  lines = (folder / 'skipped.csv').read_text().splitlines()
  assert len(lines) == 2
  assert '8.png' in lines[1]
  assert len((folder / 'rows-train.csv').read_text().splitlines()) == 2


def test_a_file_that_is_named_and_not_there_is_found_first(tmp_path, capsys):
  src = _layout(tmp_path, _ROW, _ROW.replace(',7,L', ',9,R'))
  _refused(_prepare(src, tmp_path), capsys, '5/9', '1 of 2')


def test_a_picture_of_another_size_is_refused(tmp_path, capsys):
  src = _layout(tmp_path, _ROW)
  _picture(src / 'train_images' / '5' / '7.png', (40, 40))
  _refused(_prepare(src, tmp_path), capsys, '7.png', '40')


def test_a_header_that_claims_gigabytes_is_refused(tmp_path, capsys):
  src = _layout(tmp_path, _ROW)
  path = src / 'train_images' / '5' / '7.png'
  data = bytearray(path.read_bytes())
  data[16:24] = struct.pack('>II', 60_000, 60_000)
  path.write_bytes(data)
  _refused(_prepare(src, tmp_path), capsys, '7.png')


@pytest.mark.parametrize(
  ('argument', 'words'),
  [
    ('--config.train.stepz=3', ('stepz', 'did you mean steps')),
    ('--config.loss.auxiliary.ages=1', ('auxiliary has no field ages', 'age?')),
    ('--config.seed.x=1', ('seed has no field x',)),
    ('--config.data.size[0]=64', ('no field size[0]', 'mean size')),
    ('--config.model.init_from=nowhere', ('model.init_from=', 'nowhere')),
    ('--config.train.steps=many', ('steps', 'many')),
    ('--config.train.batch_size=2.5', ('batch_size', '2.5')),
    ('--config.data.size=(3,4)', ('data.size', '16')),
    ("--config.model.metadata=('BIRADS',)", ('BIRADS', 'leak')),
    ('--config.model.name=resnet', ('model.name', 'resnet', 'xception')),
    ('--config.loss.name=hinge', ('loss.name', 'hinge')),
    ('--config.optim.name=magic', ('optim.name', 'magic')),
    ('--config.optim.learning_rate=-1', ('learning_rate', '-1')),
    ('--config.data.dir=nowhere', ('nowhere', 'rsna-jax prepare')),
    ('--nonsense=1', ('nonsense',)),
    ('more', ('more',)),
  ],
)
def test_a_bad_option_of_the_training_is_one_line(
  argument, words, tmp_path, capsys
):
  argv = ['main', _CONFIG, f'--workdir={tmp_path / "w"}', argument]
  _refused(lambda: main.main(argv), capsys, *words)
  assert not list((tmp_path / 'w').glob('*.json'))


def test_all_wrong_fields_are_said_together(tmp_path, capsys):
  argv = [
    *('main', _CONFIG, f'--workdir={tmp_path / "w"}'),
    *('--config.train.steps=0', '--config.data.fold=9'),
  ]
  _refused(lambda: main.main(argv), capsys, 'train.steps=0', 'data.fold=9')


def test_a_config_that_is_missing_or_broken_is_one_line(tmp_path, capsys):
  path = tmp_path / 'c.py'
  argv = ['main', f'--config={path}', f'--workdir={tmp_path / "w"}']
  _refused(lambda: main.main(argv), capsys, 'c.py')
  path.write_text('def get_config(:\n')
  _refused(lambda: main.main(argv), capsys, 'c.py')
  path.write_text('x = 1\n')
  # In a process of its own, since Python keeps the module of a config.
  found = subprocess.run(
    [sys.executable, '-m', 'rsna_jax.main', *argv[1:]],
    capture_output=True,
    text=True,
    cwd=_ROOT,
  )
  assert found.returncode == 2
  assert 'get_config' in found.stderr
  assert len(found.stderr.splitlines()) == 1
  _refused(lambda: main.main(['main', '--workdir=w']), capsys, '--config')
  _refused(lambda: main.main(['main', _CONFIG]), capsys, '--workdir')


@pytest.mark.parametrize(
  'argv',
  [
    ['evaluate', '--workdir', 'none'],
    ['predict', 'none.dcm', '--workdir', 'none', '--out', 'out'],
    ['evaluate', '--workdir', 'none', '--split', 'holdout'],
    ['prepare', 'src'],
    ['prepare', 'src', '--data-dir', 'd', '--size', '512'],
    ['phantom', 'out', '--patients', '0'],
    ['crossvalidate', '--config', 'c.py', '--workdir', 'w', '--folds', 'a'],
    ['dance'],
    [],
  ],
)
def test_a_bad_command_is_one_line(argv, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  _refused(lambda: cli.main(argv), capsys)
  assert not list(tmp_path.iterdir())


def test_doctor_says_what_is_here(capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(['doctor'])
  out = capsys.readouterr().out
  assert end.value.code == 0, out
  assert 'JPEG 2000 (at any level)' in out
  assert 'decode exactly' in out
  assert out.splitlines()[-1] == 'ready'


@pytest.mark.parametrize(
  ('number', 'word'),
  [(errno.ENOSPC, 'disk is full'), (errno.EROFS, 'read-only')],
)
def test_a_full_disk_names_the_path_and_keeps_the_old_file(
  number, word, tmp_path, monkeypatch, capsys
):
  path = tmp_path / 'a.txt'
  files.write_text(path, 'old')

  def full(*unused):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(os, 'fsync', full)
  _refused(
    lambda: shell.run(lambda: files.write_text(path, 'new')),
    capsys,
    word,
    'a.txt',
  )
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['a.txt']


def test_a_fault_of_ours_keeps_its_traceback():
  with pytest.raises(ZeroDivisionError):
    shell.run(lambda: 1 // 0)


def test_the_commands_run_as_installed(tmp_path):
  for command in (
    [sys.executable, '-m', 'rsna_jax.main', '--help'],
    [sys.executable, '-m', 'rsna_jax.cli', '--version'],
  ):
    found = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip()


def test_the_real_csv_with_a_missing_file(tmp_path, capsys):
  source = _REAL / 'rsna_dicom'
  if not source.is_dir():
    pytest.skip(f'no real mammograms in {source}; set RSNA_JAX_DATA')
  _refused(
    _prepare(
      source,
      tmp_path,
      '--train-csv',
      str(source / 'train_with_missing_files.csv'),
    ),
    capsys,
    '1459541791.dcm',
    '--bad-files skip',
  )
