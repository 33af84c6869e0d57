"""Sends SIGTERM and Ctrl-C to a training in each of its phases.

Usage: python scripts/stop_training.py DATA OUT [--times 2]
DATA and the tiny run are those of kill_training.py. Each time the run is
started (or goes on), gets the signal when it is in the phase, and has to end
with code 143 or 130, a line that says how to go on, and a whole checkpoint of
the step that the line names. The wait for data is one for a read that never
returns, put in the place of the real one. Prints a row of a table for each
phase; the exit code is 1 where something is not so.
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import kill_training as kills

from rsna_jax import checkpoint, shell, writers

# A program like `python -m rsna_jax.main`, whose reads hang on a wish.
_HANGING = """
import os, sys, time
from rsna_jax import main, shell
from rsna_jax.data import records
honest = records.Shards.read
def read(self, indices):
  while os.path.exists({wish!r}):
    time.sleep(0.1)
  return honest(self, indices)
records.Shards.read = read
shell.leave(main.main(sys.argv))
"""
_EVAL_EVERY = 40
_LIMIT_S = 600  # of a start, on a machine that is busy


class Run:
  """One life of the run."""

  def __init__(self, options, out: pathlib.Path, name: str):
    self.workdir = out / 'run'
    self.log = out / f'{name} {len(list(out.iterdir()))}.log'
    self._wish = out / 'hang'
    self._wish.unlink(missing_ok=True)
    fields = {'train__steps': 1_000_000, 'train__eval_every': _EVAL_EVERY}
    fields |= {'train__stall_s': 2.0, 'optim__schedule': 'constant'}
    command = kills.command(options.data, self.workdir, **fields)
    script = _HANGING.format(wish=str(self._wish))
    command[1:3] = ['-c', script]
    self.before = kills.last_step(self.workdir)
    self._file = self.log.open('w')
    environment = dict(os.environ)
    if name != 'first compile':
      environment |= kills.cache(out)
    self.process = subprocess.Popen(
      command, env=environment, stdout=self._file, stderr=self._file
    )

  def text(self) -> str:
    return self.log.read_text()

  def steps(self) -> bool:
    return kills.last_step(self.workdir) > self.before

  def wait_for(self, phase: str) -> None:
    """Returns when the run is in a phase."""
    if phase == 'first compile':
      self._until(lambda: 'to train on' in self.text() or 'cont' in self.text())
      time.sleep(1.0)
      return
    self._until(self.steps)
    if phase == 'evaluation':
      self._until(lambda: self._evaluates() == 1)
    elif phase == 'wait for data':
      self._wish.touch()
      self._until(lambda: 'no data for' in self.text())
    elif phase == 'checkpoint':
      self._until(lambda: kills.unfinished(self.workdir))
    else:
      time.sleep(0.3)

  def _evaluates(self) -> int:
    """Records of the last step, where it is one that is evaluated."""
    records = writers.read(self.workdir)
    step = records[-1]['step']
    if step % _EVAL_EVERY or step <= self.before:
      return 0
    return sum(record['step'] == step for record in records)

  def _until(self, condition) -> None:
    end = time.monotonic() + _LIMIT_S
    while not condition():
      if self.process.poll() is not None or time.monotonic() > end:
        raise SystemExit(f'the run did not come so far: see {self.log}')
      time.sleep(0.001)


def stop(options, out, phase: str, number: int, twice: bool) -> dict:
  """One signal, or two, and what came of it."""
  run = Run(options, out, phase)
  run.wait_for(phase)
  began = time.monotonic()
  run.process.send_signal(number)
  if twice:
    time.sleep(0.02)
    run.process.send_signal(number)
  code = run.process.wait(_LIMIT_S)
  seconds = time.monotonic() - began
  last = ['', *run.text().strip().splitlines()][-1]
  step = re.search(r'stopped by SIG\w+ at step (\d+); saved', last)
  with checkpoint.Checkpoints(run.workdir, read_only=True) as saved:
    latest = saved.latest()
    whole = latest is None or saved.damage(latest) is None
  right = code == 128 + number and whole
  if not twice:
    right = right and step is not None and int(step[1]) == latest
  return {'seconds': seconds, 'right': right, 'code': code, 'last': last}


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('data')
  parser.add_argument('out')
  parser.add_argument('--times', type=int, default=2)
  parser.add_argument('--phases', default='', help='with commas; all')
  options = parser.parse_args()
  options.data = os.path.abspath(options.data)
  out = pathlib.Path(options.out).absolute()
  out.mkdir(parents=True)
  print('| phase | signal | as wanted | seconds, most |')
  print('| --- | --- | --- | ---: |')
  failed = False
  cases = [
    (phase, number, twice)
    for phase, twice in (
      ('first compile', False),
      ('training', False),
      ('evaluation', False),
      ('wait for data', False),
      ('checkpoint', False),
      ('training', True),
    )
    for number in (signal.SIGTERM, signal.SIGINT)
    if phase in (options.phases or phase).split(',')
  ]
  for phase, number, twice in cases:
    found = [
      stop(options, out, phase, number, twice) for _ in range(options.times)
    ]
    right = sum(one['right'] for one in found)
    seconds = max(one['seconds'] for one in found)
    name = signal.Signals(number).name + ', twice' * twice
    print(f'| {phase} | {name} | {right} of {len(found)} | {seconds:.1f} |')
    sys.stdout.flush()
    for one in found:
      if not one['right']:
        failed = True
        print(f'{phase}, {name}: code {one["code"]}: {one["last"]}')
  return int(failed)


if __name__ == '__main__':
  shell.set_up_logging()
  sys.exit(shell.run(main))
