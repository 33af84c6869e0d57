import pytest

from rsna_jax import errors
from rsna_jax.data import records, store


def made(i):
  columns = dict.fromkeys(records.schema.COLUMNS, i)
  return store.Made(
    {**columns, 'image': b'png%d' % i}, {'bytes': 1, 'sha256': 'a'}, {'i': i}
  )


def job_of(count):
  rows = [
    (dict.fromkeys(records.schema.COLUMNS, i), f'{i}.dcm') for i in range(count)
  ]
  return store.Job('abc', count, lambda: rows)


def serialise(example):
  return example['image']


def test_a_note_tells_what_is_in_a_shard(tmp_path):
  found = store.Store(tmp_path)
  bad = errors.DataError('1.dcm: bad')
  answers = iter([made(0), bad, made(2)])
  with pytest.raises(errors.DataError, match=r'1\.dcm: bad; or use'):
    found.write(job_of(3), answers, serialise, skip=False)
  assert list(tmp_path.iterdir()) == []
  answers = iter([made(0), bad, made(2)])
  header = found.write(job_of(3), answers, serialise, skip=True)
  assert header == found.header('abc')
  assert header['count'] == 2
  assert header['skipped'] == [
    {'file': '1.dcm', 'image_id': '1', 'reason': '1.dcm: bad'}
  ]
  path = found.shard_path(header)
  assert header['bytes'] == path.stat().st_size
  assert header['sha256'] == store.file_sha256(path)
  lines = list(found.lines('abc'))
  assert [line['row'] for line in lines] == [0, 2]
  assert [line['facts'] for line in lines] == [{'i': 0}, {'i': 2}]
  assert records.Shards([str(path)], [2]).read([0, 1]) == [b'png0', b'png2']


def test_of_two_workers_on_one_job_the_later_note_counts(tmp_path):
  found = store.Store(tmp_path)
  first = found.write(job_of(1), iter([made(0)]), serialise, skip=False)
  second = found.write(job_of(1), iter([made(0)]), serialise, skip=False)
  assert first['shard'] != second['shard']
  assert found.header('abc') == second
  (tmp_path / 'abc.job').write_text('[]')
  (tmp_path / '.abc.array_record.tmp').write_text('')
  found.clean()
  assert {path.name for path in tmp_path.iterdir()} == {
    'abc.jsonl',
    second['shard'],
  }
  found.clean(kept=[])
  assert list(tmp_path.iterdir()) == []


def test_a_damaged_note_is_no_note(tmp_path):
  found = store.Store(tmp_path)
  found.write(job_of(2), iter([made(0), made(1)]), serialise, skip=False)
  path = found.note_path('abc')
  text = path.read_text()
  path.write_text(text[:-20])
  assert found.header('abc')['count'] == 2
  with pytest.raises(errors.DataError, match=r'abc\.jsonl: damaged'):
    list(found.lines('abc'))
  path.write_text(text[:20])
  assert found.header('abc') is None
  assert found.header('absent') is None
  found.clean()
  assert list(tmp_path.iterdir()) == []
