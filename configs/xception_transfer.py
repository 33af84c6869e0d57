"""Xception from published weights, in two phases: the head, then all of it.

rsna-jax weights xception_weights_tf_dim_ordering_tf_kernels_notop.h5 \\
  --model xception --out weights/xception
python -m rsna_jax.main --config configs/xception_transfer.py \\
  --workdir runs/xception_transfer --config.model.init_from=weights/xception

For 1,000 steps the trunk keeps every bit, and its normalisation works as in
prediction; then it thaws, and each block below the head learns at 0.8 times the
rate of the block above it. A run directory of ours (phantoms, another size,
another head) may take the folder's place. Hardware, time and score: not
measured.
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'xception_transfer'
  c.model.name = 'xception'
  c.model.pool = 'max'
  c.model.dropout = 0.2
  c.train.steps = 10_000
  c.train.batch_size = 32
  c.data.positives_per_batch = 4
  c.optim.learning_rate = 3e-4
  c.optim.warmup_steps = 100
  c.optim.freeze = ('trunk',)
  c.optim.freeze_steps = 1_000
  c.optim.layer_decay = 0.8
  c.optim.ema = 0.999
  return c
