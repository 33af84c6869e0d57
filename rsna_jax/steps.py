"""The training state, and one step of training and of prediction: pure.

The same functions run on one device and, with the name of an axis, on each of
many; `parallel` compiles them for either.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import optax

from rsna_jax import accumulation, losses, models, optim, parallel
from rsna_jax.data import augment as augmentation
from rsna_jax.data.augment import mix
from rsna_jax.models import layers, statistics
from rsna_jax.optim import freezing


@flax.struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: () int32, steps taken.
    params: of the network.
    batch_stats: moving statistics; {} for a network without them.
    opt_state: of the optimiser.
    ema_params: moving average of `params`; {} where none is kept.
    ema_batch_stats: moving average of `batch_stats`; {} where none is kept.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema_params: Any
  ema_batch_stats: Any


def create_state(
  model: nn.Module,
  tx: optax.GradientTransformation,
  config: ml_collections.ConfigDict,
  rng: jax.Array,
  *,
  meta_width: int,
  image_size: tuple[int, int] | None = None,
) -> TrainState:
  """The state before the first step.

  Args:
    model: what `models.create` returns.
    tx: what `optim.create` returns.
    config: `data.size` and `optim.ema` are read.
    rng: PRNG key of the weights.
    meta_width: M of the metadata.
    image_size: (H, W) where it is not `data.size`.
  """
  size = tuple(config.data.size) if image_size is None else image_size
  variables = models.init(model, rng, size, meta_width)
  params, batch_stats = variables['params'], variables['batch_stats']
  averaged = bool(config.optim.ema)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=tx.init(params),
    # Copies, since a donated state may hold no array twice.
    ema_params=jax.tree.map(jnp.copy, params) if averaged else {},
    ema_batch_stats=jax.tree.map(jnp.copy, batch_stats) if averaged else {},
  )


def to_float(image: jax.Array) -> jax.Array:
  """Grey values in [0, 1] as float32, from uint8, uint16 or floats."""
  if image.dtype == jnp.uint8:
    return image.astype(jnp.float32) / 255
  if image.dtype == jnp.uint16:
    return image.astype(jnp.float32) / 65535
  return image.astype(jnp.float32)


def inputs(batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Image (B, H, W, 1) in [0, 1] and metadata (B, M); either may be empty."""
  some = next(iter(batch.values()))
  image = batch.get('image', jnp.zeros((some.shape[0], 0, 0, 1), jnp.float32))
  meta = batch.get('meta', jnp.zeros((some.shape[0], 0), jnp.float32))
  return to_float(image), meta.astype(jnp.float32)


def extra_inputs(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """What a network takes by name beside image and metadata.

  Returns:
    `slots` (B, V, 3) int32 where each row has several images, else nothing.
  """
  return {'slots': batch['slots']} if 'slots' in batch else {}


def augmented(
  image: jax.Array, keys: jax.Array, options: ml_collections.ConfigDict
) -> jax.Array:
  """`augment.apply` of (B, H, W, 1), or of (B, V, H, W, 1) image by image.

  Args:
    image: floats in [0, 1].
    keys: (B,) PRNG keys.
    options: `config.augment`.
  """
  if image.ndim == 4:
    return augmentation.apply(image, keys, options)
  slots = jnp.arange(image.shape[1])
  fold = jax.vmap(jax.random.fold_in, (None, 0))
  each = jax.vmap(fold, (0, None))(keys, slots).reshape(-1)
  flat = image.reshape(-1, *image.shape[2:])
  return augmentation.apply(flat, each, options).reshape(image.shape)


def step_keys(
  rng: jax.Array, step: int | jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The keys of augmentation and of dropout, after `step` steps."""
  augment_key, dropout_key = jax.random.split(jax.random.fold_in(rng, step))
  return augment_key, dropout_key


def seen(
  batch: Mapping[str, jax.Array],
  key: jax.Array,
  augment: ml_collections.ConfigDict | None,
  axis: str | None = None,
) -> tuple[jax.Array, jax.Array, Mapping[str, jax.Array]]:
  """What a network in training is given of a batch.

  Args:
    batch: as in `train_step`.
    key: of augmentation.
    augment: `config.augment`; None leaves all as it is.
    axis: of the devices that share the batch; None under plain jit.

  Returns:
    Image, metadata, and the batch with what `mix.unmix` needs.
  """
  image, meta = inputs(batch)
  if augment is None:
    return image, meta, batch
  keys = layers.example_keys(key, image.shape[0], axis)
  image = augmented(image, keys, augment)
  return mix.apply(image, meta, batch, keys, augment)


def train_step(
  state: TrainState,
  batch: Mapping[str, jax.Array],
  rng: jax.Array,
  *,
  model: nn.Module,
  tx: optax.GradientTransformation,
  loss: losses.Loss,
  axis: str | None = None,
  augment: ml_collections.ConfigDict | None = None,
  ema: float = 0.0,
  freeze: freezing.Freeze | None = None,
  accumulate: int = 1,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One step of training.

  The loss is reduced over the devices inside the function that is
  differentiated, and the gradients are averaged besides: right under pmap, and
  under shard_map whether or not it tracks what varies.

  Args:
    state: before the step.
    batch: `image`, `meta`, `weight`, and what `loss` wants of B rows, or of
      this device's rows where `axis` is given.
    rng: PRNG key of the run, the same at every step and on every device.
    model: the network, with `axis` as its `axis_name`.
    tx: the optimiser.
    loss: what `losses.create` returns.
    axis: of the devices that share the batch; None under plain jit.
    augment: `config.augment`; None leaves the images as they are.
    ema: decay of the averaged weights; shorter at first, (1 + n) / (10 + n)
      at step n, so that the first weights are soon forgotten. 0: none.
    freeze: what stays as it is in this step; `tx` is of the same config.
    accumulate: parts in which a device's rows go through the network. The step
      is the same, but for batch normalisation, which sees a part at a time; its
      moving statistics follow the mean over the parts.

  Returns:
    The state after the step, and float32 scalars `loss`, `grad_norm` (before
    clipping), `weight` (of all examples) and, where the loss has several terms,
    a `loss_<term>` for each.
  """
  augment_key, dropout_key = step_keys(rng, state.step)
  image, meta, batch = seen(batch, augment_key, augment, axis)

  def mean_loss(params, examples):
    image, meta, part = examples
    if freeze is not None:
      params = freeze.stopped(params)
    outputs, updates = model.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      image,
      meta,
      True,
      **extra_inputs(part),
      rngs={'dropout': dropout_key},
      mutable=['batch_stats', *losses.SOWN],
    )
    outputs = {**outputs, **losses.sown(updates)}
    outputs, rows = mix.unmix(outputs, part)
    terms = loss(outputs, rows, axis, whole=mix.unmix_rows(batch))
    return terms['total'], (updates.get('batch_stats', {}), terms)

  slope = functools.partial(
    jax.value_and_grad(mean_loss, has_aux=True), state.params
  )
  examples = image, meta, batch
  with statistics.fixed(freeze.holds_statistics if freeze else None):
    if accumulate == 1:
      (value, (batch_stats, terms)), gradient = slope(examples)
    else:
      (value, (batch_stats, terms)), gradient = accumulation.summed(
        slope, examples, accumulate
      )
      batch_stats = jax.tree.map(lambda x: x / accumulate, batch_stats)
  gradient = parallel.pmean(gradient, axis)
  updates, opt_state = tx.update(
    gradient,
    state.opt_state,
    state.params,
    **({} if freeze is None else {'frozen': True}),
  )
  params = optax.apply_updates(state.params, updates)
  ema_params, ema_batch_stats = state.ema_params, state.ema_batch_stats
  if ema:
    n = state.step.astype(jnp.float32)
    rate = 1 - jnp.minimum(ema, (1 + n) / (10 + n))
    ema_params = optax.incremental_update(params, ema_params, rate)
    ema_batch_stats = optax.incremental_update(
      batch_stats, ema_batch_stats, rate
    )
  after = TrainState(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    ema_params=ema_params,
    ema_batch_stats=ema_batch_stats,
  )
  if freeze is not None:
    after = kept(state, after, freeze)
  metrics = {
    'loss': value,
    'grad_norm': optax.tree.norm(gradient),
    'weight': parallel.psum(jnp.sum(batch['weight'].astype(jnp.float32)), axis),
  }
  if len(terms) > 2:  # the total and more than one term
    metrics |= {f'loss_{k}': v for k, v in terms.items() if k != 'total'}
  return after, metrics


def kept(
  before: TrainState, after: TrainState, freeze: freezing.Freeze
) -> TrainState:
  """The state after a step, with every bit of what is frozen from before."""
  return after.replace(
    params=freeze.keep(before.params, after.params),
    batch_stats=freeze.keep_statistics(before.batch_stats, after.batch_stats),
    ema_params=freeze.keep(before.ema_params, after.ema_params),
    ema_batch_stats=freeze.keep_statistics(
      before.ema_batch_stats, after.ema_batch_stats
    ),
  )


def variables(state: TrainState) -> dict[str, Any]:
  """What predicts: averaged weights where they are kept, or slow ones."""
  if state.ema_params:
    return {'params': state.ema_params, 'batch_stats': state.ema_batch_stats}
  slow = optim.slow_weights(state.opt_state)
  return {
    'params': state.params if slow is None else slow,
    'batch_stats': state.batch_stats,
  }


def raw(state: TrainState) -> TrainState:
  """The state of which the weights as they are predict, not their average."""
  if not state.ema_params:
    return state
  return state.replace(
    ema_params=state.params, ema_batch_stats=state.batch_stats
  )


def predict_step(
  state: TrainState,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  axis: str | None = None,
) -> dict[str, jax.Array]:
  """Logits of each target, (B, K) float32, for the rows of a batch.

  Args:
    state: its averaged weights are used where it keeps them.
    batch: `image` and `meta` of B rows; the rest is not looked at.
    model: the network.
    axis: unused, since no row looks at another; as in `train_step`.
  """
  del axis
  image, meta = inputs(batch)
  return model.apply(
    variables(state), image, meta, False, **extra_inputs(batch)
  )
