"""Kills a training again and again, and compares what comes out in the end.

Usage: python scripts/kill_training.py DATA OUT [--kills 25] [--flips 150]
DATA is what `rsna-jax prepare` wrote (of few small images: the run is tiny),
OUT a new folder. One run is left alone. The same run elsewhere gets SIGKILL in
three kinds of moments, and the same command each time after it: at any time
from its start on, at any time while it trains, and inside the writing of a
checkpoint, as soon as the unfinished folder appears. Weights, optimiser,
averages, history and predictions of the two then have to be equal, bit for bit.
Last, bits of a finished checkpoint are flipped, and its files are shortened,
emptied and removed: each has to be found, with the step before in its place.
Prints one JSON object; the exit code is 1 where something is not so.
"""

import argparse
import hashlib
import json
import logging
import os
import pathlib
import random
import shutil
import signal
import sys
import time

import jax
import numpy as np

from rsna_jax import checkpoint, evaluate, shell, train, writers
from rsna_jax import main as main_lib
from rsna_jax import run as run_lib

_ROOT = pathlib.Path(__file__).parent.parent
_SAVE_EVERY = 20
_FIELDS = {
  'name': 'killed',
  'data.reader': 'numpy',
  'data.positives_per_batch': 2,
  'model.width': 0.25,
  'model.dropout': 0.2,
  'train.batch_size': 8,
  'train.log_every': 1,
  'train.eval_every': 200,
  'train.checkpoint_every': _SAVE_EVERY,
  'optim.ema': 0.99,
  'eval.bootstrap': 50,
  'eval.worst': 0,
}
_MOMENTS = ('start', 'training', 'writing', 'writing')


def command(data: str, workdir: pathlib.Path, **fields) -> list[str]:
  """The command of the tiny run; `fields` with __ in the place of a dot."""
  fields = {name.replace('__', '.'): x for name, x in fields.items()}
  size = next(pathlib.Path(data).glob('*/*/1.0.0')).parent.name
  height, width = size.split('_')[0].split('x')
  values = {
    'data.dir': data,
    'data.size': f'({height}, {width})',
    **_FIELDS,
    **fields,
  }
  return [
    *(sys.executable, '-m', 'rsna_jax.main'),
    *('--config', str(_ROOT / 'configs' / 'cnn.py')),
    *('--workdir', str(workdir)),
    *(f'--config.{name}={value}' for name, value in values.items()),
  ]


def cache(out: pathlib.Path) -> dict[str, str]:
  """Environment in which programs are compiled once for all lives."""
  return {
    'JAX_COMPILATION_CACHE_DIR': str(out / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }


class Life:
  """A process of the run: forked, so that it need not import everything."""

  def __init__(self, command: list[str], out: pathlib.Path, log):
    log.flush()
    self._code: int | None = None
    self.pid = os.fork()
    if not self.pid:
      os.dup2(log.fileno(), 1)
      os.dup2(log.fileno(), 2)
      os.environ.update(cache(out))
      jax.config.update('jax_compilation_cache_dir', str(out / 'compiled'))
      code = 1
      try:
        code = main_lib.main(command[2:])
        sys.stdout.flush()
      finally:
        os._exit(code)

  def poll(self) -> int | None:
    """The exit code, or None while it runs."""
    if self._code is None:
      pid, status = os.waitpid(self.pid, os.WNOHANG)
      self._code = os.waitstatus_to_exitcode(status) if pid else None
    return self._code

  def wait(self) -> int:
    while self.poll() is None:
      time.sleep(0.05)
    return self._code

  def kill(self) -> None:
    os.kill(self.pid, signal.SIGKILL)


def last_step(workdir: pathlib.Path) -> int:
  """The last step in the history, whose lines come with every step."""
  return max((x['step'] for x in writers.read(workdir)), default=0)


def unfinished(workdir: pathlib.Path) -> bool:
  """Whether a checkpoint is being written, or was when the writer died."""
  folder = workdir / 'checkpoints'
  try:
    with os.scandir(folder) as found:
      names = [one.name for one in found if one.is_dir()]
  except FileNotFoundError:
    return False
  return any(
    'tmp' in name or not (folder / name / 'manifest.json').exists()
    for name in names
  )


def wait_for(moment: str, workdir, life: Life, chance, life_s: float) -> None:
  """Returns when the moment of a kind has come, or the process has ended."""
  if moment == 'start':
    time.sleep(chance.uniform(0.0, life_s))
    return
  step = max(checkpoint.finished_steps(workdir), default=0)
  step += chance.randrange(1, 3 * _SAVE_EVERY)
  while life.poll() is None and last_step(workdir) < step:
    time.sleep(0.005)
  if moment == 'writing':
    while life.poll() is None and not unfinished(workdir):
      time.sleep(0.0002)
    # Anywhere within the write, which takes about this long.
    time.sleep(chance.uniform(0.0, 0.03))


def kill_often(options, out: pathlib.Path, log) -> dict:
  """The kills, and whether the result is that of a run without them."""
  chance = random.Random(options.seed)
  alone, killed = out / 'alone', out / 'killed'
  began = time.monotonic()
  life = Life(command(options.data, alone, **_steps(options)), out, log)
  if life.wait():
    raise SystemExit(f'the run that was left alone failed: see {log.name}')
  found = {'seconds of a run left alone': round(time.monotonic() - began, 1)}
  moments = dict.fromkeys(_MOMENTS, 0)
  lost, inside = [], 0
  for turn in range(options.kills):
    moment = _MOMENTS[turn % len(_MOMENTS)]
    life = Life(command(options.data, killed, **_steps(options)), out, log)
    wait_for(moment, killed, life, chance, options.life_s)
    if life.poll() is not None:
      raise SystemExit(f'the run ended after {turn} kills: see {log.name}')
    life.kill()
    life.wait()
    moments[moment] += 1
    inside += unfinished(killed)
    saved = checkpoint.finished_steps(killed)
    print(f'kill {turn + 1}, {moment}', file=sys.stderr, flush=True)
    lost.append(last_step(killed) - (saved[-1] if saved else 0))
  life = Life(command(options.data, killed, **_steps(options)), out, log)
  survived = life.wait() == 0
  same = {
    'state': state_hash(alone) == state_hash(killed),
    'history': _same(alone, killed, writers.NAME),
    'predictions': _same(alone, killed, 'eval/validation/predictions.csv'),
  }
  return found | {
    'kills': options.kills,
    'by moment': moments,
    'left an unfinished checkpoint': inside,
    'finished afterwards': survived,
    'steps lost, most': max(lost),
    'steps between checkpoints': _SAVE_EVERY,
    'equal to the run left alone': same,
  }


def state_hash(workdir: pathlib.Path) -> str:
  """SHA-256 of all arrays of the last checkpoint."""
  state, step = evaluate.restore(run_lib.load(workdir), 'latest')
  found = hashlib.sha256(str(step).encode())
  for leaf in jax.tree.leaves(jax.device_get(state)):
    found.update(np.ascontiguousarray(leaf).tobytes())
  return found.hexdigest()


class Warnings(logging.Handler):
  """Keeps what the package warns of."""

  def __init__(self):
    super().__init__()
    self.texts: list[str] = []

  def emit(self, record: logging.LogRecord) -> None:
    self.texts.append(record.getMessage())


def damage_files(options, out: pathlib.Path) -> dict:
  """Damages of every kind to the last checkpoint, one after another."""
  chance = random.Random(options.seed)
  workdir = out / 'damaged'
  shutil.copytree(out / 'alone', workdir)
  run = run_lib.load(workdir)
  before, newest = checkpoint.finished_steps(workdir)[-2:]
  folder = workdir / 'checkpoints' / str(newest)
  paths = sorted(path for path in folder.rglob('*') if path.is_file())
  state, _ = evaluate.restore(run, 'latest')
  saved = checkpoint.Checkpoints(workdir, read_only=True)
  heard = Warnings()
  logging.getLogger('rsna_jax').addHandler(heard)
  logging.getLogger('rsna_jax').propagate = False

  def is_found(path: pathlib.Path, data: bytes | None) -> bool:
    whole = path.read_bytes()
    heard.texts.clear()
    if data is None:
      path.unlink()
    else:
      path.write_bytes(data)
    try:
      taken = saved.restore(state).step
      said = ' '.join(heard.texts)
      return taken == before and f'checkpoints/{newest} is damaged' in said
    finally:
      path.write_bytes(whole)

  kinds: dict[str, list[bool]] = {}
  filled = [path for path in paths if path.stat().st_size]
  for _ in range(options.flips):
    path = chance.choice(filled)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    kinds.setdefault('bit flipped', []).append(is_found(path, data))
  for path in filled:
    whole = path.read_bytes()
    short = whole[: chance.randrange(len(whole))]
    kinds.setdefault('shortened', []).append(is_found(path, short))
    if any(whole):
      zeros = bytes(len(whole))
      kinds.setdefault('zeroed', []).append(is_found(path, zeros))
  for path in paths:
    if path.name != 'manifest.json':  # without one it was never finished
      kinds.setdefault('removed', []).append(is_found(path, None))
  return {
    'files of a checkpoint': len(paths),
    'found, and the step before taken': {
      kind: f'{sum(found)} of {len(found)}' for kind, found in kinds.items()
    },
    'missed': sum(not x for found in kinds.values() for x in found),
  }


def _steps(options) -> dict:
  return {'train__steps': options.steps}


def _same(one: pathlib.Path, other: pathlib.Path, name: str) -> bool:
  return (one / name).read_bytes() == (other / name).read_bytes()


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('data')
  parser.add_argument('out')
  parser.add_argument('--kills', type=int, default=25)
  parser.add_argument('--flips', type=int, default=150)
  parser.add_argument('--steps', type=int, default=3000)
  parser.add_argument('--life-s', type=float, default=10.0)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  options.data = os.path.abspath(options.data)
  out = pathlib.Path(options.out).absolute()
  out.mkdir(parents=True)
  with (out / 'log').open('w') as log:
    killed = kill_often(options, out, log)
  print(json.dumps(killed), file=sys.stderr, flush=True)
  damaged = damage_files(options, out)
  print(json.dumps({'killed': killed, 'damaged': damaged}, indent=2))
  right = killed['finished afterwards'] and not damaged['missed']
  return int(
    not (right and all(killed['equal to the run left alone'].values()))
  )


assert train  # imported before the first life begins

if __name__ == '__main__':
  shell.set_up_logging()
  sys.exit(shell.run(main))
