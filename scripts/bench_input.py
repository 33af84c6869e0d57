"""Times the readers of batches, and how long a real run waits for them.

rsna-jax phantom P --patients 12
rsna-jax prepare P --data-dir D --size 1024x512
python scripts/bench_input.py --data-dir D [--size 1024x512] [--model cnn]

For each reader: images per second of CPU time, with the copy to the device, so
that a machine's speed is that times its cores. Then a run of a few steps of the
training loop itself, which logs the share of its time that it waited.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import jax

from rsna_jax import config, mixing, parallel, train, writers
from rsna_jax.data import dataset, metadata, reader


def make_config(options):
  c = config.default()
  c.data.dir = options.data_dir
  c.data.size = tuple(map(int, options.size.split('x')))
  c.data.threads = options.threads
  c.data.positives_per_batch = 0
  c.model.name, c.model.width = options.model, options.width
  c.train.batch_size, c.train.steps = options.batch, options.steps
  c.train.eval_every = c.train.checkpoint_every = options.steps
  c.train.log_every = 2
  c.eval.bootstrap = 0
  return c


def read(c, which: str, count: int) -> tuple[float, float]:
  """Images per CPU second and per second of wall clock, of `count` batches."""
  data = dataset.open_dataset(c)
  training = mixing.gather(c, data)
  mesh = parallel.make_mesh(jax.devices()[:1])
  encoder = metadata.Encoder.fit(data.table, ())
  batches = reader.batches(
    which,
    training.data,
    training.rows,
    training.plan,
    encoder,
    target=c.data.target,
    threads=c.data.threads,
    prefetch=c.data.prefetch,
  )
  try:
    # What a first batch costs, opening files, is no matter of speed. As many
    # batches lie ahead at the end as at the start.
    for _ in itertools.islice(batches, c.data.prefetch + 2):
      pass
    cpu, wall = time.process_time(), time.perf_counter()
    for batch in itertools.islice(batches, count):
      placed = parallel.place_batch(batch, 'jit', mesh)
      jax.block_until_ready(placed)
    images = count * c.train.batch_size
    return (
      images / (time.process_time() - cpu),
      images / (time.perf_counter() - wall),
    )
  finally:
    batches.close()


def waiting(c) -> list[float]:
  """Shares of the time of a run that it waited, from its own log."""
  seen, scalars = [], writers.Writer.scalars

  def note(self, step, values, **more):
    if 'time/waiting' in values:
      seen.append(values['time/waiting'])
    scalars(self, step, values, **more)

  writers.Writer.scalars = note
  try:
    with tempfile.TemporaryDirectory() as folder:
      train.train_and_evaluate(c, os.path.join(folder, 'run'))
  finally:
    writers.Writer.scalars = scalars
  return seen


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--data-dir', required=True)
  parser.add_argument('--size', default='1024x512')
  parser.add_argument('--readers', default='numpy,tf')
  parser.add_argument('--batch', type=int, default=8)
  parser.add_argument('--threads', type=int, default=2)
  parser.add_argument('--batches', type=int, default=30)
  parser.add_argument('--steps', type=int, default=10, help='0: no run')
  parser.add_argument('--model', default='cnn')
  parser.add_argument('--width', type=float, default=1.0)
  options = parser.parse_args()
  c = make_config(options)
  print('| reader | images/s of a core | images/s, wall | waiting |')
  print('| --- | ---: | ---: | ---: |')
  for which in options.readers.split(','):
    c.data.reader = which
    core, wall = read(c, which, options.batches)
    share = ''
    if options.steps:
      # The first lap compiles, and so does not wait.
      laps = waiting(c)[1:]
      share = f'{statistics.mean(laps):.2%}, at most {max(laps):.2%}'
    print(f'| {which} | {core:.0f} | {wall:.0f} | {share} |', flush=True)


if __name__ == '__main__':
  main()
