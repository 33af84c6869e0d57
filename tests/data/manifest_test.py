import hashlib
import json
import subprocess

import pytest
import small_set

from rsna_jax.data import build, image, manifest, sources, survey


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """Source and data set of 12 images, one of which is bad."""
  root = tmp_path_factory.mktemp('made')
  src = small_set.write_rsna(root / 'src', 12)
  (src / 'train_images/3/1007.png').write_bytes(b'bad')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(build, 'SHARD_ROWS', 4)
    folder = small_set.prepare(src, root / 'out', bad_files='skip')
  return src, folder


def test_the_manifest_ties_images_to_their_files(made):
  src, folder = made
  entries = small_set.manifest_of(folder)
  ids = [i for i in range(1000, 1012) if i != 1007]
  assert [int(entry['image_id']) for entry in entries] == ids
  records = small_set.records_of(folder)
  for entry, record in zip(entries, records, strict=True):
    data = (src / entry['source']).read_bytes()
    assert entry['split'] == 'train'
    assert int(entry['bytes']) == len(data)
    assert entry['sha256'] == hashlib.sha256(data).hexdigest()
    png = record['image'][0]
    assert entry['image_sha256'] == hashlib.sha256(png).hexdigest()
    assert (folder / entry['shard']).is_file()
  assert len({entry['shard'] for entry in entries}) > 1


def test_every_file_of_the_data_set_has_its_sum(made):
  _, folder = made
  text = (folder / 'SHA256SUMS').read_text()
  names = {line.split('  ')[1] for line in text.splitlines()}
  there = {path.name for path in folder.iterdir() if path.is_file()}
  assert names == there - {'SHA256SUMS'}
  assert {'dataset_info.json', 'rows-train.csv', 'manifest.csv'} < names
  check = ['sha256sum', '--check', '--strict', 'SHA256SUMS']
  assert not subprocess.run(check, cwd=folder, capture_output=True).returncode


def test_facts_come_with_the_data_set(made):
  src, folder = made
  found = manifest.read_facts(folder, sources.open_tree(src))
  assert len(found) == 12
  bad = str(src / 'train_images/3/1007.png')
  assert '1007.png' in found.pop(bad)
  for path, facts in found.items():
    wanted = survey.describe(image.read(path), None)
    assert wanted == {name: facts[name] for name in wanted}
    assert facts.keys() - wanted.keys() == {
      'box',
      'box_share',
      'flipped',
      'inverted',
    }
  # Facts that stand in an unchanged note are not asked for again.
  for line in (folder / 'facts.jsonl').read_text().splitlines():
    assert json.loads(line)['split'] == 'train'
