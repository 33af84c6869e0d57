"""Xception on the pixels alone.

python -m rsna_jax.main --config configs/xception.py --workdir runs/xception

Meant for one accelerator with 16 GiB or more; on a CPU set model.width=0.25,
model.depth=0.25 and a smaller data.size, as docs/benchmarks.md does.
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'xception'
  c.model.name = 'xception'
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 3e-4
  c.optim.warmup_steps = 500
  c.optim.ema = 0.999
  return c
