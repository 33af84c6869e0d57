"""A network over the images of a breast, or over both breasts of an exam.

The trunk of a network of single images looks at each image; gated attention
joins what it pooled. The answer does not depend on the order of the images,
works with any number of them, and with one image it is the answer of the
single network of the same weights until the codes of views have learned
something. An image that is there twice counts twice, as in a mean; where all
of them are, nothing changes.

With Xception at `width` and `depth` 1, 21,355,368 parameters below the last
layer, and 54,528 statistics.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsna_jax.data import groups
from rsna_jax.models import forms, heads, layers

_HIDDEN = 128  # of the attention


class Codes(nn.Module):
  """Learned vectors of view, side and laterality, added up.

  They start at zero, so that a view that no training example had stays neutral.
  """

  width: int

  @nn.compact
  def __call__(self, slots: jax.Array) -> jax.Array:
    """slots: (B, V, 3) int32 -> (B, V, width) float32."""
    total = jnp.zeros((*slots.shape[:2], self.width), jnp.float32)
    for column, name, count in (
      (groups.VIEW, 'view', groups.UNKNOWN_VIEW + 1),
      (groups.SIDE, 'side', 2),
      (groups.LATERALITY, 'laterality', groups.UNKNOWN_LATERALITY + 1),
    ):
      table = self.param(name, nn.initializers.zeros, (count, self.width))
      total += table[jnp.clip(slots[..., column], 0, count - 1)]
    return total


class Attention(nn.Module):
  """Weights of images by a gated network (Ilse et al. 2018, arXiv:1802.04712).

  It starts as the mean.
  """

  @nn.compact
  def __call__(self, x: jax.Array, there: jax.Array) -> jax.Array:
    """Weighs the slots of each row.

    Args:
      x: (B, V, C) float32.
      there: (B, V) bool, the slots that count.

    Returns:
      (B, V) float32 that add up to 1, or to 0 in rows without a slot.
    """

    def dense(size, name, init=layers.kernel_init):
      return nn.Dense(size, use_bias=False, kernel_init=init, name=name)

    gated = jnp.tanh(dense(_HIDDEN, 'value')(x)) * nn.sigmoid(
      dense(_HIDDEN, 'gate')(x)
    )
    scores = dense(1, 'score', nn.initializers.zeros)(gated)[..., 0]
    scores = jnp.where(there, scores, jnp.finfo(jnp.float32).min)
    return jnp.where(there, nn.softmax(scores, axis=1), 0)


class Head(nn.Module):
  """Feature maps of several images, and metadata, to the logits of a breast.

  pool, norm and logits bear the names that `heads.Head` gives them, so that the
  weights of a network of single images fit.

  Attributes:
    targets: as in `heads.Classifier`.
    pool: likewise.
    dropout: likewise.
    axis_name: likewise.
    norm_epsilon: as in `heads.Head`.
    compare: whether the other breast takes part.
    hide: as in `ManyView`.
    metadata_embedding: as in `heads.Logits`.
  """

  targets: tuple[tuple[str, int], ...]
  pool: str = 'mean'
  dropout: float = 0.0
  axis_name: str | None = None
  norm_epsilon: float | None = None
  compare: bool = False
  hide: float = 0.0
  metadata_embedding: int = 0

  def setup(self):
    self.pooling = heads.Pool(self.pool, name='pool')
    if self.norm_epsilon is not None:
      self.norm = nn.LayerNorm(self.norm_epsilon)
    self.attention = Attention()
    self.drop = layers.ExampleDropout(self.dropout, self.axis_name)
    self.logits = heads.Logits(self.targets, self.metadata_embedding)

  def pooled(self, features: jax.Array) -> jax.Array:
    """(N, h, w, C) -> (N, C) float32, an image each."""
    x = self.pooling(features)
    return x if self.norm_epsilon is None else self.norm(x)

  @nn.compact
  def join(
    self, x: jax.Array, slots: jax.Array, meta: jax.Array, train: bool
  ) -> dict[str, jax.Array]:
    """Joins pooled images.

    Args:
      x: (B, V, C) float32.
      slots: (B, V, 3) int32.
      meta: (B, M).
      train: dropout, and codes that are hidden.

    Returns:
      {target: (B, K) float32}.
    """
    width = x.shape[-1]
    slots = self._hidden(jnp.asarray(slots), train)
    codes = Codes(width, name='codes')(slots)
    side = slots[..., groups.SIDE]

    def weights(which):
      return self.attention(x + codes, side == which)[..., None]

    this = jnp.sum(weights(groups.THIS) * x, axis=1)
    told = jnp.sum(weights(groups.THIS) * codes, axis=1)
    parts = [this + told]
    if self.compare:
      other = jnp.sum(weights(groups.OTHER) * x, axis=1)
      there = jnp.any(side == groups.OTHER, axis=1, keepdims=True)
      # The difference itself is in reach of a linear layer that has both.
      parts += [other, jnp.where(there, jnp.abs(this - other), 0)]
    end = width * len(parts)
    joined = jnp.concatenate([*parts, meta.astype(jnp.float32)], axis=-1)
    joined = self.drop(joined, train)
    return self.logits(
      joined[:, :width], joined[:, end:], beside=joined[:, width:end]
    )

  def _hidden(self, slots: jax.Array, train: bool) -> jax.Array:
    """The slots, of which some are told as if nothing was known of them."""
    if not train or not self.hide:
      return slots
    keys = layers.example_keys(
      self.make_rng('dropout'), slots.shape[0], self.axis_name
    )
    hidden = jax.vmap(
      lambda key: jax.random.bernoulli(key, self.hide, slots.shape[1:2])
    )(keys)
    unknown = slots.at[..., groups.VIEW].set(groups.UNKNOWN_VIEW)
    unknown = unknown.at[..., groups.LATERALITY].set(groups.UNKNOWN_LATERALITY)
    return jnp.where(hidden[..., None], unknown, slots)


class ManyView(heads.Classifier):
  """A network of single images with the head of many; made by `of`.

  Attributes:
    compare: whether the other breast of the exam is looked at, too.
    hide: share of the images of which view and laterality are hidden in
      training, so that the network learns to answer without.
  """

  compare: bool = False
  hide: float = 0.0

  def make_head(self, norm_epsilon: float | None = None) -> Head:
    """The head of many images, in the place of the usual one."""
    return Head(
      self.targets,
      self.pool,
      self.dropout,
      self.axis_name,
      norm_epsilon,
      self.compare,
      self.hide,
      self.metadata_embedding,
    )

  def classify(
    self, features: jax.Array, meta: jax.Array, train: bool = False
  ) -> dict[str, jax.Array]:
    """One image each, of which neither view nor laterality is known."""
    with forms.using(self.forms):
      x = self.head.pooled(features)[:, None]
    return self.join(x, unknown_slots(len(x)), meta, train)

  def pooled(self, image: jax.Array, train: bool = False) -> jax.Array:
    """(N, H, W, 1) in [0, 1] -> (N, C) float32, for `join`."""
    features = self.features(image, train)
    with forms.using(self.forms):
      return self.head.pooled(features)

  def join(
    self,
    pooled: jax.Array,
    slots: jax.Array,
    meta: jax.Array,
    train: bool = False,
  ) -> dict[str, jax.Array]:
    """Pooled images (B, V, C), slots (B, V, 3), metadata (B, M) -> logits."""
    with forms.using(self.forms):
      return self.head.join(pooled, slots, meta, train)

  def __call__(
    self,
    image: jax.Array,
    meta: jax.Array,
    train: bool = False,
    slots: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Images and metadata to logits.

    Args:
      image: (B, V, H, W, 1) floats in [0, 1], of which the first is one of the
        breast; or (B, H, W, 1), one image each.
      meta: (B, M) float32.
      train: batch statistics and dropout on.
      slots: (B, V, 3) int32: view code, side (0 this breast, 1 the other, -1
        empty), laterality code; None: of each image nothing is known.

    Returns:
      {target: (B, K) float32 logits}, a row a breast.
    """
    if image.ndim == 4:
      image = image[:, None]
    rows, count = image.shape[:2]
    slots = unknown_slots(rows, count) if slots is None else jnp.asarray(slots)
    # The trunk has to see something, and batch statistics count it: a second
    # time the first image, whatever the slot held.
    empty = slots[..., groups.SIDE] == groups.EMPTY
    image = jnp.where(empty[..., None, None, None], image[:, :1], image)
    x = self.pooled(image.reshape(-1, *image.shape[2:]), train)
    return self.join(x.reshape(rows, count, -1), slots, meta, train)


def unknown_slots(rows: int, count: int = 1) -> jax.Array:
  """(rows, count, 3) int32 of images of this breast, and nothing else known."""
  one = jnp.array(
    [groups.UNKNOWN_VIEW, groups.THIS, groups.UNKNOWN_LATERALITY], jnp.int32
  )
  return jnp.broadcast_to(one, (rows, count, 3))


@functools.cache
def of(network: type[heads.Classifier]) -> type[ManyView]:
  """The class that has the trunk and fields of `network` and looks at many.

  Args:
    network: makes its head by `make_head`. Its trunk's parameters keep their
      names, so that its weights fit.
  """
  return type(
    f'ManyView{network.__name__}',
    (ManyView, network),
    {'__doc__': network.__doc__, '__module__': __name__},
  )
