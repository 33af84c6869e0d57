"""Random changes of training images, compiled into the training step.

Each image has a key of its own, so its change does not depend on the batch or
on the device that it lands on. All geometry is one bilinear resampling. What
mixes two examples is in `mix`.
"""

import jax
import jax.numpy as jnp
import ml_collections

from rsna_jax.data.augment import blemish, geometry, tone

# Numbers that are drawn at once for the options that came later; each has its
# place, so that switching one on leaves what the others draw as it was.
_MORE = (
  *('shear_rows', 'shear_columns', 'flip_horizontal'),
  *('box_top', 'box_bottom', 'box_left', 'box_right'),
  *('crop_top', 'crop_bottom', 'crop_left', 'crop_right'),
  *('gamma', 'downscale', 'noise', 'polarity', 'holes'),
)
# Of a key, what is folded into it for each of these; `mix` has one, too.
_SCALARS, _ELASTIC, _GRID, _CURVE, _NOISE, _HOLES = 1, 2, 3, 4, 5, 6


def apply(
  images: jax.Array, keys: jax.Array, options: ml_collections.ConfigDict
) -> jax.Array:
  """Changes each image as its key says; see `options.augment` for what.

  In order: geometry, cropped edges, a lower resolution, contrast and
  brightness, gamma, a tone curve, noise, black rectangles, polarity.

  Args:
    images: (B, H, W, 1) floats in [0, 1].
    keys: (B,) PRNG keys.
    options: `config.augment`; what is 0 is left out, and with all at 0 the
      images come back as they are. What mixes examples is not looked at.

  Returns:
    (B, H, W, 1) float32 in [0, 1]; 0 where nothing was before.
  """
  o = options
  if images.size == 0 or not any((geometric(o), tonal(o), blemishing(o))):
    return images

  def one(image_HxW, key):
    # One draw for all: each call of a generator is slow to compile.
    first = jax.random.uniform(key, (7,), minval=-1.0, maxval=1.0)
    more = _more(key)
    image_HxW = _reshape(image_HxW, key, first, more, o)
    if o.crop:
      image_HxW = blemish.crop(image_HxW, _crop(more, o))
    if o.downscale:
      image_HxW = blemish.downscale(
        image_HxW, 1 + _share(more['downscale']) * o.downscale
      )
    image_HxW = _retone(image_HxW, key, first, more, o)
    if o.noise:
      normal = jax.random.normal(_fold(key, _NOISE), (image_HxW.size,))
      normal = normal.reshape(image_HxW.shape)
      image_HxW = blemish.noise(
        image_HxW, normal * _share(more['noise']) * o.noise
      )
    if o.cutout:
      boxes = _share(geometry.uniform(_fold(key, _HOLES), (o.cutout, 4)))
      count = jnp.floor(_share(more['holes']) * (o.cutout + 1))
      image_HxW = blemish.cutout(image_HxW, boxes, count, o.cutout_size)
    if o.polarity:
      inverted = _share(more['polarity']) < o.polarity
      image_HxW = jnp.where(inverted, 1 - image_HxW, image_HxW)
    return image_HxW

  return jax.vmap(one)(images[..., 0].astype(jnp.float32), keys)[..., None]


def geometric(options: ml_collections.ConfigDict) -> bool:
  """Whether anything moves pixels."""
  o = options
  return bool(o.flip_vertical or o.flip_horizontal or _resampled(o))


def tonal(options: ml_collections.ConfigDict) -> bool:
  """Whether anything maps grey values to others."""
  o = options
  return bool(
    o.brightness or o.contrast or o.gamma or o.tone_curve or o.polarity
  )


def blemishing(options: ml_collections.ConfigDict) -> bool:
  """Whether anything takes away what an image shows."""
  o = options
  return bool(o.crop or o.downscale or o.noise or o.cutout)


def _resampled(o) -> bool:
  affine = o.rotation_deg or o.scale or o.shift or o.shear_deg or o.box_jitter
  return bool(affine or o.elastic or o.grid or o.crop)


def _fold(key, what: int):
  return jax.random.fold_in(key, what)


def _more(key) -> dict[str, jax.Array]:
  """A number in [-1, 1) for each of `_MORE`; unused ones cost nothing."""
  draws = geometry.uniform(_fold(key, _SCALARS), (len(_MORE),))
  return dict(zip(_MORE, draws, strict=True))


def _share(draw):
  """From [-1, 1) to [0, 1)."""
  return (draw + 1) / 2


def _crop(more, o) -> jax.Array:
  """(4,) shares that are cut off: top, bottom, left, right."""
  names = ('crop_top', 'crop_bottom', 'crop_left', 'crop_right')
  return jnp.stack([_share(more[name]) * o.crop for name in names])


def _reshape(image_HxW, key, first, more, o) -> jax.Array:
  """All that moves pixels, in one resampling; flips alone are exact."""
  flip = _share(first[0]) < o.flip_vertical
  mirror = _share(more['flip_horizontal']) < o.flip_horizontal
  if not _resampled(o):
    if o.flip_vertical:
      image_HxW = jnp.where(flip, image_HxW[::-1], image_HxW)
    if o.flip_horizontal:
      image_HxW = jnp.where(mirror, image_HxW[:, ::-1], image_HxW)
    return image_HxW
  shape = image_HxW.shape
  matrix = geometry.affine(
    shape,
    angle_deg=first[1] * o.rotation_deg,
    zoom=1 + first[2] * o.scale,
    shift=first[3:5] * o.shift,
    flip=flip,
    mirror=mirror if o.flip_horizontal else None,
    shear_deg=jnp.stack([more['shear_rows'], more['shear_columns']])
    * o.shear_deg
    if o.shear_deg
    else None,
  )
  if o.box_jitter:
    edges = [more[f'box_{edge}'] for edge in ('top', 'bottom', 'left', 'right')]
    # Black to the left of the chest wall would be no breast box.
    edges[2] = jnp.maximum(edges[2], 0)
    matrix = geometry.through_box(
      matrix, jnp.stack(edges) * o.box_jitter, shape
    )
  y, x = geometry.coordinates(matrix, shape)
  if o.elastic:
    move = geometry.elastic(_fold(key, _ELASTIC), shape, o)
    y, x = y + move[0], x + move[1]
  if o.grid:
    rows, columns = geometry.grid(_fold(key, _GRID), shape, o)
    y, x = y + rows[:, None], x + columns
  if o.crop:
    # What is left after the cut stands at the chest wall again.
    x = x + _crop(more, o)[2] * shape[1]
  return geometry.resample_at(image_HxW, y, x)


def _retone(image_HxW, key, first, more, o) -> jax.Array:
  if o.brightness or o.contrast:
    image_HxW = tone.contrast_and_brightness(
      image_HxW, first[5] * o.contrast, first[6] * o.brightness
    )
  if o.gamma:
    image_HxW = image_HxW ** ((1 + o.gamma) ** more['gamma'])
  if o.tone_curve:
    draws = geometry.uniform(_fold(key, _CURVE), (tone.SEGMENTS,))
    image_HxW = tone.monotone(image_HxW, 1 + draws * o.tone_curve)
  return image_HxW
