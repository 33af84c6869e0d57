"""Prints the rows of the tables in docs/models.md.

python scripts/model_costs.py [--time | --kept] [NAME ...]

Counts are of the compiled program of one prediction in float32, batch 1, with
the plain forms of the layers. --time measures predictions with the fast forms
instead, at batches 1 and 8, and prints images per second of CPU time, of the
cheapest call; --kept counts what training keeps for the gradient, with and
without model.remat.
"""

import argparse
import time
import types

import jax
import jax.numpy as jnp
import numpy as np

from rsna_jax import config, models

SIZE = (512, 256)
META = 10
TIMED_S = 2.0
# Fields of rows that are no network's name alone, and images of an answer.
ROWS = types.MappingProxyType(
  {
    'density_cnn': ({'data.size': (224, 224)}, 1),
    'exam': ({'model.name': 'many_view', 'data.group': 'exam'}, 4),
    'global_local': ({'model.patch_size': 128}, 1),
    'many_view': ({'data.group': 'breast'}, 2),
  }
)
RESIDUAL = ('cnn', 'convnext_small', 'efficientnetv2_s', 'xception')


def make_config(name: str) -> config.ml_collections.ConfigDict:
  c = config.default()
  c.data.size = SIZE
  fields = {'model.name': name, **ROWS.get(name, ({}, 1))[0]}
  c.update_from_flattened_dict(fields)
  return c


def made(name: str, batch: int, forms: str, remat: str = 'none'):
  """A network, the forms of its variables, and those of its inputs."""
  c = make_config(name)
  c.model.forms, c.model.remat = forms, remat
  model = models.create(c)
  count = ROWS.get(name, ({}, 1))[1]
  each = (count,) if count > 1 else ()
  image = jax.ShapeDtypeStruct((batch, *each, *c.data.size, 1), jnp.float32)
  meta = jax.ShapeDtypeStruct((batch, META), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), image, meta)
  extra = ()
  if each:
    extra = (jax.ShapeDtypeStruct((batch, count, 3), jnp.int32),)
  return model, variables, (image, meta, *extra)


def predict(model):
  # Whether it trains is no input, and has to be known.
  return lambda variables, image, meta, *more: model.apply(
    variables, image, meta, False, *more
  )


def count_row(name: str) -> str:
  model, variables, inputs = made(name, 1, 'plain')
  counts = {
    room: sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))
    for room, tree in variables.items()
  }
  compiled = jax.jit(predict(model)).lower(variables, *inputs).compile()
  cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  size = 4 * sum(counts.values()) / 2**20
  work = memory.temp_size_in_bytes / 2**20
  shape = 'x'.join(map(str, inputs[0].shape[1:-1]))
  if name == 'meta':
    shape = 'none'
  return (
    f'| {name} | {shape} | {counts["params"]:,} '
    f'| {counts.get("batch_stats", 0):,} | {cost["flops"] / 1e9:.2f} '
    f'| {size:.1f} | {work:.1f} |'
  )


def time_row(name: str) -> str:
  rates = []
  for batch in (1, 8):
    model, variables, inputs = made(name, batch, 'auto')
    compiled = jax.jit(predict(model)).lower(variables, *inputs).compile()
    ones = jax.tree.map(
      lambda x: jnp.full(
        x.shape, 0.01 if x.dtype == jnp.float32 else 0, x.dtype
      ),
      (variables, *inputs),
    )
    jax.block_until_ready(compiled(*ones))
    best, start = float('inf'), time.process_time()
    while time.process_time() - start < TIMED_S:
      before = time.process_time()
      jax.block_until_ready(compiled(*ones))
      best = min(best, time.process_time() - before)
    rates.append(batch * ROWS.get(name, ({}, 1))[1] / best)
  return f'| {name} | {rates[0]:.1f} | {rates[1]:.1f} |'


def kept_row(name: str) -> str:
  def kept(remat):
    model, variables, (image, meta) = made(name, 1, 'plain', remat)

    def slope(variables, image, meta):
      def total(params):
        logits, _ = model.apply(
          {**variables, 'params': params},
          image,
          meta,
          True,
          mutable=['batch_stats'],
        )
        return logits

      return jax.vjp(total, variables['params'])[1]

    leaves = jax.tree.leaves(jax.eval_shape(slope, variables, image, meta))
    return sum(x.size * x.dtype.itemsize for x in leaves) / 2**20

  return f'| {name} | {kept("none"):.0f} | {kept("blocks"):.0f} |'


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('names', nargs='*')
  parser.add_argument('--time', action='store_true')
  parser.add_argument('--kept', action='store_true')
  args = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')
  row = time_row if args.time else kept_row if args.kept else count_row
  every = RESIDUAL if args.kept else sorted({*models.MODELS, *ROWS})
  for name in args.names or every:
    print(row(name), flush=True)


if __name__ == '__main__':
  main()
