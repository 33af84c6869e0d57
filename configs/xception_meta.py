"""Xception with metadata in its last Dense layer.

python -m rsna_jax.main --config configs/xception_meta.py --workdir runs/xm

All columns that a test row has. site_id and machine_id tell a hospital's
prevalence; docs/data.md says how to leave them out.
"""

from rsna_jax import config, schema


def get_config():
  c = config.default()
  c.name = 'xception_meta'
  c.model.name = 'xception'
  c.model.metadata = schema.METADATA_COLUMNS
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 3e-4
  c.optim.warmup_steps = 500
  c.optim.ema = 0.999
  return c
