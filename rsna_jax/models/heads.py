"""From a feature map and metadata to the logits of each target.

Also the base class of the networks, which fixes how they are called.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsna_jax.models import forms, layers

POOLS = ('mean', 'max', 'gem', 'attention')
_HIDDEN = 128  # of the attention


class Pool(nn.Module):
  """A feature map as one vector, in float32.

  mean and max have no parameters. gem is the mean of powers, whose exponent is
  learned from 3 on (Radenović et al. 2018, arXiv:1711.02512): 1 is the mean of
  what is positive, and the larger it is, the nearer the maximum. attention
  weighs places by a gated network (Ilse et al. 2018, arXiv:1802.04712); it
  starts as the mean.
  """

  kind: str

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """(B, h, w, C) -> (B, C)."""
    x = features.astype(jnp.float32)
    if self.kind == 'max':
      return _maximum(x)
    if self.kind == 'gem':
      return self._gem(x)
    if self.kind == 'attention':
      return self._attention(x)
    return jnp.mean(x, axis=(1, 2))

  def _gem(self, x: jax.Array) -> jax.Array:
    exponent = self.param('exponent', nn.initializers.constant(3.0), ())
    logs = jnp.log(jnp.maximum(x, 1e-6)) * exponent
    # As a sum of exponentials, so that no power leaves float32.
    total = jax.nn.logsumexp(logs, axis=(1, 2)) - jnp.log(
      float(x.shape[1] * x.shape[2])
    )
    return jnp.exp(total / exponent)

  def _attention(self, x: jax.Array) -> jax.Array:
    def dense(size, name, init=layers.kernel_init):
      return nn.Dense(size, use_bias=False, kernel_init=init, name=name)

    places = x.reshape(x.shape[0], -1, x.shape[-1])
    gated = jnp.tanh(dense(_HIDDEN, 'value')(places)) * nn.sigmoid(
      dense(_HIDDEN, 'gate')(places)
    )
    scores = dense(1, 'score', nn.initializers.zeros)(gated)
    weights = nn.softmax(scores, axis=1)
    return jnp.sum(weights * places, axis=1)


@jax.custom_vjp
def _maximum(x: jax.Array) -> jax.Array:
  """Over the places; the first of equal ones takes the gradient.

  JAX's own shares the gradient among places by comparing them with the maximum
  and dividing by their number: where XLA makes the places again with another
  rounding, none is equal and the gradient is not a number.
  """
  return jnp.max(x, axis=(1, 2))


def _maximum_forward(x):
  place = jnp.argmax(x.reshape(x.shape[0], -1, x.shape[-1]), axis=1)
  return _maximum(x), (place, x.shape)


def _maximum_backward(residuals, g):
  place, shape = residuals
  places = jnp.arange(shape[1] * shape[2])[None, :, None]
  spread = jnp.where(places == place[:, None], g[:, None], 0)
  return (spread.reshape(shape),)


_maximum.defvjp(_maximum_forward, _maximum_backward)


class Logits(nn.Module):
  """One Dense layer per target on [features, metadata].

  The rows of metadata start at zero, so that a category that no training
  example had stays neutral.

  With an embedding each slot of the metadata has a learned vector instead: that
  of a category is taken where it is the one, that of a number times the number.
  Those of an example are added, pass a GELU and stand beside the features, so
  that columns may act together, as age and implant. The vectors start at zero,
  and the last layer's rows for them do not: an example without a known category
  stays neutral all the same.

  Attributes:
    targets: (name, number of logits) pairs.
    embedding: width of the vectors; 0: the metadata itself.
  """

  targets: tuple[tuple[str, int], ...]
  embedding: int = 0

  @nn.compact
  def __call__(
    self, x: jax.Array, meta: jax.Array, beside: jax.Array | None = None
  ) -> dict[str, jax.Array]:
    """Features and metadata to logits.

    Args:
      x: (B, C), may be 0 wide.
      meta: (B, M), likewise.
      beside: (B, D) further features, whose weights start at zero.

    Returns:
      {target: (B, K) float32}.
    """
    meta = meta.astype(jnp.float32)
    embedded = self.embedding > 0 and meta.shape[-1] > 0
    if embedded:
      meta = nn.gelu(
        nn.Dense(
          self.embedding,
          use_bias=False,
          dtype=jnp.float32,
          kernel_init=nn.initializers.zeros,
          name='embedding',
        )(meta)
      )

    def random(key, rows, count, dtype):
      found = layers.kernel_init(key, (rows, count), dtype)
      return found * jnp.asarray(0.5**0.5, dtype)  # no ReLU follows

    def kernel_init(key, shape, dtype=jnp.float32):
      rows = random(key, x.shape[-1], shape[1], dtype)
      rest = jnp.zeros((shape[0] - len(rows), shape[1]), dtype)
      if embedded:
        key = jax.random.fold_in(key, 1)
        last = random(key, self.embedding, shape[1], dtype)
        rest = rest.at[-self.embedding :].set(last)
      return jnp.concatenate([rows, rest])

    parts = [x] if beside is None else [x, beside]
    joined = jnp.concatenate(
      [*(part.astype(jnp.float32) for part in parts), meta], axis=-1
    )
    return {
      name: nn.Dense(
        size, dtype=jnp.float32, kernel_init=kernel_init, name=name
      )(joined)
      for name, size in self.targets
    }


class Head(nn.Module):
  """Pooled features beside the metadata -> dropout -> `Logits`.

  Attributes:
    norm_epsilon: of a layer normalisation of the pooled features; None: none.
    metadata_embedding: as in `Logits`.
  """

  targets: tuple[tuple[str, int], ...]
  pool: str = 'mean'
  dropout: float = 0.0
  axis_name: str | None = None
  norm_epsilon: float | None = None
  metadata_embedding: int = 0

  @nn.compact
  def __call__(
    self, features: jax.Array, meta: jax.Array, train: bool
  ) -> dict[str, jax.Array]:
    """features: (B, h, w, C), meta: (B, M) -> {target: (B, K) float32}."""
    pooled = Pool(self.pool, name='pool')(features)
    if self.norm_epsilon is not None:
      pooled = nn.LayerNorm(self.norm_epsilon, name='norm')(pooled)
    width = pooled.shape[-1]
    joined = jnp.concatenate([pooled, meta.astype(jnp.float32)], axis=-1)
    joined = layers.ExampleDropout(self.dropout, self.axis_name)(joined, train)
    logits = Logits(self.targets, self.metadata_embedding, name='logits')
    return logits(joined[:, :width], joined[:, width:])


class Classifier(nn.Module):
  """What every network is: a trunk of pixels, then a head with metadata.

  A network overrides `features`, and `classify` where its head is another.

  Attributes:
    targets: (name, number of logits) pairs.
    width: factor of the number of channels.
    depth: factor of the number of repeated blocks.
    pool: of the last feature map; see `Pool`.
    dropout: rate, before the last Dense layer.
    metadata_embedding: width; see `Logits`.
    dtype: of the computation; parameters and logits are float32.
    axis_name: of the devices that share a batch; None under plain jit.
    forms: of the layers, up to rounding the same; see `forms.using`.
    SMALLEST: height or width of an image of which a feature map is left.
  """

  SMALLEST: ClassVar[int] = 16

  targets: tuple[tuple[str, int], ...] = (('cancer', 1),)
  width: float = 1.0
  depth: float = 1.0
  pool: str = 'mean'
  dropout: float = 0.0
  metadata_embedding: int = 0
  dtype: Any = jnp.float32
  axis_name: str | None = None
  forms: str = 'auto'

  def make_head(self, norm_epsilon: float | None = None) -> Head:
    """The usual head, for `setup`."""
    return Head(
      self.targets,
      self.pool,
      self.dropout,
      self.axis_name,
      norm_epsilon,
      self.metadata_embedding,
    )

  def features(self, image: jax.Array, train: bool = False) -> jax.Array:
    """(B, H, W, 1) in [0, 1] -> feature map (B, h, w, C)."""
    with forms.using(self.forms):
      return self.trunk(image, train)

  def classify(
    self, features: jax.Array, meta: jax.Array, train: bool = False
  ) -> dict[str, jax.Array]:
    """Feature map (B, h, w, C), metadata (B, M) -> {target: (B, K)}."""
    with forms.using(self.forms):
      return self.head(features, meta, train)

  def __call__(
    self, image: jax.Array, meta: jax.Array, train: bool = False
  ) -> dict[str, jax.Array]:
    """Image and metadata to logits.

    Args:
      image: (B, H, W, 1) floats in [0, 1], bright breast on black.
      meta: (B, M) float32, M may be 0.
      train: batch statistics and dropout on.

    Returns:
      {target: (B, K) float32 logits}.
    """
    return self.classify(self.features(image, train), meta, train)


def channels(count: int, width: float, multiple: int = 4) -> int:
  """`count` times `width`, a multiple of `multiple`, and at least that."""
  return max(multiple, round(count * width / multiple) * multiple)
