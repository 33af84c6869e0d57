"""EfficientNetV2-S with metadata, from published weights where there are some.

python -m rsna_jax.main --config configs/efficientnetv2_s_meta.py --workdir W \\
    --config.model.init_from=WEIGHTS

WEIGHTS is what `rsna-jax weights efficientnetv2-s_notop.h5 --model
efficientnetv2_s --out WEIGHTS` wrote. For one accelerator with 16 GiB or more.
Neither time nor score has been measured.
"""

from rsna_jax import config, schema


def get_config():
  c = config.default()
  c.name = 'efficientnetv2_s_meta'
  c.model.name = 'efficientnetv2_s'
  c.model.metadata = schema.METADATA_COLUMNS
  c.model.pool = 'gem'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.train.dtype = 'bfloat16'
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 3e-4
  c.optim.warmup_steps = 500
  c.optim.ema = 0.999
  return c
