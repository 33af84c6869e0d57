"""Memory of a device in one training step, whose images are shared by rows.

python scripts/bench_space.py --model xception --width 0.25 --depth 0.125 \
  --size 1024x512 --batch 2 --space 1,2,4,8

Compiles the step for simulated devices on the CPU, runs nothing, and prints a
row for each number of devices that share each image: what XLA reserves on one
of them for intermediate values, and what the devices exchange.
"""

import argparse
import functools
import re

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rsna_jax import config, losses, models, optim, parallel, placement, steps

_BYTES = {'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2, 'u8': 1, 'pred': 1}
_KINDS = ('all-reduce', 'collective-permute', 'all-gather', 'all-to-all')


def exchanged(text: str) -> dict[str, tuple[int, int]]:
  """Number and bytes of what devices exchange, by kind, in compiled text."""
  found = dict.fromkeys(_KINDS, (0, 0))
  for line in text.splitlines():
    match = re.search(r'= (.*?) (' + '|'.join(_KINDS) + r')(?:-start)?\(', line)
    if match is None:
      continue
    size = sum(
      _BYTES.get(kind, 4)
      * int(np.prod([int(n) for n in shape.split(',') if n]))
      for kind, shape in re.findall(r'([a-z]+\d*)\[([\d,]*)\]', match[1])
    )
    count, total = found[match[2]]
    found[match[2]] = count + 1, total + size
  return found


def compiled(c, batch: int):
  """The step for the first `parallel.space` devices."""
  mesh = parallel.make_mesh(
    jax.devices()[: c.parallel.space], space=c.parallel.space
  )
  model, tx = models.create(c), optim.create(c)
  step = functools.partial(
    steps.train_step, model=model, tx=tx, loss=losses.create(c)
  )

  def placed(x, spec=P()):
    return jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, spec)
    )

  state = jax.eval_shape(
    lambda: steps.create_state(model, tx, c, jax.random.key(0), meta_width=0)
  )
  shapes = {
    'image': ((batch, *c.data.size, 1), np.uint8),
    'meta': ((batch, 0), np.float32),
    'label_cancer': ((batch,), np.int32),
    'weight': ((batch,), np.float32),
  }
  rows = {
    name: placed(
      jax.ShapeDtypeStruct(shape, dtype), placement.spec(name, shape, mesh)
    )
    for name, (shape, dtype) in shapes.items()
  }
  key = jax.eval_shape(lambda: jax.random.key(0))
  wrapped = parallel.wrap(step, 'jit', mesh)
  return wrapped.lower(jax.tree.map(placed, state), rows, key).compile()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--model', default='xception')
  parser.add_argument('--width', type=float, default=0.25)
  parser.add_argument('--depth', type=float, default=0.125)
  parser.add_argument('--size', default='1024x512')
  parser.add_argument('--batch', type=int, default=2)
  parser.add_argument('--space', default='1,2,4,8')
  parser.add_argument('--dtype', default='float32')
  args = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 8)
  c = config.default()
  c.parallel.mode, c.train.dtype = 'jit', args.dtype
  c.model.name, c.model.width, c.model.depth = (
    args.model,
    args.width,
    args.depth,
  )
  c.model.forms = 'plain'
  c.data.size = tuple(int(n) for n in args.size.split('x'))
  print('| devices | MB | share | ' + ' | '.join(_KINDS) + ' |')
  print('| --- ' * (3 + len(_KINDS)) + '|')
  first = None
  for space in map(int, args.space.split(',')):
    c.parallel.space = space
    found = compiled(c, args.batch)
    size = found.memory_analysis().temp_size_in_bytes
    first = first or size
    print(
      f'| {space} | {size / 1e6:.1f} | {size / first:.3f} | '
      + ' | '.join(
        f'{count} ({total / 1e6:.2f} MB)'
        for count, total in exchanged(found.as_text()).values()
      )
      + ' |',
      flush=True,
    )


if __name__ == '__main__':
  main()
