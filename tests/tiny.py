"""A made-up RSNA layout, and the config of a run on it: seconds, not minutes.

Cancers are bright spots, so that even a tiny network sees them.
"""

import pathlib

import numpy as np
from PIL import Image

from rsna_jax import config

_HEADER = (
  'site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,'
  'BIRADS,implant,density,machine_id,difficult_negative_case'
)


def picture(chance, bright: bool) -> np.ndarray:
  """Half an ellipse on black, with a bright spot in it or none."""
  y, x = np.mgrid[:256, :160]
  inside = ((y - 128) / 110) ** 2 + (x / 130) ** 2 < 1
  grey = 90 + 25 * chance.standard_normal((256, 160))
  if bright:
    row, column = chance.integers(90, 166), chance.integers(30, 70)
    grey[(y - row) ** 2 + (x - column) ** 2 < 18**2] = 250
  return np.where(inside, grey.clip(40, 255), 0).astype(np.uint8)


def write_layout(folder: pathlib.Path, patients: int = 16) -> None:
  chance = np.random.default_rng(0)
  train_rows, test_rows = [], []
  for patient in range(1, patients + 3):
    official = 'train' if patient <= patients else 'test'
    for number, side in enumerate('LR'):
      cancer = int(patient % 2 == 0 and side == 'L')
      for view in ('CC', 'MLO'):
        image = patient * 10 + number * 2 + (view == 'CC')
        path = folder / f'{official}_images' / str(patient) / f'{image}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(chance, bool(cancer))).save(path)
        start = f'1,{patient},{image},{side},{view},{50 + patient},'
        if official == 'train':
          train_rows.append(f'{start}{cancer},0,0,,0,B,49,False')
        else:
          test_rows.append(f'{start}0,49,{patient}_{side}')
  (folder / 'train.csv').write_text('\n'.join([_HEADER, *train_rows]) + '\n')
  (folder / 'test.csv').write_text(
    'site_id,patient_id,image_id,laterality,view,age,implant,machine_id,'
    'prediction_id\n' + '\n'.join(test_rows) + '\n'
  )


def make_config(data_dir, **changes):
  c = config.default()
  c.name = 'tiny'
  c.data.dir = str(data_dir)
  c.data.size = (64, 32)
  c.data.reader = 'numpy'
  c.data.positives_per_batch = 2
  c.augment.sheet = 0  # compiles for seconds; a test of its own has one
  c.model.name = 'cnn'
  c.model.width = 0.25
  c.model.dropout = 0.2
  c.model.metadata = ('age', 'view')
  c.train.steps = 8
  c.train.batch_size = 8
  c.train.log_every = 2
  c.train.eval_every = 4
  c.train.checkpoint_every = 2
  c.optim.ema = 0.9
  c.eval.batch_size = 16
  c.eval.bootstrap = 50
  for name, value in changes.items():
    group, field = name.split('__')
    c[group][field] = value
  return c
