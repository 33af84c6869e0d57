"""Xception with metadata in its last Dense layer.

python -m rsna_jax.main --config configs/xception_meta.py --workdir runs/xm

Age, implant, view and laterality; site and machine are left out, because a
network that knows the hospital learns its prevalence. Otherwise as
configs/xception.py.
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'xception_meta'
  c.model.name = 'xception'
  c.model.metadata = ('age', 'implant', 'view', 'laterality')
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 3e-4
  c.optim.warmup_steps = 500
  c.optim.ema = 0.999
  return c
