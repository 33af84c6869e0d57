"""A network that looks at the whole image, and then closely where it matters.

A global trunk makes a map of saliency; the patches that it marks are cut from
the image at full resolution and seen by a local trunk; gated attention joins
them, and one last layer has both. The design is GMIC's: Shen et al. 2021,
Medical Image Analysis 68:101908, arXiv:2002.07613.

With Xception at `width` and `depth` 1 for both trunks and one logit, 41,910,098
parameters below the last layer, and 109,056 statistics.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rsna_jax import errors
from rsna_jax.models import forms, heads, layers, many_view, patches

_LOCAL = 128  # numbers that the local network says of a patch, at width 1


class Look(NamedTuple):
  """What the network has looked at.

  Attributes:
    features: (B, h, w, C) of the global trunk.
    saliency: (B, h, w, K) float32 log-odds, a map for each logit of the main
      target.
    corners: (B, N, 2) int32, the upper left pixel of each patch.
    weights: (B, N) float32, of the patches; they add up to 1.
    map: (B, h, w, L) float32, what was seen in the patches: its sum over the
      places is their weighted sum.
  """

  features: jax.Array
  saliency: jax.Array
  corners: jax.Array
  weights: jax.Array
  map: jax.Array


class Head(nn.Module):
  """Pooled global features, local ones and metadata to logits.

  pool, norm and logits are named as `heads.Head` names them.

  Attributes:
    local: L, the last channels of a feature map, which are added up.
    norm_epsilon: as in `heads.Head`, of the global features.
    metadata_embedding: as in `heads.Logits`.
  """

  targets: tuple[tuple[str, int], ...]
  local: int
  pool: str = 'mean'
  dropout: float = 0.0
  axis_name: str | None = None
  norm_epsilon: float | None = None
  metadata_embedding: int = 0

  @nn.compact
  def __call__(
    self, features: jax.Array, meta: jax.Array, train: bool
  ) -> dict[str, jax.Array]:
    """features: (B, h, w, C + L), meta: (B, M) -> {target: (B, K) float32}."""
    pooled = heads.Pool(self.pool, name='pool')(features[..., : -self.local])
    if self.norm_epsilon is not None:
      pooled = nn.LayerNorm(self.norm_epsilon, name='norm')(pooled)
    near = jnp.sum(features[..., -self.local :], axis=(1, 2))
    joined = [pooled, near, meta.astype(jnp.float32)]
    joined = jnp.concatenate(joined, axis=-1)
    joined = layers.ExampleDropout(self.dropout, self.axis_name)(joined, train)
    width = joined.shape[-1] - meta.shape[-1]
    logits = heads.Logits(self.targets, self.metadata_embedding, name='logits')
    return logits(joined[:, :width], joined[:, width:])


class GlobalLocal(heads.Classifier):
  """The network; made by `of`. Training tells it of both branches as well.

  The feature map is that of the global trunk beside what was seen in the
  patches, at their places, so that maps of `saliency` show both.

  Attributes:
    local_width: factor of the local trunk's channels; 0: `width`.
    patches: N of the patches.
    patch_size: their side, in pixels of the image.
    global_stride: the global trunk sees the mean of squares of so many pixels.
    top_share: of a map's places, whose mean saliency is the global answer.
  """

  local_width: float = 0.0
  patches: int = 6
  patch_size: int = 256
  global_stride: int = 1
  top_share: float = 0.05

  # The network whose trunk looks twice, with its fields.
  TRUNK: ClassVar[Any] = None

  def setup(self):
    super().setup()  # the trunk and the head of the network
    taken = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self.TRUNK)
      if field.name not in ('parent', 'name', 'width')
    }
    self.local_network = self.TRUNK(
      width=self.local_width or self.width, **taken
    )
    size = dict(self.targets[:1])
    self.salient = nn.Dense(
      *size.values(), dtype=jnp.float32, kernel_init=layers.kernel_init
    )
    self.local_pool = heads.Pool(self.pool)
    self.local_dense = nn.Dense(
      self._local_count, dtype=jnp.float32, kernel_init=layers.kernel_init
    )
    self.attention = many_view.Attention()
    self.local_logits = heads.Logits(self.targets[:1])

  @property
  def _local_count(self) -> int:
    return heads.channels(_LOCAL, self.local_width or self.width)

  def make_head(self, norm_epsilon: float | None = None) -> Head:
    """The head of both branches, in the place of the usual one."""
    return Head(
      self.targets,
      self._local_count,
      self.pool,
      self.dropout,
      self.axis_name,
      norm_epsilon,
      self.metadata_embedding,
    )

  def look(self, image: jax.Array, train: bool = False) -> Look:
    """(B, H, W, 1) in [0, 1] -> what is seen of it, and where.

    In training the logits of both branches are sown as 'supervision', and the
    mean of the saliency as 'penalty'.

    Raises:
      errors.ConfigError: a patch is larger than the image.
    """
    if self.patch_size > min(image.shape[1:3]):
      raise errors.ConfigError(
        f'model.patch_size={self.patch_size}: images are '
        f'{image.shape[1]}x{image.shape[2]}: take at most '
        f'{min(image.shape[1:3])}'
      )
    with forms.using(self.forms):
      return self._look(image, train)

  def _look(self, image, train):
    small = reduced(image, self.global_stride)
    features = self.trunk(small, train)
    saliency = self.salient(features.astype(jnp.float32))
    grid = patches.Grid(
      cells=features.shape[1:3],
      pixels=tuple(n * self.global_stride for n in small.shape[1:3]),
      size=image.shape[1:3],
      patch=self.patch_size,
    )
    first = patches.choose(where(saliency), self.patches, grid.window)
    corners = patches.corners(first, grid)
    seen = patches.cut(image, corners, self.patch_size)
    rows = len(image)
    local = self.local_network.features(
      seen.reshape(-1, *seen.shape[2:]), train
    )
    local = self.local_dense(self.local_pool(local))
    local = local.reshape(rows, self.patches, -1)
    weights = self.attention(local, jnp.ones(local.shape[:2], bool))
    if train:
      (name, _), *_ = self.targets
      none = jnp.zeros((rows, 0))
      joined = jnp.sum(weights[..., None] * local, axis=1)
      self.sow('supervision', 'global', top_logits(saliency, self.top_share))
      self.sow('supervision', 'local', self.local_logits(joined, none)[name])
      mean = jnp.mean(nn.sigmoid(saliency), axis=(1, 2, 3))
      self.sow('penalty', 'saliency', mean)
    elif self.is_initializing():
      self.local_logits(local[:, 0], jnp.zeros((rows, 0)))
    cells = patches.inside(
      first, grid.window, jnp.arange(grid.cells[0]), jnp.arange(grid.cells[1])
    )
    share = weights / (grid.window[0] * grid.window[1])
    share = jnp.where(cells, share[..., None, None], 0)
    return Look(
      features,
      saliency,
      corners,
      weights,
      jnp.einsum('bnhw,bnl->bhwl', share, local),
    )

  def features(self, image: jax.Array, train: bool = False) -> jax.Array:
    """(B, H, W, 1) in [0, 1] -> (B, h, w, C + L) float32."""
    seen = self.look(image, train)
    return jnp.concatenate(
      [seen.features.astype(jnp.float32), seen.map], axis=-1
    )


def reduced(image: jax.Array, stride: int) -> jax.Array:
  """(B, H, W, C) -> means of squares; black fills the last ones up."""
  if stride == 1:
    return image
  height, width = image.shape[1:3]
  pads = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
  x = jnp.pad(image, pads)
  x = x.reshape(
    len(x), x.shape[1] // stride, stride, x.shape[2] // stride, stride, -1
  )
  return jnp.mean(x, axis=(2, 4))


def where(saliency: jax.Array) -> jax.Array:
  """Log-odds (B, h, w, K) -> (B, h, w), by which patches are chosen.

  The saliency of each class, from its least to its greatest as 0 to 1, added
  up. Of density by cancer (8 classes) the malignant ones count, the odd ones.
  No gradient goes through.
  """
  x = nn.sigmoid(jax.lax.stop_gradient(saliency))
  if x.shape[-1] == 8:
    x = x[..., 1::2]
  low = jnp.min(x, axis=(1, 2), keepdims=True)
  span = jnp.max(x, axis=(1, 2), keepdims=True) - low
  return jnp.sum((x - low) / jnp.maximum(span, 1e-12), axis=-1)


def top_logits(saliency: jax.Array, share: float) -> jax.Array:
  """The log-odds of the mean of the highest probabilities of each map.

  Args:
    saliency: (B, h, w, K) log-odds.
    share: of the places, at least one of which counts.

  Returns:
    (B, K) float32.
  """
  flat = saliency.reshape(len(saliency), -1, saliency.shape[-1])
  count = max(1, round(share * flat.shape[1]))
  top = jax.lax.top_k(flat.swapaxes(1, 2), count)[0]
  # By logarithms, so that nothing rounds to 0 or 1; log(count) cancels.
  yes = jax.nn.logsumexp(jax.nn.log_sigmoid(top), axis=-1)
  return yes - jax.nn.logsumexp(jax.nn.log_sigmoid(-top), axis=-1)


@functools.cache
def of(network: type[heads.Classifier]) -> type[GlobalLocal]:
  """The class with the trunk and fields of `network` that looks twice.

  Args:
    network: makes its head by `make_head`. The global trunk's parameters keep
      their names, so that its weights fit.
  """
  return type(
    f'GlobalLocal{network.__name__}',
    (GlobalLocal, network),
    {
      '__doc__': network.__doc__,
      '__module__': __name__,
      '__annotations__': {},
      'TRUNK': network,
    },
  )
