"""The scratch CNN with metadata in its last Dense layer.

python -m rsna_jax.main --config configs/cnn_meta.py --workdir runs/cnn_meta

Age, implant, view and laterality, as in configs/xception_meta.py.
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'cnn_meta'
  c.model.name = 'cnn'
  c.model.metadata = ('age', 'implant', 'view', 'laterality')
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 1e-3
  c.optim.warmup_steps = 200
  c.optim.ema = 0.999
  return c
