"""Breast phantoms in the layout of the RSNA set, as true DICOM files.

The embedded data of the quick start and of the tests: what is in every image
is known, and nothing has to be downloaded.
"""

import concurrent.futures
import csv
import dataclasses
import io
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading

from rsna_jax import errors, files, schema
from rsna_jax.data import phantom_patient, progress

# Changes whenever the same parameters would give other files.
GENERATOR = 1
TEST_SHARE = 0.12
_DONE = 'phantom.json'
_PARTS = '.phantom_parts'


generate = phantom_patient.generate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
  """What `write` did: numbers of patients and images, test ones included."""

  out: pathlib.Path
  patients: int
  images: int
  reused: bool


def write(
  out: str | os.PathLike,
  *,
  patients: int = 40,
  seed: int = 0,
  scale: float = 1.0,
  prevalence: float = 0.3,
  workers: int = 1,
) -> Written:
  """Writes phantoms in the RSNA layout, or finds that they are there.

  Beside the RSNA set's own files it writes `findings.csv` (the lesions, in
  pixels), `densities.csv` (also where train.csv does not tell) and
  `test_labels.csv`. The files depend on the parameters alone, not on
  `workers`. An interrupted call, repeated, goes on where it was.

  Args:
    out: the folder; new, empty, or one that the same call wrote.
    patients: of the training set; an eighth more make the test set.
    seed: of everything.
    scale: factor of the size of the images; 1 is about 1100x900.
    prevalence: share of patients who have cancer, in one breast.
    workers: processes.

  Raises:
    errors.ConfigError: a parameter out of range.
    errors.DataError: `out` holds something else.
  """
  out = pathlib.Path(out)
  parameters = _parameters(patients, seed, scale, prevalence, workers)
  tests = max(1, round(TEST_SHARE * patients))
  total = patients + tests
  done = _check_folder(out, parameters)
  if done is not None:
    shutil.rmtree(out / _PARTS, ignore_errors=True)
    print(f'{out}: holds this phantom already, {done} images')
    return Written(out=out, patients=total, images=done, reused=True)

  parts = out / _PARTS
  files.write_json(parts / _DONE, parameters)
  (out / _DONE).unlink(missing_ok=True)
  jobs = [
    (str(out), {'split': split, 'index': index, **_options(parameters)})
    for split, count in (('train', patients), ('test', tests))
    for index in range(count)
  ]
  with progress.Progress(total, 'phantom', 'patients') as bar:
    if workers == 1:
      for job in jobs:
        _write_patient(job)
        bar.advance()
    else:
      _in_processes(jobs, workers, bar)
  records = [
    record for _, job in jobs for record in json.loads(_part(out, job))
  ]
  _write_tables(out, records)
  for stray in out.rglob('.*.tmp'):  # Of a call that was killed.
    stray.unlink()
  files.write_json(out / _DONE, {**parameters, 'images': len(records)})
  shutil.rmtree(parts)
  print(f'{out}: {total} patients, {len(records)} images')
  return Written(out=out, patients=total, images=len(records), reused=False)


def _parameters(patients, seed, scale, prevalence, workers):
  for name, value, low, high in (
    ('patients', patients, 1, phantom_patient.MAX_PATIENTS),
    ('seed', seed, 0, 2**63 - 1),
    ('scale', scale, 0.1, 8),
    ('prevalence', prevalence, 0, 1),
    ('workers', workers, 1, 1024),
  ):
    if not low <= value <= high:
      raise errors.ConfigError(f'{name}={value!r}: from {low} to {high}')
  return {
    'generator': GENERATOR,
    'patients': patients,
    'seed': seed,
    'scale': float(scale),
    'prevalence': float(prevalence),
  }


def _options(parameters):
  return {key: parameters[key] for key in ('seed', 'scale', 'prevalence')}


def _check_folder(out, parameters):
  """Number of images if the phantom is there; None if it is to be written."""
  if out.exists() and not out.is_dir():
    raise errors.DataError(f'{out}: is a file; name a folder for the phantom')
  if not out.exists() or {path.name for path in out.iterdir()} <= {_PARTS}:
    return None
  for marker in (out / _DONE, out / _PARTS / _DONE):
    try:
      found = json.loads(marker.read_text('utf-8'))
      images = found.pop('images', None)
    except (OSError, ValueError, AttributeError):
      continue
    if found != parameters:
      differs = ', '.join(
        f'{key}={found.get(key)!r}, not {value!r}'
        for key, value in parameters.items()
        if found.get(key) != value
      )
      raise errors.DataError(
        f'{out}: holds another phantom ({differs}); remove it, or name '
        'another folder'
      )
    if images and _count(out) == images:
      return images
    return None
  raise errors.DataError(
    f'{out}: is not empty and holds no phantom; name a new folder'
  )


def _count(out):
  """Number of DICOM files that the tables name and that are there; or -1."""
  count = 0
  for name in ('findings.csv', 'densities.csv', 'test_labels.csv'):
    if not (out / name).is_file():
      return -1
  for split in ('train', 'test'):
    try:
      with (out / f'{split}.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    except OSError:
      return -1
    count += sum(_image_path(out, split, row).is_file() for row in rows)
  return count


def _image_path(out, split, row):
  folder = out / f'{split}_images' / str(row['patient_id'])
  return folder / f'{row["image_id"]}.dcm'


def _write_patient(job):
  """Writes the images of a patient and, last, the record of them."""
  out, options = pathlib.Path(job[0]), job[1]
  target = _part_path(out, options)
  if target.is_file():
    record = json.loads(target.read_text('utf-8'))
    if all(
      _image_path(out, options['split'], item['row']).is_file()
      for item in record
    ):
      return
  record = []
  for phantom in phantom_patient.generate(**options):
    path = _image_path(out, options['split'], phantom.row)
    files.write_bytes(path, phantom.encode())
    record.append(
      {
        'split': options['split'],
        'row': phantom.row,
        'density': phantom.density,
        'findings': [dataclasses.asdict(f) for f in phantom.findings],
      }
    )
  files.write_json(target, record)


def _part_path(out, options):
  return out / _PARTS / f'{options["split"]}_{options["index"]}.json'


def _part(out, options):
  return _part_path(out, options).read_text('utf-8')


def _in_processes(jobs, workers, bar):
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
    min(workers, len(jobs)), mp_context=context, initializer=_start_worker
  ) as pool:
    try:
      futures = [pool.submit(_write_patient, job) for job in jobs]
      for future in concurrent.futures.as_completed(futures):
        future.result()
        bar.advance()
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def _start_worker():
  """Ctrl-C is the parent's to handle; a worker goes when its parent is gone."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def watch():
    parent.join()
    os._exit(1)

  if parent is not None:
    threading.Thread(target=watch, daemon=True).start()


def _write_tables(out, records):
  # The RSNA tables are sorted by the text of patient_id.
  records = sorted(records, key=lambda record: str(record['row']['patient_id']))
  split = {
    name: [r for r in records if r['split'] == name]
    for name in ('train', 'test')
  }
  _write_csv(
    out / 'train.csv', schema.TRAIN_COLUMNS, [r['row'] for r in split['train']]
  )
  tests = [
    {**r['row'], 'prediction_id': _prediction_id(r['row'])}
    for r in split['test']
  ]
  _write_csv(out / 'test.csv', schema.TEST_COLUMNS, tests)
  labels = {row['prediction_id']: row for row in tests}
  _write_csv(
    out / 'test_labels.csv', ('prediction_id', 'cancer'), labels.values()
  )
  _write_csv(
    out / 'densities.csv',
    ('image_id', 'patient_id', 'density'),
    [
      {**r['row'], 'density': schema.DENSITIES[r['density'] - 1]}
      for r in records
    ],
  )
  _write_csv(
    out / 'findings.csv',
    ('image_id', 'patient_id', 'kind', 'x', 'y', 'radius', 'density'),
    [
      {
        **r['row'],
        **{k: v if k == 'kind' else f'{v:.1f}' for k, v in f.items()},
        'density': schema.DENSITIES[r['density'] - 1],
      }
      for r in records
      for f in r['findings']
    ],
  )


def _write_csv(path, columns, rows):
  text = io.StringIO()
  writer = csv.DictWriter(
    text, columns, extrasaction='ignore', lineterminator='\n'
  )
  writer.writeheader()
  writer.writerows(rows)
  files.write_text(path, text.getvalue())


def _prediction_id(row):
  return f'{row["patient_id"]}_{row["laterality"]}'
