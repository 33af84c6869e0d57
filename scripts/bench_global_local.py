"""Small lesions on phantoms: global_local against the cnn of equal cost.

python scripts/bench_global_local.py WORKDIR [--patients N] [--steps S]
python scripts/bench_global_local.py --large [--stride S] [--remat blocks]

Lesions have 0.3 of their usual radius: about 6 pixels of an image of 512x256.
Both networks see the same patients for the same number of steps, and are judged
once, by their last weights, on the patients of fold 0. Cost is XLA's count of
the operations of one prediction. Prints a row a network.

--large runs training steps of one image of 2048x1024, at tiny width, and prints
seconds of CPU time of a step, and the greatest memory of the process: before
compiling, after it, and after the steps.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import resource
import time
import types

import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import config, losses, models, optim, steps, train
from rsna_jax.data import (
  convert,
  phantom,
  phantom_image,
  phantom_patient,
  preprocess,
)

SIZE = (512, 256)
SHARE = 0.3
NETWORKS = types.MappingProxyType(
  {
    'cnn': {'name': 'cnn', 'width': 0.25},
    'global_local': {
      'name': 'global_local',
      'trunk': 'cnn',
      'width': 0.25,
      'local_width': 0.5,
      'patches': 6,
      'patch_size': 64,
      'global_stride': 2,
    },
  }
)


def make_data(folder: pathlib.Path, patients: int) -> None:
  """Writes the phantoms and the data set, unless they are there."""
  if (folder / 'data').is_dir():
    return
  render = phantom_image.render

  def smaller(anatomy, **how):
    size = anatomy.lesion_size * SHARE
    return render(dataclasses.replace(anatomy, lesion_size=size), **how)

  phantom_patient.phantom_image.render = smaller
  phantom.write(
    folder / 'phantom', patients=patients, scale=0.5, prevalence=0.5, workers=1
  )
  convert.prepare(
    folder / 'phantom',
    folder / 'data',
    spec=preprocess.Spec(size=SIZE),
    workers=1,
  )


def make_config(
  fields: dict, data_dir: pathlib.Path, steps: int
) -> config.ml_collections.ConfigDict:
  c = config.default()
  c.data.dir, c.data.size = str(data_dir), SIZE
  c.data.positives_per_batch = 6
  c.model.update(fields)
  c.model.pool = 'max'
  c.train.steps = c.train.eval_every = c.train.checkpoint_every = steps
  c.train.batch_size = 16
  c.optim.learning_rate, c.optim.warmup_steps = 3e-3, 20
  c.optim.weight_decay, c.optim.ema = 0.05, 0.98
  c.loss.penalty = 0.1
  c.eval.checkpoint = 'latest'
  return c


def cost(c: config.ml_collections.ConfigDict) -> tuple[float, int]:
  """GFLOP of one prediction, and parameters."""
  model = models.create(c)
  image = jax.ShapeDtypeStruct((1, *SIZE, 1), jnp.float32)
  meta = jax.ShapeDtypeStruct((1, 0), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image, meta)
  compiled = jax.jit(model.apply).lower(variables, image, meta).compile()
  count = sum(x.size for x in jax.tree.leaves(variables['params']))
  return compiled.cost_analysis()['flops'] / 1e9, count


def large(stride: int, remat: str, batch: int = 1) -> None:
  """Prints what a training step of large images needs."""
  c = make_config({'name': 'global_local', 'trunk': 'cnn'}, pathlib.Path(), 1)
  c.data.size = (2048, 1024)
  c.model.update(
    {'width': 0.25, 'local_width': 0.5, 'global_stride': stride, 'remat': remat}
  )
  model, tx = models.create(c), optim.create(c)
  key = jax.random.key(0)
  state = steps.create_state(model, tx, c, key, meta_width=0)
  chance = np.random.default_rng(0)
  examples = {
    'image': chance.integers(0, 256, (batch, *c.data.size, 1), np.uint8),
    'meta': np.zeros((batch, 0), np.float32),
    'label_cancer': np.ones(batch, np.int32),
    'weight': np.ones(batch, np.float32),
  }
  before = _peak()
  step = functools.partial(
    steps.train_step, model=model, tx=tx, loss=losses.create(c)
  )
  lowered = jax.jit(step, donate_argnums=0).lower(state, examples, key)
  compiled = lowered.compile()
  built, seconds = _peak(), []
  for _ in range(6):
    start = time.process_time()
    state, metrics = jax.block_until_ready(compiled(state, examples, key))
    seconds.append(time.process_time() - start)
  temporary = compiled.memory_analysis().temp_size_in_bytes / 2**20
  spent = f'{min(seconds[1:]):.2f} to {max(seconds[1:]):.2f} s'
  print(
    f'| {stride} | {remat} | {spent} '
    f'| {temporary:.0f} | {before:.0f}, {built:.0f}, {_peak():.0f} '
    f'| {float(metrics["loss"]):.3f} |'
  )


def _peak() -> float:
  """Greatest resident memory of the process so far, in MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('workdir', type=pathlib.Path, nargs='?')
  parser.add_argument('--patients', type=int, default=120)
  parser.add_argument('--steps', type=int, default=300)
  parser.add_argument('--only', choices=sorted(NETWORKS))
  parser.add_argument('--large', action='store_true')
  parser.add_argument('--stride', type=int, default=1)
  parser.add_argument('--remat', default='none')
  args = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')
  if args.large:
    large(args.stride, args.remat)
    return
  if args.workdir is None:
    parser.error('WORKDIR, or --large')
  make_data(args.workdir, args.patients)
  for name in [args.only] if args.only else NETWORKS:
    c = make_config(dict(NETWORKS[name]), args.workdir / 'data', args.steps)
    flops, count = cost(c)
    wall, spent = time.perf_counter(), os.times()
    run = args.workdir / 'runs' / name
    train.train_and_evaluate(c, str(run))
    now = os.times()
    found = json.loads((run / 'eval/validation/metrics.json').read_text())
    auc = found['breast']['roc_auc']
    print(
      f'| {name} | {count:,} | {flops:.3f} | {auc["value"]:.3f} '
      f'| {auc["low"]:.3f} to {auc["high"]:.3f} '
      f'| {time.perf_counter() - wall:.0f} s, '
      f'{now.user + now.system - spent.user - spent.system:.0f} s |',
      flush=True,
    )


if __name__ == '__main__':
  main()
