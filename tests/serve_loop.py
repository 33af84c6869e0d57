"""A small run on pictures that all differ, and a store with submissions."""

import pathlib

import numpy as np
import serve_store
import tiny
from PIL import Image

from rsna_jax import train
from rsna_jax.data import convert, preprocess
from rsna_jax.serve.store import verdicts, versions

SPEC = preprocess.Spec(size=(64, 32))
PATIENTS = 24
# What a few steps can learn from a few dozen pictures.
OPTIONS = (
  *('steps=20', 'learning_rate=0.006', 'workers=1', 'bootstrap=300'),
  *('least_patients=4', 'margin=0.5', 'batch_size=16'),
)


def picture(seed: int, cancer: bool) -> np.ndarray:
  """A breast of patches, unlike any other; a cancer is a white spot."""
  chance = np.random.default_rng(seed)
  y, x = np.mgrid[:192, :120]
  inside = (y / 96 - 1) ** 2 / 0.8 + (x / 102) ** 2 < 1
  pixels = np.kron(chance.integers(60, 180, (24, 15)), np.ones((8, 8)))
  if cancer:
    row, column = chance.integers(70, 122), chance.integers(20, 50)
    pixels[(y - row) ** 2 + (x - column) ** 2 < 14**2] = 250
  return np.where(inside, pixels, 0).astype(np.uint8)


def write_layout(folder: pathlib.Path, first: int = 0) -> None:
  """RSNA's layout; every other patient has a cancer on the left."""
  rows = [
    'site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,'
    'BIRADS,implant,density,machine_id,difficult_negative_case'
  ]
  for patient in range(1, PATIENTS + 1):
    for number, side in enumerate('LR'):
      cancer = int(patient % 2 == 0 and side == 'L')
      for view in ('CC', 'MLO'):
        image = first + patient * 10 + number * 2 + (view == 'CC')
        path = folder / 'train_images' / str(patient) / f'{image}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(image, bool(cancer))).save(path)
        rows.append(
          f'1,{patient},{image},{side},{view},{50 + patient},{cancer},0,0,,0,'
          f'{"ABCD"[patient % 4]},49,False'
        )
  (folder / 'train.csv').write_text('\n'.join(rows) + '\n')


def train_base(folder: pathlib.Path, **changes) -> pathlib.Path:
  """A run that has learned nothing yet; returns its directory."""
  write_layout(folder / 'layout')
  convert.prepare(folder / 'layout', folder / 'data', spec=SPEC, workers=2)
  c = tiny.make_config(
    folder / 'data',
    data__folds=2,
    model__metadata=(),
    model__dropout=0.0,
    eval__calibration='platt',
    eval__worst=0,
    train__steps=1,
    optim__learning_rate=1e-5,
    **changes,
  )
  train.train_and_evaluate(c, folder / 'run')
  return folder / 'run'


def make_store(
  folder: pathlib.Path, run: pathlib.Path, count: int = 80, **fields
) -> serve_store.Store:
  """A store that serves the run, with accepted submissions."""
  store = serve_store.make(folder)
  versions.Models(store.db, folder).register_first(run)
  submit(store, range(5_000, 5_000 + count), **fields)
  return store


def submit(store: serve_store.Store, seeds, flip=(), users=(), **fields):
  """Submits and accepts a picture for each seed, two a patient.

  Args:
    store: where to.
    seeds: of the pictures.
    flip: seeds that are labelled wrongly.
    users: who submit in turn; none: the contributor.
    **fields: further labels.
  """
  users = users or (store.contributor,)
  found = []
  for seed in seeds:
    cancer = (seed // 2) % 2
    row = store.add(
      picture(seed, bool(cancer)),
      user=users[seed // 2 % len(users)],
      patient=f'p{seed // 2}',
      cancer=str(cancer ^ (seed in flip)),
      **fields,
    )
    with store.db.session() as session:
      verdicts.accept(session, row['id'], store.reviewer, distinct=True)
    found.append(row['id'])
  return found
