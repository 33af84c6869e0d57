"""Metadata alone: what any network on the pixels has to beat.

python -m rsna_jax.main --config configs/meta.py --workdir runs/meta \
    --config.data.dir=FOLDER_WITH_TRAIN_CSV

A linear model on the columns that a test row has. It needs no prepared images:
data.name=csv reads train.csv. Four folds of the full RSNA table take about
two minutes on 2 cores: rsna-jax crossvalidate --config configs/meta.py ...
For the figures see docs/benchmarks.md.
"""

from rsna_jax import config, schema


def get_config():
  c = config.default()
  c.name = 'meta'
  c.data.name = 'csv'
  c.data.positives_per_batch = 0
  c.model.name = 'meta'
  c.model.metadata = schema.METADATA_COLUMNS
  c.train.steps = 1_000
  c.train.batch_size = 1_024
  c.train.log_every = 200
  c.train.eval_every = 1_000
  c.train.checkpoint_every = 1_000
  c.optim.learning_rate = 0.02
  c.eval.batch_size = 4_096
  return c
