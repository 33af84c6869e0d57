"""Breast phantoms in the layout of the RSNA set, as true DICOM files.

The embedded data of the quick start and of the tests: what is in every image
is known, and nothing has to be downloaded.
"""

import collections.abc
import concurrent.futures
import csv
import dataclasses
import io
import json
import math
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading

import numpy as np

from rsna_jax import errors, files, schema
from rsna_jax.data import phantom_dicom, phantom_image

# Changes whenever the same parameters would give other files.
GENERATOR = 1
TEST_SHARE = 0.12
MAX_PATIENTS = 40_000
_DENSITY_SHARES = (0.13, 0.41, 0.36, 0.10)
_EXTRA_VIEWS = ('ML', 'AT', 'LM', 'LMO')
_DONE = 'phantom.json'
_PARTS = '.phantom_parts'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phantom:
  """One image: its row (`schema.TRAIN_COLUMNS`, as text for a CSV), (rows,
  cols) uint16 stored values, machine, true density 1 to 4, the side of the
  chest wall and the lesions in pixels of the image."""

  row: dict
  pixels: np.ndarray
  machine: phantom_dicom.Machine
  density: int
  chest_side: str
  findings: tuple[phantom_image.Finding, ...]

  def encode(self) -> bytes:
    """The bytes of the DICOM file."""
    return phantom_dicom.encode(
      self.pixels,
      self.machine,
      patient_id=self.row['patient_id'],
      image_id=self.row['image_id'],
      laterality=self.row['laterality'],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
  """What `write` did: numbers of patients and images, test ones included."""

  out: pathlib.Path
  patients: int
  images: int
  reused: bool


def generate(
  index: int,
  *,
  seed: int = 0,
  split: str = 'train',
  prevalence: float = 0.25,
  scale: float = 1.0,
) -> list[Phantom]:
  """Makes all images of one patient, from (seed, split, index) alone.

  Args:
    index: number of the patient in its split.
    seed: of the set.
    split: 'train' or 'test'.
    prevalence: share of patients who have cancer, in one breast.
    scale: factor of the size of the images; 1 is about 1100x900.

  Returns:
    4 to 8 phantoms, left breast first.
  """
  number = index + (MAX_PATIENTS if split == 'test' else 0)
  rng = _stream(seed, number, 0)
  salt = 100 if split == 'test' else 0
  # Spread evenly rather than drawn, so that a small set holds every kind.
  start = index * prevalence + _offset(seed, salt + 1)
  cancer = math.floor(start + prevalence) > math.floor(start)
  kind = ('mass', 'calcifications')[math.floor(start) % 2]
  machine_id = _machine(_even(index, seed, salt + 2, 0.6180339887))
  machine = phantom_dicom.MACHINES[machine_id]
  age = rng.normal(58, 10) + 4 * cancer
  age_text = str(int(np.clip(round(age), 26, 89)))
  if _even(index, seed, salt + 3, 0.7320508076) < 0.03:
    age_text = ''
  density = 1 + int(rng.choice(4, p=_DENSITY_SHARES))
  implant = bool(machine.site_id == 1 and rng.uniform() < 0.04)
  turned = bool(rng.uniform() < machine.turned)
  size, reach = rng.uniform(size=2)
  cancer_side = rng.integers(2)
  patient_id = 10_000 + (number * 7_919 + _offset(seed, 4, 55_333)) % 55_333

  made = []
  for breast, laterality in enumerate(schema.LATERALITIES):
    sick = bool(cancer and breast == cancer_side)
    anatomy = phantom_image.Anatomy(
      density=density,
      size=float(np.clip(size + rng.normal(0, 0.05), 0, 1)),
      reach=float(np.clip(reach + rng.normal(0, 0.05), 0, 1)),
      glandular=rng.uniform(-0.2, 0.2),
      lesion=kind if sick else '',
      lesion_depth=rng.uniform(0.3, 0.8),
      lesion_size=rng.uniform(0.030, 0.045),
      cysts=int(rng.choice(3, p=(0.6, 0.3, 0.1))),
      coarse=int(rng.choice(3, p=(0.65, 0.25, 0.1))),
      vessels=int(rng.integers(0, 3)),
      implant=implant,
    )
    labels = _labels(anatomy, machine.site_id, rng)
    for view in _views(rng):
      image_number = len(made)
      repeat = view in [
        m.row['view'] for m in made if m.row['laterality'] == laterality
      ]
      tissue = 1 + breast * 16 + schema.VIEWS.index(view)
      own = _stream(seed, number, 64 + image_number)
      picture = phantom_image.render(
        anatomy,
        view=view,
        shape=tuple(round(n * scale) for n in machine.size),
        rng=_stream(seed, number, tissue),
        noise_rng=own,
        noise=machine.noise,
        shift=own.uniform(0.005, 0.03) if repeat else 0.0,
      )
      chest_left = (laterality == 'L') != turned
      chest_side = 'left' if chest_left else 'right'
      labelled = own.uniform() < machine.labels
      pixels = phantom_dicom.stored_values(
        picture.values,
        picture.breast,
        machine,
        chest_side=chest_side,
        label=f'{laterality}-{view}' if labelled else '',
        rng=own,
      )
      width = pixels.shape[1]
      findings = tuple(
        f if chest_left else dataclasses.replace(f, x=width - f.x)
        for f in picture.findings
      )
      count = number * 32 + image_number
      image_id = 1 + (count * 1_000_000_007 + _offset(seed, 5, 2**31 - 1)) % (
        2**31 - 1
      )
      row = {
        'site_id': machine.site_id,
        'patient_id': patient_id,
        'image_id': image_id,
        'laterality': laterality,
        'view': view,
        'age': age_text,
        'implant': int(implant),
        'density': schema.DENSITIES[density - 1]
        if machine.site_id == 1
        else '',
        'machine_id': machine_id,
        **labels,
      }
      made.append(
        Phantom(
          row={name: row[name] for name in schema.TRAIN_COLUMNS},
          pixels=pixels,
          machine=machine,
          density=density,
          chest_side=chest_side,
          findings=findings,
        )
      )
  return made


def write(
  out: str | os.PathLike,
  *,
  patients: int = 40,
  seed: int = 0,
  scale: float = 1.0,
  prevalence: float = 0.25,
  workers: int = 1,
  progress: collections.abc.Callable[[int, int], None] | None = None,
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
    progress: is called with the numbers of patients done and of all.

  Raises:
    errors.ConfigError: a parameter out of range.
    errors.DataError: `out` holds something else.
  """
  out = pathlib.Path(out)
  parameters = _parameters(patients, seed, scale, prevalence)
  tests = max(1, round(TEST_SHARE * patients))
  total = patients + tests
  done = _check_folder(out, parameters)
  if done is not None:
    return Written(out=out, patients=total, images=done, reused=True)

  parts = out / _PARTS
  files.write_json(parts / _DONE, parameters)
  (out / _DONE).unlink(missing_ok=True)
  jobs = [
    (str(out), {'split': split, 'index': index, **_options(parameters)})
    for split, count in (('train', patients), ('test', tests))
    for index in range(count)
  ]
  if workers == 1:
    for count, job in enumerate(jobs, 1):
      _write_patient(job)
      if progress is not None:
        progress(count, total)
  else:
    _in_processes(jobs, workers, progress)
  records = [
    record for _, job in jobs for record in json.loads(_part(out, job))
  ]
  _write_tables(out, records)
  files.write_json(out / _DONE, {**parameters, 'images': len(records)})
  shutil.rmtree(parts)
  return Written(out=out, patients=total, images=len(records), reused=False)


def _parameters(patients, seed, scale, prevalence):
  for name, value, low, high in (
    ('patients', patients, 1, MAX_PATIENTS),
    ('seed', seed, 0, 2**63 - 1),
    ('scale', scale, 0.1, 8),
    ('prevalence', prevalence, 0, 1),
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
  if not out.exists() or not any(out.iterdir()):
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
    return images if images and _count(out) == images else None
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
  for phantom in generate(**options):
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


def _in_processes(jobs, workers, progress):
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
    workers, mp_context=context, initializer=_start_worker
  ) as pool:
    try:
      futures = [pool.submit(_write_patient, job) for job in jobs]
      for count, future in enumerate(
        concurrent.futures.as_completed(futures), 1
      ):
        future.result()
        if progress is not None:
          progress(count, len(jobs))
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


def _views(rng):
  """CC and MLO; some breasts have one of them twice, or an extra view."""
  views = ['CC', 'MLO']
  if rng.uniform() < 0.15:
    views.append(views[rng.integers(2)])
  if rng.uniform() < 0.06:
    views.append(_EXTRA_VIEWS[rng.choice(4, p=(0.4, 0.35, 0.2, 0.05))])
  return views


def _labels(anatomy, site_id, rng):
  """The columns that go with a breast's finding, as the RSNA set has them."""
  draws = rng.uniform(size=3)
  sick = bool(anatomy.lesion)
  labels = {
    'cancer': int(sick),
    'biopsy': int(sick),
    'invasive': int(sick and draws[0] < 0.7),
    'BIRADS': '0' if sick and site_id == 1 else '',
    'difficult_negative_case': False,
  }
  if sick:
    return labels
  if draws[0] < (0.35 if anatomy.cysts or anatomy.coarse else 0.03):
    labels['difficult_negative_case'] = True
    labels['biopsy'] = int(draws[1] < (0.33 if site_id == 1 else 0.05))
    # Site 2 leaves BI-RADS out where there was a biopsy.
    labels['BIRADS'] = '' if site_id == 2 and labels['biopsy'] else '0'
  elif site_id == 1 and draws[1] < 0.76:
    labels['BIRADS'] = '1' if draws[2] < 0.87 else '2'
  return labels


def _machine(share):
  total = 0.0
  for machine_id, machine in phantom_dicom.MACHINES.items():
    total += machine.weight
    if share < total:
      return machine_id
  return machine_id


def _stream(seed, number, stream):
  """One of a patient's independent streams of random numbers."""
  return np.random.Generator(
    np.random.Philox(key=[seed, number], counter=[0, 0, 0, stream])
  )


def _offset(seed, salt, below=None):
  """A number of the set: in [0, 1), or an integer below `below`."""
  rng = _stream(seed, 2**40, salt)
  return float(rng.uniform()) if below is None else int(rng.integers(below))


def _even(index, seed, salt, step):
  """The index-th of numbers that fill [0, 1) evenly."""
  return (index * step + _offset(seed, salt)) % 1.0
