import os
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import small_set

from rsna_jax import config, errors, shell
from rsna_jax.data import archive, dataset, layout, sources, table


def pack(folder, path, inside='', method=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, 'w', method) as file:
    for found in sorted(folder.rglob('*')):
      if found.is_file():
        file.write(found, inside + str(found.relative_to(folder)))
  return path


def open_set(out):
  c = config.default()
  c.data.update({'dir': str(out), 'size': (64, 32)})
  found = dataset.open_dataset(c)
  return found.fingerprint, found.read(range(len(found)))


@pytest.fixture(scope='module')
def src(tmp_path_factory):
  return small_set.write_rsna(tmp_path_factory.mktemp('src'), 6)


@pytest.fixture(scope='module')
def wanted(src, tmp_path_factory):
  out = tmp_path_factory.mktemp('wanted')
  folder = small_set.prepare(src, out)
  return open_set(out), (folder / 'manifest.csv').read_text()


@pytest.mark.parametrize('kind', ['path', 'url', 'folder in it', 'remote'])
def test_a_zip_is_read_without_unpacking(src, wanted, tmp_path, kind):
  inside = 'sub/rsna/' if kind == 'folder in it' else ''
  path = pack(src, tmp_path / 'rsna.ZIP', inside)
  source = {
    'path': path,
    'url': f'zip://::{path}',
    'folder in it': f'zip://sub/rsna::{path}',
    'remote': f'zip://::file://{path}',
  }[kind]
  folder = small_set.prepare(source, tmp_path / 'out', workers=2)
  assert open_set(tmp_path / 'out') == wanted[0]
  # Names are those within the archive.
  assert (folder / 'manifest.csv').read_text() == wanted[1]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['out', 'rsna.ZIP']


def test_a_url_of_fsspec_is_read(src, wanted, tmp_path):
  import fsspec

  memory = fsspec.filesystem('memory')
  memory.put(str(src) + '/', '/bucket/rsna', recursive=True)
  try:
    folder = small_set.prepare('memory://bucket/rsna', tmp_path / 'memory')
    assert open_set(tmp_path / 'memory') == wanted[0]
    assert (folder / 'manifest.csv').read_text() == wanted[1]
  finally:
    memory.rm('/bucket', recursive=True)
  # The children read this one themselves.
  small_set.prepare(f'file://{src}', tmp_path / 'file')
  assert open_set(tmp_path / 'file') == wanted[0]


def test_a_file_that_changed_in_a_zip_is_seen(src, tmp_path, monkeypatch):
  path = pack(src, tmp_path / 'rsna.zip')
  folder = small_set.prepare(path, tmp_path / 'out')
  before = (folder / 'records.json').read_text()
  state = os.stat(path)
  copy = small_set.write_rsna(tmp_path / 'copy', 6)
  image = copy / 'train_images/1/1002.png'
  image.write_bytes((copy / 'train_images/1/1003.png').read_bytes())
  pack(copy, path)
  small_set.prepare(path, tmp_path / 'out')
  assert (folder / 'records.json').read_text() != before
  # The same content at another time is the same data set.
  after = small_set.states(folder)
  os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
  small_set.prepare(path, tmp_path / 'out')
  assert small_set.states(folder) == after


def test_folders_of_classes_may_be_in_a_zip(tmp_path):
  for i, name in enumerate(('1Benign/a (1)', '1Benign/a (2)', '3Malignant/b')):
    path = tmp_path / f'src/Density{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    small_set.save(path, i)
  plain = layout.find(tmp_path / 'src')
  packed = layout.find(pack(tmp_path / 'src', tmp_path / 'a.zip'))
  assert packed.data_set == plain.data_set == 'mammography_folders'
  for name, values in plain.splits['train'].table.columns.items():
    np.testing.assert_array_equal(packed.splits['train'].table[name], values)
  for here, there in zip(
    plain.splits['train'].files, packed.splits['train'].files, strict=True
  ):
    assert sources.read(here) == sources.read(there)


def refused(source, *words, out=None, **kwargs):
  with pytest.raises(errors.InputError) as error:
    if out is None:
      layout.find(source)
    else:
      small_set.prepare(source, out, **kwargs)
  text = str(error.value)
  for word in words:
    assert word in text, text
  assert '\n' not in text


def test_a_source_that_cannot_be_read_is_one_line(
  tmp_path, monkeypatch, capsys
):
  refused('nonsense://a/b', 'nonsense', 'Protocol not known')
  monkeypatch.setitem(sys.modules, 's3fs', None)
  monkeypatch.setitem(sys.modules, 'gcsfs', None)
  refused('s3://bucket/rsna', 'pip install s3fs')
  refused('gs://bucket/rsna', 'pip install gcsfs')
  refused('zip://::gs://bucket/rsna.zip', 'pip install gcsfs')
  refused('simplecache::memory://x', 'simplecache')
  refused('memory://absent/folder', 'no train.csv')
  refused(tmp_path / 'absent.zip', 'no such folder')
  refused(f'zip://::{tmp_path}/absent.zip', 'no such zip')
  (tmp_path / 'text.zip').write_bytes(b'not a zip')
  refused(tmp_path / 'text.zip', 'not a whole zip', 'copy it again')
  empty = tmp_path / 'empty'
  empty.mkdir()
  refused(pack(empty, tmp_path / 'empty.zip'), 'no train.csv and no test.csv')
  assert shell.run(lambda: layout.find('nonsense://x')) == 2
  assert capsys.readouterr().err.count('\n') == 1


def test_a_zip_of_a_folder_above_says_where_the_tables_are(src, tmp_path):
  path = pack(src, tmp_path / 'a.zip', 'rsna/')
  refused(path, f'Did you mean zip://rsna::{path}?')


@pytest.mark.parametrize(
  'name', ['../../evil.png', '/etc/passwd', 'a\\..\\b', 'C:/x', 'train.csv']
)
def test_a_zip_with_names_that_do_harm_is_refused(src, tmp_path, name):
  path = pack(src, tmp_path / 'a.zip')
  with (
    pytest.warns(UserWarning) if name == 'train.csv' else open(os.devnull),
    zipfile.ZipFile(path, 'a') as file,
  ):
    file.writestr(name, b'x')
  word = 'in it twice' if name == 'train.csv' else 'leads out of it'
  refused(path, word, ascii(name))


def damaged(path, member, how):
  """The archive with one member encrypted, packed oddly, or changed."""
  with zipfile.ZipFile(path) as file:
    info = file.getinfo(member)
    start = file.start_dir
  data = bytearray(path.read_bytes())
  name = member.encode()
  central = data.index(name, start) - 46
  if how == 'encrypted':
    data[central + 8] |= 1
    data[info.header_offset + 6] |= 1
  elif how == 'packed':
    struct.pack_into('<H', data, central + 10, 9)
    struct.pack_into('<H', data, info.header_offset + 8, 9)
  elif how == 'changed':
    data[info.header_offset + 30 + len(name) + 200] ^= 0x10
  else:
    struct.pack_into('<L', data, central + 24, 3 << 30)
  path.write_bytes(data)


@pytest.mark.parametrize(
  ('how', 'words'),
  [
    ('encrypted', 'encrypted'),
    ('packed', 'packed in a way'),
    ('changed', 'damaged in the zip'),
    ('bomb', 'a file has at most'),
  ],
)
def test_a_bad_member_costs_itself_alone(src, tmp_path, how, words):
  path = pack(src, tmp_path / 'a.zip')
  damaged(path, 'train_images/1/1002.png', how)
  refused(path, '1002.png', words, '--bad-files skip', out=tmp_path / 'out')
  folder = small_set.prepare(path, tmp_path / 'out', bad_files='skip')
  (entry,) = small_set.skipped_of(folder)
  assert entry['image_id'] == '1002'
  assert words in entry['reason']
  assert len(table.read_csv(folder / 'rows-train.csv')) == 5


def test_a_zip_is_opened_once_by_a_process(src, tmp_path, monkeypatch):
  path = pack(src, tmp_path / 'a.zip')
  opened = []
  real = zipfile.ZipFile

  def counted(*args):
    opened.append(args)
    return real(*args)

  monkeypatch.setattr(archive.zipfile, 'ZipFile', counted)
  found = layout.find(path)
  for file in found.splits['train'].files:
    assert sources.read(file)[1:4] == b'PNG'
  assert len(opened) == 1


def test_a_vanished_file_and_a_stalled_disk_are_named(tmp_path):
  src = small_set.write_rsna(tmp_path / 'src', 4)
  found = layout.find(src)
  (src / 'train_images/0/1001.png').unlink()
  # A pipe that nobody writes to: opening it takes for ever.
  (src / 'train_images/1/1002.png').unlink()
  os.mkfifo(src / 'train_images/1/1002.png')
  with pytest.raises(errors.DataError, match=r'1001\.png: no such file any'):
    sources.read(found.splits['train'].files[1])
  assert [size for size, _ in found.source.states(found.splits['train'].files)][
    1
  ] == -1
  start = time.monotonic()
  small_set.write_dicom(src / 'train_images/0/1001.dcm', small_set.breast(1))
  folder = small_set.prepare(src, tmp_path / 'out', bad_files='skip', time_s=3)
  assert time.monotonic() - start < 60
  (entry,) = small_set.skipped_of(folder)
  assert entry['image_id'] == '1002'
  assert '1002.png: not done after 3 s' in entry['reason']


def test_a_disk_that_fails_now_and_then_is_tried_again(tmp_path, monkeypatch):
  path = tmp_path / 'a'
  path.write_bytes(b'content')
  waits, failures = [], []
  real = sources._read

  def failing(name):
    if failures:
      raise failures.pop()
    return real(name)

  monkeypatch.setattr(sources, '_read', failing)
  monkeypatch.setattr(sources.time, 'sleep', waits.append)
  failures += [OSError(5, 'Input/output error'), OSError(116, 'Stale handle')]
  assert sources.read(str(path)) == b'content'
  assert waits == [0.5, 1.0]
  failures += [OSError(5, 'Input/output error')] * 3
  with pytest.raises(errors.DataError, match='in 3 tries'):
    sources.read(str(path))
  del waits[:]
  failures += [OSError(40, 'Too many levels of symbolic links')]
  with pytest.raises(errors.DataError, match='symbolic links'):
    sources.read(str(path))
  failures += [ConnectionResetError('reset')]
  with pytest.raises(errors.DataError, match='Protocol not known'):
    sources.read('nonsense://a')
  assert waits == [0.5]


def test_a_folder_needs_no_fsspec(src):
  code = (
    'import sys\n'
    'from rsna_jax.data import convert, layout\n'
    'found = layout.find(sys.argv[1])\n'
    'convert.sources.read(found.splits["train"].files[0])\n'
    "assert 'fsspec' not in sys.modules\n"
  )
  subprocess.run([sys.executable, '-c', code, str(src)], check=True)


def test_a_listing_that_takes_long_is_told_of(monkeypatch, caplog):
  monkeypatch.setattr(sources, 'PATIENCE_S', 0.05)
  with sources.patience('/mnt/slow'):
    time.sleep(0.2)
  assert '/mnt/slow: not listed after' in caplog.text
  said = caplog.text
  time.sleep(0.2)
  assert caplog.text == said
