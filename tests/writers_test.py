import json
import pathlib
import struct

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from rsna_jax import errors, writers


def write(workdir, steps, start=0):
  with writers.Writer(workdir) as writer:
    writer.resume(start)
    for step in steps:
      writer.scalars(step, {'train/loss': 1 / step})
      if step % 2 == 0:
        writer.scalars(step, {'validation/roc_auc': step / 10})


def history(workdir):
  return (workdir / 'metrics.jsonl').read_bytes()


def test_a_line_a_record_is_there_before_the_writer_is_closed(tmp_path):
  writer = writers.Writer(tmp_path)
  writer.resume()
  writer.scalars(3, {'loss': 0.25, 'bad': float('nan')})
  lines = history(tmp_path).decode().splitlines()
  assert [json.loads(line) for line in lines] == [
    {'step': 3, 'loss': 0.25, 'bad': None}
  ]
  writer.close()
  writer.close()


def test_a_resumed_history_equals_an_uninterrupted_one(tmp_path):
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  write(whole, range(1, 11))
  write(broken, range(1, 8))  # killed at 7, the checkpoint is of step 4
  with open(broken / 'metrics.jsonl', 'ab') as file:
    file.write(b'{"step": 8, "train/lo\xc3')
  write(broken, range(5, 11), start=4)
  assert history(broken) == history(whole)


def test_a_start_from_nothing_forgets_what_was_there(tmp_path):
  write(tmp_path, range(1, 4))
  write(tmp_path, range(1, 3))
  assert [x['step'] for x in writers.read(tmp_path)] == [1, 2, 2]


def test_read_leaves_out_a_torn_last_line_and_names_another(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  assert writers.read(tmp_path) == []
  path.write_bytes(b'{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
  assert writers.read(tmp_path) == [{'step': 1, 'loss': 2.0}]
  path.write_bytes(b'{"step": 1}\n{"st\n{"step": 3}\n')
  with pytest.raises(errors.RunError, match='line 2 is damaged'):
    writers.read(tmp_path)


def test_what_depends_on_the_machine_is_not_part_of_the_history(tmp_path):
  with writers.Writer(tmp_path) as writer:
    writer.resume()
    writer.scalars(1, {'time/images_per_s': 7.0}, reproducible=False)
  assert writers.read(tmp_path) == []
  assert b'images_per_s' in next(tmp_path.glob('events.*')).read_bytes()


def test_a_disabled_writer_writes_nothing(tmp_path):
  with writers.Writer(tmp_path / 'run', enabled=False) as writer:
    writer.resume()
    writer.scalars(1, {'loss': 1.0})
  assert not (tmp_path / 'run').exists()


def test_a_full_disk_is_named_with_its_file(tmp_path):
  if not pathlib.Path('/dev/full').exists():
    pytest.skip('needs /dev/full')
  writer = writers.Writer(tmp_path)
  writer.resume()
  writer._file = pathlib.Path('/dev/full').open('w', buffering=1)  # noqa: SIM115
  with pytest.raises(OSError, match='No space left') as error:
    writer.scalars(1, {'loss': 1.0})
  assert error.value.filename == str(tmp_path / 'metrics.jsonl')


def events(workdir):
  """Events of all files: the length and the checksums frame each message."""
  for path in sorted(workdir.glob('events.*')):
    data = path.read_bytes()
    while data:
      (size,) = struct.unpack('<Q', data[:8])
      yield event_pb2.Event.FromString(data[12 : 12 + size])
      data = data[16 + size :]


def test_events_hold_the_scalars_and_a_restart_purges_later_steps(tmp_path):
  write(tmp_path, range(1, 5))
  write(tmp_path, range(3, 5), start=2)
  found = list(events(tmp_path))
  losses = [
    (event.step, value.simple_value)
    for event in found
    for value in event.summary.value
    if value.tag == 'train/loss'
  ]
  third = float(np.float32(1 / 3))
  assert sorted(losses) == [
    (1, 1.0),
    (2, 0.5),
    (3, third),
    (3, third),
    (4, 0.25),
    (4, 0.25),
  ]
  starts = [x.step for x in found if x.HasField('session_log')]
  assert starts == [3]  # which hides step 3 and later of the first file
