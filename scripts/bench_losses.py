"""What each loss gives on the metadata of the full RSNA table, folds pooled.

python scripts/bench_losses.py RSNA_CSV [VARIANT ...]

A linear model sees no pixels, so the figures are low; but the table has all
patients at their true prevalence, and a loss that is wrong shows here within
minutes. Writes nothing; prints one table. A loss of pairs alone leaves the
level of the logits free, which differs between folds then: the mean of the
folds' own ROC AUC, of images, does not mind.
"""

import functools
import sys
import time

import jax
import numpy as np

from rsna_jax import (
  config,
  division,
  evaluate,
  losses,
  metrics,
  mixing,
  models,
  optim,
  schema,
  steps,
)
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import metadata, stream_np
from rsna_jax.options import loss as loss_options
from rsna_jax.scoring import score

BASE = 'configs/meta.py'
AUXILIARY = ('density', 'birads', 'biopsy', 'difficult_negative_case')
VARIANTS = {
  'cross_entropy': {},
  'positive_weight 10': {'loss.positive_weight': 10.0},
  'smoothing 0.2 of positives': {
    'loss.label_smoothing': 0.2,
    'loss.smoothing': 'positives',
  },
  'focal': {'loss.name': 'focal'},
  'pf1, half': {'loss.surrogate': 'pf1'},
  'pf1 alone': {'loss.surrogate': 'pf1', 'loss.surrogate_weight': 1.0},
  'auc, half': {'loss.surrogate': 'auc'},
  'auc alone': {'loss.surrogate': 'auc', 'loss.surrogate_weight': 1.0},
  'average_precision, half': {'loss.surrogate': 'average_precision'},
  'average_precision alone': {
    'loss.surrogate': 'average_precision',
    'loss.surrogate_weight': 1.0,
  },
  'embedding 16': {'model.metadata_embedding': 16},
  'embedding 16, auxiliary targets': {
    'model.metadata_embedding': 16,
    **{f'loss.auxiliary.{name}': 0.3 for name in AUXILIARY},
  },
}


def train(c, data, step, model) -> np.ndarray:
  """Logits of the validation rows of one fold, trained on the others."""
  training = mixing.gather(c, data)
  encoder = metadata.Encoder.fit(
    data.table.take(training.rows), c.model.metadata
  )
  state = steps.create_state(
    model,
    optim.create(c),
    c,
    jax.random.key(c.seed),
    meta_width=encoder.width,
  )
  batches = stream_np.batches(
    training.data,
    training.rows,
    training.plan,
    encoder,
    target=c.data.target,
    auxiliary=loss_options.targets(c),
    stop_step=c.train.steps,
  )
  rng = jax.random.key(c.seed)
  for batch in batches:
    batch.pop('id')
    state, _ = step(state, batch, rng)
  rows = division.select_rows(c, data, 'validation', data.fingerprint)
  return rows, evaluate.Predictor(c, encoder)(state, data, rows)


def run(name: str, fields: dict, folder: str) -> tuple[dict, float]:
  """Figures of breasts, four folds pooled, and seconds of CPU time."""
  c = config.load(BASE)
  c.data.dir, c.parallel.mode = folder, 'jit'
  c.update_from_flattened_dict(fields)
  c.name = name
  config.validate(c)
  data = dataset_lib.open_dataset(c)
  before = time.process_time()
  model = models.create(c)
  step = jax.jit(
    functools.partial(
      steps.train_step,
      model=model,
      tx=optim.create(c),
      loss=losses.create(c),
    )
  )
  rows, probability = [], []
  for fold in range(c.data.folds):
    c.data.fold = fold
    places, logits = train(c, data, step, model)
    rows.append(places)
    probability.append(schema.cancer_probability(logits, c.data.target))
  seconds = time.process_time() - before
  columns = data.table.take(np.concatenate(rows)).columns
  found = score.score(
    {
      **columns,
      'label': columns['cancer'],
      'probability': np.concatenate(probability),
    },
    bootstrap=500,
  )
  aucs = [
    metrics.roc_auc(data.table['cancer'][places], said)
    for places, said in zip(rows, probability, strict=True)
  ]
  return found['breast'] | {'of_folds': float(np.mean(aucs))}, seconds


def main() -> None:
  folder, *wanted = sys.argv[1:]
  names = ('roc_auc', 'average_precision', 'pf1', 'pf1_best_threshold')
  titles = 'loss', 'ROC AUC', 'average precision', 'pF1', 'best F1'
  print(f'| {" | ".join(titles)} | AUC of folds | CPU, s |')
  print('| --- | --- | --- | --- | --- | ---: | ---: |')
  for name in wanted or VARIANTS:
    fields = VARIANTS[name]
    found, seconds = run(name, fields, folder)
    cells = [
      '{value:.4f} ({low:.4f} to {high:.4f})'.format_map(found[x])
      for x in names
    ]
    cells += [f'{found["of_folds"]:.4f}', f'{seconds:.0f}']
    print(f'| {name} | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
  main()
