"""The quick start: a small CNN on made-up mammograms, on a CPU in minutes.

rsna-jax phantom phantom --patients 160
rsna-jax prepare phantom --data-dir data --size 256x128
python -m rsna_jax.main --config configs/phantom.py --workdir runs/phantom

Density 1 to 4 x benign or malignant, as the web page shows it; half of the
patients are of the site that tells the density. Two to four minutes on 2
cores. The validation fold chooses nothing (eval.checkpoint is the latest), so
its figures are of patients held out from everything.
"""

from rsna_jax import config


def get_config():
  c = config.default()
  c.name = 'phantom'
  c.data.size = (256, 128)
  c.data.target = 'density_cancer'
  c.data.positives_per_batch = 6
  c.model.name = 'cnn'
  c.model.width = 0.5
  c.model.pool = 'max'
  c.train.steps = 600
  c.train.batch_size = 16
  c.train.log_every = 20
  c.train.eval_every = 100
  c.train.checkpoint_every = 100
  c.optim.learning_rate = 3e-3
  c.optim.warmup_steps = 20
  c.optim.weight_decay = 0.05
  c.optim.ema = 0.98
  c.eval.calibration = 'platt'
  c.eval.checkpoint = 'latest'
  return c
