"""ConvNeXt-small with metadata, from published weights where there are some.

python -m rsna_jax.main --config configs/convnext_small_meta.py --workdir W \\
    --config.model.init_from=WEIGHTS

WEIGHTS is what `rsna-jax weights convnext_small.safetensors --model
convnext_small --out WEIGHTS` wrote. For one accelerator with 16 GiB or more.
Neither time nor score has been measured.
"""

from rsna_jax import config, schema


def get_config():
  c = config.default()
  c.name = 'convnext_small_meta'
  c.model.name = 'convnext_small'
  c.model.metadata = schema.METADATA_COLUMNS
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 16
  c.train.dtype = 'bfloat16'
  c.data.positives_per_batch = 2
  c.optim.learning_rate = 1e-4
  c.optim.warmup_steps = 500
  c.optim.weight_decay = 0.05
  c.optim.ema = 0.999
  return c
