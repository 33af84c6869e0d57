"""As configs/many_view.py, and the other breast of the exam to compare with.

python -m rsna_jax.main --config configs/exam.py --workdir runs/exam

Still one answer a breast. The last layer has what attention joins of this
breast, the same of the other, and how far they differ; a patient of whom one
breast was seen is answered by that one.
"""

import pathlib

from rsna_jax import config


def get_config():
  c = config.load(pathlib.Path(__file__).with_name('many_view.py'))
  c.name = 'exam'
  c.data.group = 'exam'
  c.train.batch_size = 8
  return c
