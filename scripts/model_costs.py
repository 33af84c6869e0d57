"""Prints the rows of the table in docs/models.md.

python scripts/model_costs.py [NAME ...]

Counts are of the compiled program of one prediction in float32, batch 1, with
the plain form of the depthwise convolution; nothing is timed.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import config, models

SIZE = (512, 256)


def row(name: str) -> str:
  c = config.default()
  c.model.name = name
  c.data.size = (224, 224) if name == 'density_cnn' else SIZE
  model = models.create(c)
  if 'depthwise' in model.__dataclass_fields__:
    model = model.clone(depthwise='lax')
  image = jax.ShapeDtypeStruct((1, *c.data.size, 1), jnp.float32)
  meta = jax.ShapeDtypeStruct((1, 10), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image, meta)
  counts = {
    room: sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))
    for room, tree in variables.items()
  }
  compiled = jax.jit(model.apply).lower(variables, image, meta).compile()
  cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  parameters = counts['params']
  size = 4 * sum(counts.values()) / 2**20
  work = memory.temp_size_in_bytes / 2**20
  return (
    f'| {name} | {c.data.size[0]}x{c.data.size[1]} | {parameters:,} '
    f'| {counts.get("batch_stats", 0):,} | {cost["flops"] / 1e9:.2f} '
    f'| {size:.1f} | {work:.1f} |'
  )


def main() -> None:
  jax.config.update('jax_platforms', 'cpu')
  for name in sys.argv[1:] or sorted(models.MODELS):
    print(row(name), flush=True)


if __name__ == '__main__':
  main()
