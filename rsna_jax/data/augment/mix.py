"""Mixup and cutmix: two examples become one, with the labels of both.

The partner of an example is its neighbour, i ^ 1 in the whole batch. So a pair
never lies on two devices, and the result does not depend on how many there
are; batches are in random order, hence so are pairs.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018; Yun et al.,
"CutMix: Regularization Strategy to Train Strong Classifiers", 2019.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from scipy import special

from rsna_jax import errors
from rsna_jax.data import groups

MIX = 'mix'  # of a batch: (B,) share of the example itself
_PARTNER = 'partner_'
_KEY = 7  # folded into an example's key; `augment` has the others


def apply(
  image: jax.Array,
  meta: jax.Array,
  batch: Mapping[str, jax.Array],
  keys: jax.Array,
  options: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
  """Mixes each example with its neighbour, or leaves it, as its key says.

  Args:
    image: (B, H, W, 1) or (B, V, H, W, 1): V views are mixed one by one, where
      both examples have them.
    meta: (B, M), mixed in the same shares.
    batch: that `unmix` will be given.
    keys: (B,) PRNG keys.
    options: `config.augment`; with `mixup` and `cutmix` at 0 all is returned
      as it is.

  Returns:
    image, meta, and the batch with `mix` and with `partner_<name>` for each
    label and weight.

  Raises:
    errors.ConfigError: B is odd.
  """
  o = options
  if not o.mixup and not o.cutmix:
    return image, meta, batch
  count = meta.shape[0]
  check(count, o)
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, _KEY)
  blend, box = jax.vmap(lambda key: _draw(key, o))(keys)
  share = blend
  if image.size:
    height, width = image.shape[-3:-1]
    inside = jax.vmap(lambda one: inside_box(one, height, width))(box)
    share = blend * (1 - jnp.mean(inside, axis=(1, 2)))
    keep = blend[:, None, None] * (1 - inside)
    between = (1,) * (image.ndim - 4)
    keep = keep.reshape(count, *between, height, width, 1)
    mixed = image * keep + partner(image) * (1 - keep)
    image = _seen_by_both(image, mixed, batch) if 'slots' in batch else mixed
  else:
    # Without pixels a box has its share of the metadata all the same.
    share = blend * (1 - box[:, 2] * box[:, 3])
  meta = meta * share[:, None] + partner(meta) * (1 - share[:, None])
  others = {
    _PARTNER + name: partner(value)
    for name, value in batch.items()
    if name.startswith(('label_', 'weight'))
  }
  return image, meta, {**batch, MIX: share, **others}


def _seen_by_both(image, mixed, batch) -> jax.Array:
  """Mixed views; one that the partner lacks stays as it is, not half black."""
  lacks = partner(batch['slots'])[..., groups.SIDE] == groups.EMPTY
  return jnp.where(lacks[..., None, None, None], image, mixed)


def check(count: int, options: ml_collections.ConfigDict) -> None:
  """Checks that the examples of a device are pairs, where they are mixed.

  Args:
    count: examples of a batch that one device has.
    options: `config.augment`.

  Raises:
    errors.ConfigError: they are not.
  """
  o = options
  if count % 2 and (o.mixup or o.cutmix):
    raise errors.ConfigError(
      f'augment.mixup={o.mixup}, augment.cutmix={o.cutmix}: a device has '
      f'{count} examples of a batch, and pairs need an even number: change '
      'train.batch_size'
    )


def unmix(
  outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> tuple[Mapping[str, jax.Array], Mapping[str, jax.Array]]:
  """Outputs and labels of a mixed batch as plain weighted rows, for a loss.

  The loss of a mixed example is that with its own labels times its share, and
  that with its partner's times the rest. So the rows are doubled, and any
  loss that heeds weights need not know of mixing.

  Args:
    outputs: name -> (B, ...) logits.
    batch: as `apply` returned it, or rows of that.

  Returns:
    Both with 2 B rows; as they are where nothing was mixed.
  """
  if MIX not in batch:
    return outputs, batch
  doubled = {
    name: jnp.concatenate([value, value]) for name, value in outputs.items()
  }
  return doubled, unmix_rows(batch)


def unmix_rows(
  batch: Mapping[str, jax.Array],
) -> Mapping[str, jax.Array]:
  """The labels and weights alone of `unmix`; what has no label is left out."""
  if MIX not in batch:
    return batch
  share, found = batch[MIX], {}
  for name in batch:
    if name.startswith(('label_', 'weight')):
      own, other = batch[name], batch[_PARTNER + name]
      if name.startswith('weight'):
        own, other = own * share, other * (1 - share)
      found[name] = jnp.concatenate([own, other])
  return found


def partner(values: jax.Array) -> jax.Array:
  """(B, ...) values, those of each pair exchanged."""
  pairs = values.reshape(values.shape[0] // 2, 2, *values.shape[1:])
  return pairs[:, ::-1].reshape(values.shape)


def inside_box(box: jax.Array, height: int, width: int) -> jax.Array:
  """(H, W) float32: 1 for pixels whose centre lies in a box, else 0.

  Args:
    box: (4,) row and column of the centre, height and width, as shares.
    height: H.
    width: W.
  """
  row = (jnp.arange(height)[:, None] + 0.5) / height
  column = (jnp.arange(width) + 0.5) / width
  inside = (jnp.abs(row - box[0]) < box[2] / 2) & (
    jnp.abs(column - box[1]) < box[3] / 2
  )
  return inside.astype(jnp.float32)


def beta(uniform: jax.Array, alpha: float) -> jax.Array:
  """A number of the distribution Beta(alpha, alpha) for a uniform one.

  By a table of the inverse distribution function: what JAX draws by rejection
  takes seconds to compile.
  """
  steps = 4096
  table = special.betaincinv(alpha, alpha, np.arange(steps + 2) / steps)
  table[steps:] = 1  # and one behind the end
  place = uniform * steps
  left = jnp.floor(place)
  at = jnp.asarray(table, jnp.float32)
  i = left.astype(jnp.int32)
  return at[i] + (place - left) * (at[i + 1] - at[i])


def _draw(key, o) -> tuple[jax.Array, jax.Array]:
  """Share of the example itself and a box that is the partner's, (4,).

  Of the two at most one does anything: the share is 1, or the box empty.
  """
  draw, share, *centre = jax.random.uniform(key, (4,))
  blend, side = jnp.float32(1), jnp.float32(0)
  if o.mixup:
    blend = jnp.where(draw < o.mixup, beta(share, o.mixup_alpha), blend)
  if o.cutmix:
    chosen = (draw >= o.mixup) & (draw < o.mixup + o.cutmix)
    drawn = jnp.sqrt(1 - beta(share, o.cutmix_alpha))
    side = jnp.where(chosen, drawn, side)
  # Boxes lie within the image, so that their area is what was drawn.
  centre = side / 2 + jnp.stack(centre) * (1 - side)
  return blend, jnp.concatenate([centre, jnp.stack([side, side])])
