"""Density 1 to 4 x benign or malignant: 201,933,704 parameters, 8 classes.

rsna-jax prepare SRC --data-dir data --size 224x224
python -m rsna_jax.main --config configs/density_cnn.py --workdir runs/density

SRC is an RSNA layout, or folders Density1Benign ... Density4Malignant; for the
latter add --config.data.name=mammography_folders. State and gradients take
3.3 GB, a step at batch 8 about 6.5 GB: 10 to 20 seconds on 2 CPU cores.
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'density_cnn'
  c.data.size = (224, 224)
  c.data.target = 'density_cancer'
  c.data.positives_per_batch = 0
  c.model.name = 'density_cnn'
  c.train.steps = 5_000
  c.train.batch_size = 8
  c.optim.name = 'adam'
  c.optim.learning_rate = 1e-4
  c.optim.weight_decay = 0.0
  c.eval.batch_size = 16
  return c
