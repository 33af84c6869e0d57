"""The scratch CNN with metadata in its last Dense layer.

python -m rsna_jax.main --config configs/cnn_meta.py --workdir runs/cnn_meta

All columns that a test row has. site_id and machine_id tell a hospital's
prevalence; docs/data.md says how to leave them out.
"""

from rsna_jax import config, schema


def get_config():
  c = config.default()
  c.name = 'cnn_meta'
  c.model.name = 'cnn'
  c.model.metadata = schema.METADATA_COLUMNS
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 1e-3
  c.optim.warmup_steps = 200
  c.optim.ema = 0.999
  return c
