"""A classifier of two convolutions, that compiles and trains in seconds."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rsna_jax.models import heads


class Trunk(nn.Module):
  """Feature maps are a quarter of the image, and not negative."""

  @nn.compact
  def __call__(self, image, train=False):
    x = image * 2 - 1
    for features in (8, 16):
      x = nn.relu(nn.Conv(features, (5, 5), strides=2)(x))
    return x


class Small(heads.Classifier):
  """The trunk, and the usual head."""

  def setup(self):
    self.trunk = Trunk()
    self.head = self.make_head()


def spots(count: int, seed: int, size=(32, 24)):
  """Noise with a bright and a dark spot, either, or none.

  Returns:
    (N, H, W, 1) images, (N,) classes: 1 for a bright spot and 2 for a dark one,
    added up; and (N, 2, 2) rows and columns of the bright and the dark one.
  """
  chance = np.random.default_rng(seed)
  images = chance.uniform(0.4, 0.6, (count, *size)).astype(np.float32)
  labels = chance.integers(0, 4, count)
  # In different halves, so that neither lies on the other.
  half = size[0] // 2
  places = np.stack(
    [
      chance.integers(3, (half - 3, size[1] - 3), (count, 2)),
      chance.integers((half + 3, 3), (size[0] - 3, size[1] - 3), (count, 2)),
    ],
    axis=1,
  )
  swapped = chance.uniform(size=count) < 0.5
  places[swapped] = places[swapped][:, ::-1]
  for image, label, (bright, dark) in zip(images, labels, places, strict=True):
    for (row, column), grey, there in (
      (bright, 1.0, label & 1),
      (dark, 0.05, label & 2),
    ):
      if there:
        image[row - 2 : row + 3, column - 2 : column + 3] = grey
  return images[..., None], labels, places


def train(model: nn.Module, target: str, steps: int = 250):
  """Variables of a network trained to tell `spots` apart."""
  images, labels, _ = spots(512, seed=0)
  variables = model.init(
    jax.random.key(0), images[:1], np.zeros((1, 0), np.float32)
  )
  tx = optax.adam(1e-2)
  states = variables, tx.init(variables)

  @jax.jit
  def run(states):
    def step(states, t):
      variables, moments = states
      rows = (t * 32 + jnp.arange(32)) % len(images)

      def loss(variables):
        logits = model.apply(
          variables, jnp.asarray(images)[rows], jnp.zeros((32, 0))
        )[target]
        return optax.softmax_cross_entropy_with_integer_labels(
          logits, jnp.asarray(labels)[rows]
        ).mean()

      value, slopes = jax.value_and_grad(loss)(variables)
      updates, moments = tx.update(slopes, moments)
      return (optax.apply_updates(variables, updates), moments), value

    return jax.lax.scan(step, states, jnp.arange(steps))

  (variables, _), losses = run(states)
  return variables, np.asarray(losses)
