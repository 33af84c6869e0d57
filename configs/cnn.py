"""The scratch CNN on the pixels alone.

python -m rsna_jax.main --config configs/cnn.py --workdir runs/cnn
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'cnn'
  c.model.name = 'cnn'
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 1e-3
  c.optim.warmup_steps = 200
  c.optim.ema = 0.999
  return c
