"""Why a split at random over augmented copies gives figures near 95 %.

Usage: python scripts/leaky_split.py --out DIR [--data RSNA_LAYOUT]
  [--images 106] [--copies 24] [--steps 600] [--size 64] [--width 0.25]
  [--learning-rate 5e-4] [--batch-size 32] [--seed 0]
One picture a patient, of known density, is drawn from an RSNA layout (default
RSNA_JAX_DATA/rsna640) and copied with flips, rotations and crops. The network
of configs/density_cnn.py is trained twice on the very same pictures and steps:
once all copies of a patient are on one side of the split, once each copy is
dealt by itself. Only the names of the files differ: `17 (3).png` is copy 3 of
source 17, while a name without a number is a source of its own. Prints a
Markdown table, and writes DIR/leaky_split.json, the data sets and the runs.
"""

import argparse
import os
import pathlib
import sys
import time

import numpy as np
from PIL import Image

from rsna_jax import config as config_lib
from rsna_jax import errors, files, metrics, schema, shell, train
from rsna_jax.data import convert, layout, preprocess
from rsna_jax.stats import bootstrap

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_DATA = os.environ.get('RSNA_JAX_DATA', _ROOT / '..' / 'shared' / 'data')
_SPLITS = {
  'by patient': 'no patient is on both sides',
  'copies at random': 'copies of one picture are on both sides',
}


def choose(table, count: int, chance: np.random.Generator) -> np.ndarray:
  """Rows of different patients, in turn of each class, rare classes whole.

  Returns:
    At most `count` row numbers; fewer where the patients end.
  """
  label = schema.target_labels(table.columns, 'density_cancer')
  shuffled = chance.permutation(np.flatnonzero(label != schema.MISSING))
  queues = [shuffled[label[shuffled] == k].tolist() for k in range(8)]
  patient, used, found = table['patient_id'], set(), []
  while len(found) < count and any(queues):
    for queue in queues:
      while queue and patient[queue[-1]] in used:
        queue.pop()
      if queue and len(found) < count:
        used.add(patient[queue[-1]])
        found.append(queue.pop())
  return np.array(found)


def altered(picture: Image.Image, chance: np.random.Generator) -> Image.Image:
  """A copy as published sets have them: flipped, turned, and cropped."""
  if chance.random() < 0.5:
    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  if chance.random() < 0.5:
    picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
  picture = picture.rotate(chance.uniform(-15, 15), Image.Resampling.BILINEAR)
  width, height = picture.size
  part = chance.uniform(0.85, 1)
  left = chance.uniform(0, width * (1 - part))
  top = chance.uniform(0, height * (1 - part))
  box = (left, top, left + width * part, top + height * part)
  return picture.resize(
    (width, height), Image.Resampling.BILINEAR, box=tuple(map(round, box))
  )


def write_copies(
  found: layout.Split, rows: np.ndarray, folders: dict, options
) -> None:
  """Writes the same copies into each folder, named as its split wants it."""
  label = schema.target_labels(found.table.columns, 'density_cancer')
  copies, seed = options.copies, options.seed
  names = np.random.default_rng((seed, 2)).permutation(len(rows) * copies)
  for i, row in enumerate(rows.tolist()):
    chance = np.random.default_rng((seed, 1, i))
    with Image.open(found.files[row]) as file:
      picture = file.convert('L')
    picture.thumbnail((4 * options.size, 4 * options.size))
    kind = schema.DENSITY_CANCER_CLASSES[label[row]]
    for k in range(copies):
      copy = picture if k == 0 else altered(picture, chance)
      for split, folder in folders.items():
        name = f'{i} ({k})'
        if split == 'copies at random':
          name = str(names[i * copies + k])
        path = folder / kind / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        copy.save(path)


def make_config(data_dir: pathlib.Path, options):
  """configs/density_cnn.py, smaller, whose copies are its augmentation."""
  c = config_lib.load(_ROOT / 'configs' / 'density_cnn.py')
  c.data.name = 'mammography_folders'
  c.data.dir = str(data_dir)
  c.data.size = (options.size, options.size)
  c.model.width = options.width
  c.seed = options.seed
  c.data.split_seed = options.seed
  for name in c.augment:
    c.augment[name] = type(c.augment[name])(0)
  c.train.steps = options.steps
  c.train.batch_size = options.batch_size
  c.train.eval_every = c.train.checkpoint_every = options.steps
  c.optim.learning_rate = options.learning_rate
  c.eval.checkpoint = 'latest'  # nothing is chosen on the validation side
  return c


def judged(folder: pathlib.Path, source: dict) -> dict:
  """Figures of a run's validation pictures, with intervals by patient.

  Args:
    folder: of eval/validation.
    source: image_id -> number of the picture that it is a copy of.
  """
  rows = files_rows(folder / 'predictions.csv')
  label = np.array([int(row['label_density_cancer']) for row in rows])
  p = np.array(
    [[float(row[x]) for x in schema.DENSITY_CANCER_CLASSES] for row in rows]
  )
  patient = np.array([source[int(row['image_id'])] for row in rows])
  drawn = bootstrap.Resamples(patient, n=2_000, seed=0)
  guess = p.argmax(axis=1)
  of_classes = bootstrap.classes(label, guess, patient, drawn, classes=8)
  cancer = np.minimum(p[:, 1::2].sum(axis=1), 1.0)
  of_cancer = bootstrap.binary(
    label % 2, cancer, patient, drawn, names=('roc_auc',)
  )
  matrix = np.zeros((8, 8))
  np.add.at(matrix, (label, guess), 1)
  total = matrix.sum(axis=0) + matrix.sum(axis=1)
  f1 = 2 * np.diag(matrix)[total > 0] / total[total > 0]
  values = {
    'accuracy': float((label == guess).mean()),
    'macro_f1': float(f1.mean()),
    'density_accuracy': float((label // 2 == guess // 2).mean()),
    'roc_auc of cancer': metrics.roc_auc(label % 2, cancer),
  }
  samples = {
    'accuracy': of_classes['accuracy'],
    'macro_f1': of_classes['macro_f1'],
    'roc_auc of cancer': of_cancer['roc_auc'],
  }
  return {
    'pictures': len(rows),
    'patients': len(set(patient.tolist())),
    **{x: bootstrap.figure(v, samples.get(x)) for x, v in values.items()},
    'always the commonest class': float(
      np.bincount(label, minlength=8).max() / len(label)
    ),
  }


def files_rows(path: pathlib.Path) -> list[dict]:
  """The rows of a CSV file as dicts of text."""
  header, *lines = path.read_text('utf-8').splitlines()
  names = header.split(',')
  return [dict(zip(names, x.split(','), strict=True)) for x in lines]


def shared_patients(workdir_rows, table_source: dict) -> int:
  """How many patients of the validation side are on the training side too."""
  inside = {table_source[int(row['image_id'])] for row in workdir_rows}
  ids = {int(row['image_id']) for row in workdir_rows}
  outside = {x for i, x in table_source.items() if i not in ids}
  return len(inside & outside)


def run(options) -> dict:
  """Makes the pictures, trains both ways, and judges."""
  out = pathlib.Path(options.out)
  found = layout.find(options.data).splits['train']
  chance = np.random.default_rng((options.seed, 0))
  rows = choose(found.table, options.images, chance)
  if len(rows) < 16:
    raise errors.DataError(
      f'{options.data}: {len(rows)} patients of known density: at least 16'
    )
  folders = {
    split: out / split.replace(' ', '_') / 'pictures' for split in _SPLITS
  }
  if any(folder.exists() for folder in folders.values()):
    raise errors.ConfigError(f'--out {out}: is there already: choose another')
  write_copies(found, rows, folders, options)
  spec = preprocess.Spec(size=(options.size, options.size))
  names = np.random.default_rng((options.seed, 2)).permutation(
    len(rows) * options.copies
  )
  origin = {
    str(name): at // options.copies for at, name in enumerate(names.tolist())
  }
  answer = {'options': vars(options), 'splits': {}}
  for split, folder in folders.items():
    start = time.perf_counter()
    data_dir, workdir = folder.parent / 'data', folder.parent / 'run'
    convert.prepare(folder, data_dir, spec=spec)
    train.train_and_evaluate(make_config(data_dir, options), workdir)
    # The number of an image is its place among the files of all classes.
    listed = layout.find(folder).splits['train']
    source = {}
    for number, path in zip(
      listed.table['image_id'].tolist(), listed.files, strict=True
    ):
      stem = pathlib.PurePath(path).stem
      source[number] = (
        int(stem.split(' (')[0]) if ' (' in stem else origin[stem]
      )
    folder_of_eval = workdir / 'eval' / 'validation'
    answer['splits'][split] = {
      'what': _SPLITS[split],
      'patients on both sides': shared_patients(
        files_rows(folder_of_eval / 'predictions.csv'), source
      ),
      **judged(folder_of_eval, source),
      'seconds': round(time.perf_counter() - start),
    }
  files.write_json(out / 'leaky_split.json', answer)
  return answer


def text(answer: dict) -> str:
  """The figures as a Markdown table."""
  splits = answer['splits']
  lines = [
    f'| validation side | {" | ".join(splits)} |',
    f'| --- |{" --- |" * len(splits)}',
  ]
  for name in next(iter(splits.values())):
    cells = []
    for found in splits.values():
      value = found[name]
      if isinstance(value, dict):
        shown = 'not defined' if value['value'] is None else (
          f'{value["value"]:.3f}'
        )  # fmt: skip
        if value['low'] is not None:
          shown += f' ({value["low"]:.3f} to {value["high"]:.3f})'
        value = shown
      elif isinstance(value, float):
        value = f'{value:.3f}'
      cells.append(str(value))
    lines.append(f'| {name} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', required=True)
  parser.add_argument('--data', default=os.path.join(_DATA, 'rsna640'))
  parser.add_argument('--images', type=int, default=106)
  parser.add_argument('--copies', type=int, default=24)
  parser.add_argument('--steps', type=int, default=600)
  parser.add_argument('--size', type=int, default=64)
  parser.add_argument('--width', type=float, default=0.25)
  parser.add_argument('--learning-rate', type=float, default=5e-4)
  parser.add_argument('--batch-size', type=int, default=32)
  parser.add_argument('--seed', type=int, default=0)
  print(text(run(parser.parse_args())))
  return 0


if __name__ == '__main__':
  shell.set_up_logging()
  sys.exit(shell.run(main))
