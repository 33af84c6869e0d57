"""A training step of a network so small that it compiles in seconds."""

import functools

import flax.linen as nn
import jax
import numpy as np

from rsna_jax import config, losses, optim, steps
from rsna_jax.models import heads, layers

ROWS = 8


class Trunk(nn.Module):
  """Two convolutions, with or without normalisation, and dropout."""

  norm: bool
  rate: float
  axis_name: str | None
  dtype: str

  @nn.compact
  def __call__(self, image, train):
    x = layers.Conv3x3(8, 2, dtype=self.dtype, name='conv1')(image)
    if self.norm:
      x = layers.BatchNorm(self.axis_name, self.dtype, 0.9, name='bn1')(
        x, train
      )
    x = layers.ExampleDropout(self.rate, self.axis_name)(nn.relu(x), train)
    x = layers.Conv3x3(8, 2, dtype=self.dtype, name='conv2')(x)
    if self.norm:
      x = layers.BatchNorm(self.axis_name, self.dtype, 0.9, name='bn2')(
        x, train
      )
    return nn.relu(x)


class Network(heads.Classifier):
  """The trunk, and the usual head."""

  norm: bool = True

  def setup(self):
    self.trunk = Trunk(self.norm, self.dropout, self.axis_name, self.dtype)
    self.head = self.make_head()


def make_config(**fields):
  """`group__field` by value; no augmentation, no dropout."""
  c = config.default()
  c.data.size = (16, 16)
  c.optim.learning_rate = 0.01
  c.train.steps = 10
  for name, value in c.augment.items():
    if isinstance(value, float) and not name.endswith(('alpha', 'size')):
      c.augment[name] = 0.0
  for name, value in fields.items():
    group, field = name.split('__')
    c[group][field] = value
  return c


def make_batch(seed=0, rows=ROWS, size=(16, 16)):
  rng = np.random.default_rng(seed)
  weight = np.ones(rows, np.float32)
  weight[-1] = 0.5
  return {
    'image': rng.integers(0, 256, (rows, *size, 1)).astype(np.uint8),
    'meta': rng.normal(size=(rows, 2)).astype(np.float32),
    'label_cancer': rng.integers(0, 2, rows).astype(np.int32),
    'weight': weight,
  }


def make(c, *, norm=True, axis=None, augment=False, **kwargs):
  """(step, state) of a config; the step is not compiled."""
  model = Network(
    norm=norm, dropout=c.model.dropout, axis_name=axis, dtype=c.train.dtype
  )
  tx = optim.create(c)
  step = functools.partial(
    steps.train_step,
    model=model,
    tx=tx,
    loss=losses.create(c),
    axis=axis,
    augment=c.augment if augment else None,
    ema=c.optim.ema,
    **kwargs,
  )
  state = steps.create_state(model, tx, c, jax.random.key(0), meta_width=2)
  return step, state


def equal(found, expected):
  """Bit for bit."""
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def close(found, expected, atol=1e-6):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=atol), found, expected
  )
