"""Phantoms of the loop: a model of too few, and pictures that people submit."""

import csv
import dataclasses
import pathlib
import pickle

import loop_attacks
import numpy as np

from rsna_jax import config, inference, schema, train
from rsna_jax.data import (
  convert,
  dataset,
  folds,
  phantom,
  preprocess,
  table,
)
from rsna_jax.serve import settings
from rsna_jax.serve.answering import loaded
from rsna_jax.serve.intake import intake

SPEC = preprocess.Spec(size=(256, 128))
SCALE = 0.6  # of the phantoms' pixels
SUBMISSIONS = 200  # one of each patient
COPIES = 20  # of validation images
LEARNED = 3  # patients with, and without cancer, that the first model learns


@dataclasses.dataclass
class Case:
  """A picture that somebody may submit, and the truth about it."""

  upload: intake.Upload
  patient: str
  cancer: int
  density: int
  said: dict = dataclasses.field(default_factory=dict)


def make_base(out: pathlib.Path) -> pathlib.Path:
  """A run that learns from six patients, and is judged on thirty."""
  run = out / 'run'
  if (run / 'eval/validation/metrics.json').is_file():
    return run
  phantom.write(out / 'first', patients=60, seed=0, scale=SCALE, workers=2)
  _write_few(out / 'first')
  convert.prepare(
    out / 'first', out / 'data', spec=SPEC, workers=2, train_csv='few.csv'
  )
  c = config.load(pathlib.Path(__file__).parent.parent / 'configs/phantom.py')
  c.data.dir = str(out / 'data')
  c.data.folds = 2
  c.data.reader = 'numpy'
  c.train.steps = 150
  c.train.eval_every = 150
  c.eval.worst = 0
  train.train_and_evaluate(c, run)
  return run


def _write_few(folder: pathlib.Path) -> None:
  """few.csv: train.csv, in which few of those to train on have a density.

  The target is density and cancer together, so the others teach nothing; the
  division by patient does not depend on it.
  """
  found = table.read_csv(folder / 'train.csv', kind='train')
  train_on = folds.fold_of(found, 2, 0) != 0
  kept: list[int] = []
  for cancer in (1, 0):
    told = train_on & (found['density'] != schema.MISSING)
    ill = np.isin(
      found['patient_id'], found['patient_id'][found['cancer'] == 1]
    )
    patients = found['patient_id'][told & (ill == bool(cancer))]
    kept += list(dict.fromkeys(patients.tolist()))[:LEARNED]
  hidden = train_on & ~np.isin(found['patient_id'], kept)
  columns = dict(found.columns)
  columns['density'] = np.where(hidden, schema.MISSING, found['density'])
  table.write_csv(folder / 'few.csv', table.Table(columns), kind='train')


def make_third(out: pathlib.Path, base: pathlib.Path) -> dataset.Dataset:
  """Patients that nobody has seen, to measure on."""
  phantom.write(
    *(out / 'third',),
    patients=80,
    seed=2,
    scale=SCALE,
    prevalence=0.5,
    workers=2,
  )
  convert.prepare(out / 'third', out / 'third_data', spec=SPEC, workers=2)
  c = config.default()
  c.data.dir, c.data.size = str(out / 'third_data'), SPEC.size
  return dataset.open_dataset(c, 'train')


def take_in(out: pathlib.Path, base: pathlib.Path):
  """Cases through the intake, with what the first model says; and copies."""
  cached = out / 'uploads.pickle'
  if not cached.is_file():
    cached.write_bytes(pickle.dumps(_uploads(out, base)))
  cases, copies = pickle.loads(cached.read_bytes())
  model = loaded.load(1, base)
  for case in cases:
    case.said = _said(model, case.upload)
    # Of the code as it is now, whenever the pictures were taken in.
    kept = loop_attacks.keep(preprocess.decode_png(case.upload.kept.png))
    case.upload = dataclasses.replace(case.upload, kept=kept)
  copies = [loop_attacks.keep(preprocess.decode_png(one.png)) for one in copies]
  return cases, copies


def _uploads(out: pathlib.Path, base: pathlib.Path):
  phantom.write(
    out / 'second',
    patients=SUBMISSIONS,
    seed=1,
    scale=SCALE,
    prevalence=0.5,
    workers=2,
  )
  cases, taken = [], set()
  truth = _densities(out / 'second')
  limits = settings.Settings(store=out / 'none', decode_s=60.0)
  with intake.Intake(limits) as reads:

    def read(folder, row):
      path = _dicom(folder, row)
      return reads.read(path.read_bytes(), path.name, [SPEC.to_json()], True)

    for row in _rows(out / 'second/train.csv'):
      patient = row['patient_id']
      # Of the breast with cancer, where there is one.
      if patient in taken or row['laterality'] != _side(
        out / 'second', patient
      ):
        continue
      taken.add(patient)
      cases.append(
        Case(
          upload=read(out / 'second', row),
          patient=patient,
          cancer=int(row['cancer']),
          density=truth[row['image_id']],
        )
      )
    held = _rows(base / 'eval/validation/predictions.csv')[:COPIES]
    copies = [
      loop_attacks.disguised(read(out / 'first', row).kept, i)
      for i, row in enumerate(held)
    ]
  return cases, copies


def _said(model, found) -> dict:
  prepared = inference.Prepared('', found.pixels[0], found.box, {})
  (one,) = model.model.predict_prepared([prepared])
  return {
    'model_number': 1,
    'cancer': float(model.calibrate(np.array([one.cancer]))[0]),
    'density': None,
  }


def _rows(path: pathlib.Path) -> list[dict]:
  with path.open(encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))


def _densities(folder: pathlib.Path) -> dict[str, int]:
  return {
    row['image_id']: 'ABCD'.index(row['density']) + 1
    for row in _rows(folder / 'densities.csv')
  }


def _side(folder: pathlib.Path, patient: str) -> str:
  rows = [x for x in _rows(folder / 'train.csv') if x['patient_id'] == patient]
  return max(rows, key=lambda x: int(x['cancer']))['laterality']


def _dicom(folder: pathlib.Path, row: dict) -> pathlib.Path:
  return folder / 'train_images' / row['patient_id'] / f'{row["image_id"]}.dcm'
