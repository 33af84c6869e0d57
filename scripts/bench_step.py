"""Times a step of several frameworks on this CPU, and prints a table.

python scripts/bench_step.py [--tasks forward,train] [--sizes 299x299x3] ...

Each contestant runs in a process of its own, and all of one setting take turns,
a step each, so that what else the machine does hurts all alike. What counts is
the CPU time of a step, all threads together, which others on the machine
disturb least; of several rounds the least. Contestants need keras,
tensorflow-cpu, torch, timm, onnx and onnxruntime besides this project.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import time

_WORKER = pathlib.Path(__file__).with_name('bench_step_worker.py')
ALL = (
  'keras-tf',
  'keras-jax',
  'torch',
  'flax',
  'ours',
)
NETWORKS = ('xception', 'density_cnn')


@dataclasses.dataclass
class Measured:
  """What one contestant said."""

  name: str
  first: tuple[float, float]
  walls: list[float] = dataclasses.field(default_factory=list)
  cpus: list[float] = dataclasses.field(default_factory=list)
  peak: int = 0


class Contestant:
  """A process that takes a step when it is asked to."""

  def __init__(self, name: str, setting: tuple):
    self._process = subprocess.Popen(
      [sys.executable, str(_WORKER), name, *map(str, setting)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE if not _verbose else None,
      text=True,
      bufsize=1,
    )
    self.measured = Measured(name, tuple(self._answer(name)['first']))

  def _answer(self, name: str) -> dict:
    line = self._process.stdout.readline()
    if not line:
      said = self._process.stderr.read() if self._process.stderr else ''
      raise SystemExit(f'{name} ended: {said[-2000:]}')
    return json.loads(line)

  def step(self) -> None:
    self._process.stdin.write('\n')
    found = self._answer(self.measured.name)
    self.measured.walls.append(found['took'][0])
    self.measured.cpus.append(found['took'][1])
    self.measured.peak = found['peak']

  def end(self) -> None:
    self._process.stdin.close()
    self._process.wait()


_verbose = False


def measure(
  names: list[str], setting: tuple, rounds: int, alone: bool
) -> list[Measured]:
  """Rounds of one setting; `alone`: one contestant after the other."""
  found = []
  groups = [[name] for name in names] if alone else [names]
  for group in groups:
    contestants = []
    try:
      for name in group:
        contestants.append(Contestant(name, setting))
      for _ in range(rounds):
        for contestant in contestants:
          contestant.step()
    finally:
      for contestant in contestants:
        contestant.end()
    found += [contestant.measured for contestant in contestants]
  return found


def rows(setting: tuple, found: list[Measured], base: str) -> list[str]:
  task, network, height, width, channels, batch = setting
  least = {one.name: min(one.cpus) for one in found}
  lines = []
  for one in found:
    ratio = f'{least[base] / least[one.name]:.2f}' if base in least else ''
    lines.append(
      f'| {network} | {task} | {height}x{width}x{channels} | {batch} '
      f'| {one.name} | {min(one.cpus):.3f} | {statistics.median(one.cpus):.3f} '
      f'| {min(one.walls):.3f} | {statistics.median(one.walls):.3f} | {ratio} '
      f'| {one.first[1]:.1f} | {one.peak / 2**30:.2f} |'
    )
  return lines


def main() -> None:
  global _verbose
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--contestants', default=';'.join(ALL), help='by ;')
  parser.add_argument('--tasks', default='forward,train')
  parser.add_argument('--sizes', default='299x299x3,512x256x1')
  parser.add_argument('--batches', default='1,4,8')
  parser.add_argument('--network', choices=NETWORKS, default='xception')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--base', default='keras-tf', help='ratios are to it')
  parser.add_argument('--alone', action='store_true', help='for little memory')
  parser.add_argument('--verbose', action='store_true')
  options = parser.parse_args()
  _verbose = options.verbose
  print(
    '| network | task | image | batch | contestant | CPU s, least '
    '| median | wall s, least | median | speed | first step, CPU s | peak GiB |'
    '\n| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: '
    '| ---: | ---: |',
    flush=True,
  )
  started = time.time()
  for size in options.sizes.split(','):
    for task in options.tasks.split(','):
      for batch in map(int, options.batches.split(',')):
        image = tuple(map(int, size.split('x')))
        setting = (task, options.network, *image, batch)
        names = options.contestants.split(';')
        found = measure(names, setting, options.rounds, options.alone)
        for line in rows(setting, found, options.base):
          print(line, flush=True)
  print(f'\n{time.time() - started:.0f} s in all', file=sys.stderr)


if __name__ == '__main__':
  main()
