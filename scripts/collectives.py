"""Counts what devices tell each other in one training step, and the least.

Usage: python scripts/collectives.py [CONFIG] [--size HxW] [--batch N]
           [--devices 1,2,4,8] [--config.FIELD=VALUE ...]
One step of a whole batch is compiled for 1, 2, 4 and 8 simulated devices under
each mode, and the collective operations are read from the compiled program:
how many there are, and the bytes of what they reduce. The least is one
all-reduce of all gradients, and for each BatchNorm one of its moments forward
and one of their gradients backward. Nothing is run or timed.
"""

import argparse
import functools
import os
import re
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')

import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import evaluate, losses, main, optim, parallel, shell, steps

_KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all')
_KINDS += ('collective-permute',)
_OPERATION = re.compile(
  rf'= (?P<shape>.*?) (?P<kind>{"|".join(_KINDS)})(?:-start)?\('
)
_ARRAY = re.compile(
  r'(?P<type>[a-z]+)(?P<bits>\d+)[a-z\d]*\[(?P<shape>[\d,]*)\]'
)
_META = 10  # columns of metadata


def collectives(text: str) -> list[tuple[str, int]]:
  """Kind and bytes of each collective operation of a compiled program."""
  found = []
  for match in _OPERATION.finditer(text):
    size = 0
    for array in _ARRAY.finditer(match['shape']):
      count = np.prod([int(n) for n in array['shape'].split(',') if n])
      size += int(count) * int(array['bits']) // 8
    found.append((match['kind'], size))
  return found


def compiled(c, mode: str, devices: int, batch: int) -> tuple[str, dict]:
  """The text of the program of a step, and the state's shapes."""
  c = c.copy_and_resolve_references()
  c.parallel.mode = mode
  mesh = parallel.make_mesh(jax.devices()[:devices])
  model, tx = evaluate.create_model(c), optim.create(c)
  state = jax.eval_shape(
    lambda: steps.create_state(
      model, tx, c, jax.random.key(0), meta_width=_META
    )
  )
  step = functools.partial(
    steps.train_step,
    model=model,
    tx=tx,
    loss=losses.create(c),
    axis=parallel.axis_name(mode),
    augment=None,
    ema=c.optim.ema,
  )
  rows = parallel.place_batch(
    {
      'image': np.zeros((batch, *c.data.size, 1), np.uint8),
      'meta': np.zeros((batch, _META), np.float32),
      f'label_{c.data.target}': np.zeros(batch, np.int32),
      'weight': np.ones(batch, np.float32),
    },
    mode,
    mesh,
  )
  zeros = parallel.place_state(
    jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state), mesh
  )
  wrapped = parallel.wrap(step, mode, mesh)
  lowered = wrapped.lower(zeros, rows, jax.random.key(0))
  return lowered.compile().as_text(), state


def least(state) -> tuple[int, int]:
  """Operations and bytes: gradients, and moments of each BatchNorm twice."""
  size = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params))
  moments = jax.tree.leaves(state.batch_stats)
  return 1 + len(moments), size + 2 * sum(4 * leaf.size for leaf in moments)


def run(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('config', nargs='?', default='configs/cnn.py')
  parser.add_argument('--size', default='512x256')
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--devices', default='1,2,4,8')
  options, fields = parser.parse_known_args(argv)
  values = [f'--config={options.config}', '--workdir=none', *fields]
  c = main.parse(['collectives', *values]).config
  c.data.size = tuple(map(int, options.size.split('x')))
  print(
    f'{c.name}, {options.size}, batch {options.batch}, jax {jax.__version__}\n'
    '\n'
    '| devices | mode | operations | MB | least | MB | beyond them, bytes |\n'
    '| ---: | --- | ---: | ---: | ---: | ---: | --- |'
  )
  for devices in map(int, options.devices.split(',')):
    for mode in parallel.MODES:
      text, state = compiled(c, mode, devices, options.batch)
      found = collectives(text)
      count, size = least(state) if devices > 1 else (0, 0)
      kinds = {kind: 0 for kind, _ in found}
      for kind, _ in found:
        kinds[kind] += 1
      total = sum(one for _, one in found)
      said = ', '.join(f'{n} {kind}' for kind, n in kinds.items()) or '0'
      print(
        f'| {devices} | {mode} | {said} | {total / 1e6:.3f} | {count} '
        f'| {size / 1e6:.3f} | {total - size:,} |',
        flush=True,
      )


if __name__ == '__main__':
  shell.set_up_logging()
  sys.exit(shell.run(lambda: run(sys.argv[1:])))
