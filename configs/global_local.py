"""The whole image at half its size, and six patches at full resolution.

rsna-jax prepare SRC --data-dir data --size 2048x1024
python -m rsna_jax.main --config configs/global_local.py --workdir runs/gl

For lesions that low resolution loses. The global trunk is narrow and chooses;
the local one is wide. Written for one GPU of 24 GiB or more; such a run has not
been measured. docs/models.md has what a step needs on a CPU at tiny width.
"""

from rsna_jax import config, schema


def get_config():
  c = config.default()
  c.name = 'global_local'
  c.data.size = (2048, 1024)
  c.data.positives_per_batch = 2
  c.model.name = 'global_local'
  c.model.trunk = 'xception'
  c.model.width = 0.5
  c.model.local_width = 1.0
  c.model.global_stride = 2
  c.model.metadata = schema.METADATA_COLUMNS
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.model.remat = 'blocks'
  c.train.steps = 20_000
  c.train.batch_size = 8
  c.train.dtype = 'bfloat16'
  c.loss.penalty = 0.1  # GMIC's sum over places, as a mean
  c.optim.learning_rate = 2e-4
  c.optim.warmup_steps = 500
  c.optim.ema = 0.999
  return c
