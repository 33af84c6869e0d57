"""All images of a breast at once: a shared trunk, and attention over them.

python -m rsna_jax.main --config configs/many_view.py --workdir runs/mv

From a run of single images of the same trunk, which is quicker and better than
from nothing: --config.model.init_from=runs/xm. An example is a breast, so that
a step sees train.batch_size * data.views images, and needs the memory of so
many; configs/exam.py twice that.
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'many_view'
  c.data.group = 'breast'
  c.data.views = 2
  c.model.name = 'many_view'
  c.model.trunk = 'xception'
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.model.metadata = ('age', 'implant', 'site_id', 'machine_id')
  c.train.steps = 10_000
  c.train.batch_size = 16
  c.data.positives_per_batch = 2
  c.optim.learning_rate = 3e-4
  c.optim.warmup_steps = 500
  c.optim.ema = 0.999
  return c
