"""What checkpoints and logging cost a run, beside its steps.

Usage: python scripts/bench_overhead.py [--config configs/xception.py]
           [--size 512x256] [--batch 2] [--steps 3] [--folder DIR]
Times are CPU seconds of the process, all threads together, since other work on
the machine leaves them alone; wall seconds stand beside them. A few steps are
taken and a few checkpoints saved; what a run of 100 steps would pay is the sum.
"""

import argparse
import functools
import pathlib
import sys
import tempfile
import time

import jax
import numpy as np

from rsna_jax import (
  checkpoint,
  evaluate,
  losses,
  main,
  optim,
  parallel,
  shell,
  steps,
  writers,
)

_META = 10  # columns of metadata
_STEPS = 100  # of the run that is reckoned with
_LOGS = 1000


def timed(work, times: int) -> tuple[list[float], list[float]]:
  """CPU and wall seconds of each time."""
  cpu, wall = [], []
  for i in range(times):
    start = time.process_time(), time.perf_counter()
    work(i)
    cpu.append(time.process_time() - start[0])
    wall.append(time.perf_counter() - start[1])
  return cpu, wall


def run(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--config', default='configs/xception.py')
  parser.add_argument('--size', default='512x256')
  parser.add_argument('--batch', type=int, default=2)
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--folder')
  options, fields = parser.parse_known_args(argv)
  values = [f'--config={options.config}', '--workdir=none', *fields]
  c = main.parse(['bench', *values]).config
  c.data.size = tuple(map(int, options.size.split('x')))
  mesh = parallel.make_mesh()
  model, tx = evaluate.create_model(c), optim.create(c)
  chance = np.random.default_rng(0)
  shapes = jax.eval_shape(
    lambda: steps.create_state(
      model, tx, c, jax.random.key(0), meta_width=_META
    )
  )
  state = parallel.place_state(
    jax.tree.map(
      lambda x: (0.01 * chance.random(x.shape)).astype(x.dtype), shapes
    ),
    mesh,
  )
  count = options.batch
  batch = parallel.place_batch(
    {
      'image': chance.integers(0, 255, (count, *c.data.size, 1), np.uint8),
      'meta': np.zeros((count, _META), np.float32),
      f'label_{c.data.target}': np.arange(count, dtype=np.int32) % 2,
      'weight': np.ones(count, np.float32),
    },
    c.parallel.mode,
    mesh,
  )
  step = parallel.wrap(
    functools.partial(
      steps.train_step,
      model=model,
      tx=tx,
      loss=losses.create(c),
      axis=parallel.axis_name(c.parallel.mode),
      augment=c.augment,
      ema=c.optim.ema,
    ),
    c.parallel.mode,
    mesh,
  )
  held = {'state': state}

  def take(i):
    held['state'], held['metrics'] = step(
      held['state'], batch, jax.random.key(0)
    )
    jax.block_until_ready(held['metrics'])

  compiling, _ = timed(take, 1)
  print(f'compiled in {compiling[0]:.0f} CPU s', file=sys.stderr, flush=True)
  step_cpu, step_wall = timed(take, options.steps)
  print(f'steps {step_cpu}', file=sys.stderr, flush=True)
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
  with tempfile.TemporaryDirectory(dir=options.folder) as folder:
    folder = pathlib.Path(folder)
    with checkpoint.Checkpoints(folder) as saved:
      waits = []

      def save(i):
        start = time.perf_counter()
        saved.save(
          held['state'], i + 1, 0.5, {'losses': [0.5] * 100}, wait=False
        )
        waits.append(time.perf_counter() - start)
        saved.wait()

      save_cpu, save_wall = timed(save, 3)
    with writers.Writer(folder) as writer:
      writer.resume()

      def log(i):
        values = {k: float(v) for k, v in held['metrics'].items()}
        writer.scalars(i, {f'train/{k}': v for k, v in values.items()})
        writer.scalars(i, {'time/images_per_s': 1.0}, reproducible=False)

      log_cpu, log_wall = timed(log, _LOGS)
  logs = _STEPS // c.train.log_every
  total = _STEPS * np.median(step_cpu)

  def row(name, cpu, wall, times):
    share = times * np.median(cpu) / total
    print(
      f'| {name} | {np.median(cpu):.4g} ({min(cpu):.3g} to {max(cpu):.3g}) '
      f'| {np.median(wall):.4g} | {times} | {100 * share:.3f} % |'
    )

  print(
    f'{c.name}, {options.size}, batch {count}, {size / 1e6:.0f} MB of state, '
    f'jax {jax.__version__}, {jax.devices()[0].device_kind}\n\n'
    f'| what | CPU s (range) | wall s | in {_STEPS} steps | share |\n'
    '| --- | --- | ---: | ---: | ---: |'
  )
  row('a step', step_cpu, step_wall, _STEPS)
  row('a checkpoint', save_cpu, save_wall, 1)
  row('a line of the history', log_cpu, log_wall, logs)
  print(f'\nTraining waits {np.median(waits):.2f} s wall for a checkpoint.')


if __name__ == '__main__':
  shell.set_up_logging()
  sys.exit(shell.run(lambda: run(sys.argv[1:])))
