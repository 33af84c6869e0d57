"""Prints where the time of a step of Xception on this CPU goes.

python scripts/profile_step.py [--size 299x299x3] [--batch 4] [--task train]

Operations as XLA runs them, by kind and by name, in ms.
"""

import argparse
import collections
import pathlib
import re
import tempfile

import bench_step_worker
import jax

_KINDS = (
  ('dot', 'matrix products'),
  ('ynn', 'matrix products'),  # XLA's library for them on CPUs
  ('convolution', 'convolutions'),
  ('reduce', 'sums: of taps, normalisations, biases'),
  ('fusion', 'depthwise, normalisation, ReLU, pools: elementwise'),
)


def kind(name: str) -> str:
  """Of an operation, by its name in the compiled program."""
  for part, title in _KINDS:
    if part in name:
      return title
  return 'the rest'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--size', default='299x299x3')
  parser.add_argument('--batch', type=int, default=4)
  parser.add_argument('--task', choices=('forward', 'train'), default='train')
  options = parser.parse_args()
  shape = tuple(map(int, options.size.split('x')))
  step = bench_step_worker.jax_step(
    options.task, shape, options.batch, 'xception', forms='fast'
  )
  for _ in range(2):
    step()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      step()
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    profile = jax.profiler.ProfileData.from_file(str(path))
  kinds, names = collections.Counter(), collections.Counter()
  for plane in profile.planes:
    for line in plane.lines:
      for event in line.events:
        stats = dict(event.stats)
        if 'hlo_op' not in stats:
          continue
        name = str(stats['hlo_op'])
        kinds[kind(name)] += event.duration_ns / 1e6
        names[re.sub(r'[.\d]+$', '', name)] += event.duration_ns / 1e6
  total = sum(kinds.values())
  for title, ms in kinds.most_common():
    print(f'{ms:9.1f} ms  {100 * ms / total:5.1f} %  {title}')
  print(f'{total:9.1f} ms in all; by name:')
  for name, ms in names.most_common(20):
    print(f'{ms:9.1f} ms  {name}')


if __name__ == '__main__':
  main()
