"""A made-up evaluation, drawn by every test of the report."""

import io

import numpy as np
from PIL import Image

from rsna_jax import aggregate
from rsna_jax.report import data_tables, leaks, worst
from rsna_jax.scoring import score

HISTORY = [
  {'step': 10, 'train/loss': 0.7},
  {'step': 20, 'train/loss': 0.5, 'validation/loss': 0.6},
  {'step': 20, 'validation/roc_auc': None, 'validation/score': 0.5},
  {'step': 30, 'validation/roc_auc': 0.8},
]


class Data:
  """Standard images: the brightness of each tells its row."""

  def read(self, rows):
    found = []
    for row in rows:
      out = io.BytesIO()
      pixels = np.full((64, 32), row % 200 + 20, np.uint8)
      Image.fromarray(pixels).save(out, format='PNG')
      found.append(out.getvalue())
    return found


def columns(n=600, seed=0):
  """A table of n / 4 patients, with four images each."""
  rng = np.random.default_rng(seed)
  patient = np.arange(n) // 4
  side = np.where(np.arange(n) % 4 < 2, 'L', 'R')
  names = np.array(
    [f'{a}_{b}' for a, b in zip(patient.tolist(), side, strict=True)]
  )
  ill = dict(zip(names.tolist(), rng.random(n) < 0.35, strict=True))
  cancer = np.array([ill[name] for name in names.tolist()], int)
  age = (40 + patient % 45 + 4 * (cancer > 0)).astype(np.float32)
  return {
    'site_id': patient % 2 + 1,
    'patient_id': patient,
    'image_id': np.arange(n) + 1_000,
    'laterality': side,
    'view': np.where(np.arange(n) % 2, 'CC', 'MLO'),
    'age': np.where(patient % 20 == 0, np.nan, age),
    'cancer': cancer,
    'implant': (patient % 30 == 0).astype(int),
    'density': patient % 4 + 1,
    'BIRADS': np.full(n, -1),
    'machine_id': np.where(patient % 3, 49, 21),
    'invasive': cancer,
    'difficult_negative_case': np.zeros(n, int),
    'prediction_id': names,
  }


def evaluation(target='cancer', n=600, **options):
  """All that `html.write_report` takes, but for the path."""
  table = columns(n)
  rng = np.random.default_rng(1)
  p = 1 / (1 + np.exp(2 - 1.5 * table['cancer'] - rng.normal(size=n)))
  part = np.array(['train', 'validation', 'no label'])[
    np.minimum(table['patient_id'] % 3, 2)
  ]
  part[table['patient_id'] % 6 == 5] = 'validation'
  judged = part == 'validation'
  mine = {name: x[judged] for name, x in table.items()}
  probabilities = p[:, None]
  if target != 'cancer':
    of_density = rng.dirichlet(np.ones(4), n)
    probabilities = of_density
    if target == 'density_cancer':
      probabilities = np.stack(
        [of_density * (1 - p[:, None]), of_density * p[:, None]], axis=2
      ).reshape(n, 8)
  options = {'bootstrap': 50, 'calibration': 'platt', 'rule': 'pf1'} | options
  found = score.score_target(mine, probabilities[judged], target, **options)
  found |= {'split': 'validation', 'step': 30}
  breasts, pictures = {}, []
  known = part != 'no label'
  labelled = {name: x[known] for name, x in table.items()}
  if target != 'density':
    breasts = aggregate.breasts(
      mine['prediction_id'], mine['patient_id'], p[judged], mine['cancer']
    )
    pictures = worst.pictures(
      mine,
      p[judged],
      breasts,
      Data(),
      np.flatnonzero(judged),
      explain=lambda row: np.eye(64, 32, dtype=np.float32),
      count=6,
    )
  beside = None
  if breasts:
    beside = leaks.metadata_only(
      labelled,
      [(part[known] == 'train', part[known] == 'validation')],
      dict(
        zip(
          breasts['prediction_id'].tolist(),
          breasts['cancer'].tolist(),
          strict=True,
        )
      ),
      bootstrap=50,
    )
  found['leaks'] = leaks.findings(
    labelled,
    part[known],
    ('age',),
    {int(x): str(x) for x in labelled['image_id']},
    beside,
  )
  return {
    'title': 'a run',
    'run': {
      'config': {'name': 'x', 'data': {'size': (64, 32), 'window': 'full'}},
      'changes': {'data.size': ((512, 256), (64, 32))},
      'environment': {'python': '3.11', 'packages': {'jax': '0.10.2'}},
      'weights': {'checkpoint_manifest_sha256': 'ab' * 32},
      'data': data_tables.summary(
        table, part, ['validation'], name='a set', fingerprint='cd', skipped=3
      ),
    },
    'metrics': found,
    'breasts': breasts,
    'history': HISTORY,
    'worst': pictures,
  }
