"""CPU time of each augmentation, and its share of a training step.

python scripts/bench_augment.py [--rounds 25] [--steps 5]

Images are float32, 512x256, four to a batch, as in the step of Xception that
they are held against. A round runs every program once, after one that does
nothing but copy the batch, whose time is taken off. The process counts its CPU
time over all threads, so that other work on the machine does not come in.
Prints rows of the table in docs/benchmarks.md.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import config, losses, models, optim, steps

SIZE, BATCH = (512, 256), 4
# One after the other, each with all others at 0.
ALONE = {
  'flip_vertical': {'flip_vertical': 0.5},
  'rotation, scale, shift': {'rotation_deg': 10.0, 'scale': 0.1, 'shift': 0.05},
  'the same, and shear': {
    'rotation_deg': 10.0,
    'scale': 0.1,
    'shift': 0.05,
    'shear_deg': 5.0,
  },
  'box_jitter': {'box_jitter': 0.05},
  'crop': {'crop': 0.05},
  'elastic': {'elastic': 0.2, 'elastic_cells': 4},
  'grid': {'grid': 0.2, 'grid_cells': 5},
  'brightness, contrast': {'brightness': 0.1, 'contrast': 0.1},
  'gamma': {'gamma': 0.25},
  'tone_curve': {'tone_curve': 0.3},
  'downscale': {'downscale': 1.0},
  'noise': {'noise': 0.02},
  'cutout': {'cutout': 3, 'cutout_size': 0.15},
  'polarity': {'polarity': 0.1},
  'mixup': {'mixup': 0.5, 'mixup_alpha': 0.4},
  'cutmix': {'cutmix': 0.5, 'cutmix_alpha': 1.0},
}
DEFAULTS, ALL, UNMIXED = 'the defaults', 'all', 'all but mixup and cutmix'


def options(fields: Mapping):
  """`config.augment` with nothing on but `fields`."""
  c = config.default().augment
  for name in c:
    c[name] = type(c[name])(fields.get(name, 0))
  return c


def programs() -> dict[str, Callable]:
  """Name -> (batch, key) to what the network is given, compiled."""
  together = {k: v for fields in ALONE.values() for k, v in fields.items()}
  # Each example has one of the two at most.
  together |= {'mixup': 0.3, 'cutmix': 0.3}
  chosen = {name: options(fields) for name, fields in ALONE.items()}
  chosen[DEFAULTS] = config.default().augment
  chosen[UNMIXED] = options({**together, 'mixup': 0.0, 'cutmix': 0.0})
  chosen[ALL] = options(together)
  return {
    name: jax.jit(lambda batch, key, o=o: steps.seen(batch, key, o)[:2])
    for name, o in chosen.items()
  }


def cpu_seconds(run: Callable, *args) -> float:
  start = time.process_time()
  jax.block_until_ready(run(*args))
  return time.process_time() - start


def costs(rounds: int) -> dict[str, list[float]]:
  """Name -> CPU seconds of a batch in each round, less those of a copy."""
  batch = make_batch()
  copy = jax.jit(lambda batch, key: (batch['image'] + 0, batch['meta'] + 0))
  compiled = programs()
  found = {name: [] for name in compiled}
  for run in (copy, *compiled.values()):
    jax.block_until_ready(run(batch, jax.random.key(0)))
  for i in range(rounds):
    key = jax.random.key(i)
    for name, run in compiled.items():
      nothing = cpu_seconds(copy, batch, key)
      found[name].append(cpu_seconds(run, batch, key) - nothing)
  return found


def step_seconds(count: int) -> list[float]:
  """CPU seconds of training steps of Xception, without augmentation."""
  c = config.default()
  c.model.name, c.data.size, c.model.pool = 'xception', SIZE, 'max'
  model, tx = models.create(c), optim.create(c)
  state = steps.create_state(model, tx, c, jax.random.key(0), meta_width=0)
  step = jax.jit(
    functools.partial(
      steps.train_step, model=model, tx=tx, loss=losses.create(c)
    ),
    donate_argnums=0,
  )
  batch, found = make_batch(), []
  for i in range(count + 1):
    start = time.process_time()
    state, _ = jax.block_until_ready(step(state, batch, jax.random.key(1)))
    if i:  # the first one compiles
      found.append(time.process_time() - start)
  return found


def make_batch() -> dict[str, jax.Array]:
  """Half black, as a breast's picture is."""
  chance = np.random.default_rng(0)
  image = chance.random((BATCH, *SIZE, 1), np.float32)
  image[:, :, SIZE[1] // 2 :] = 0
  return {
    'image': jnp.asarray(image),
    'meta': jnp.zeros((BATCH, 0)),
    'label_cancer': jnp.arange(BATCH) % 2,
    'weight': jnp.ones(BATCH),
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--rounds', type=int, default=25)
  parser.add_argument('--steps', type=int, default=5, help='0: not timed')
  given = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')
  found = costs(given.rounds)
  whole = step_seconds(given.steps) if given.steps else []
  print('| option | ms an image | middle half of the rounds | of a step |')
  print('| --- | --- | --- | --- |')
  for name, seconds in found.items():
    each = [1e3 * x / BATCH for x in seconds]
    low, middle, high = statistics.quantiles(each, n=4)
    share = '-'
    if whole:
      share = f'{statistics.median(seconds) / statistics.median(whole):.2%}'
    print(f'| {name} | {middle:.2f} | {low:.2f} to {high:.2f} | {share} |')
  if whole:
    print(
      f'\nA step of {BATCH}: {statistics.median(whole):.2f} CPU s '
      f'({min(whole):.2f} to {max(whole):.2f}, {len(whole)} steps).'
    )


if __name__ == '__main__':
  main()
