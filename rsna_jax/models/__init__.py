"""The networks by name, made from a config and initialised on the host."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from rsna_jax import errors, schema
from rsna_jax.models import (
  cnn,
  convnext,
  density_cnn,
  efficientnetv2,
  heads,
  meta,
  xception,
)

MODELS = types.MappingProxyType(
  {
    'cnn': cnn.CNN,
    'convnext_small': convnext.ConvNeXtSmall,
    'density_cnn': density_cnn.DensityCNN,
    'efficientnetv2_s': efficientnetv2.EfficientNetV2S,
    'meta': meta.Meta,
    'xception': xception.Xception,
  }
)

_PADDINGS = types.MappingProxyType({'same': 'SAME', 'one': (1, 1)})


def create(
  config: ml_collections.ConfigDict, *, axis_name: str | None = None
) -> heads.Classifier:
  """The network that a config asks for.

  Args:
    config: see `config.default`.
    axis_name: of the devices that share a batch (`parallel.axis_name`); None
      under plain jit and for a single device.

  Raises:
    errors.ConfigError: `model.name` is not in `MODELS`, the network lacks a
      field that is set, or images are too small for it.
  """
  name = config.model.name
  if name not in MODELS:
    raise errors.ConfigError(
      f'model.name={name!r}: choose {", ".join(sorted(MODELS))}'
    )
  smallest = MODELS[name].SMALLEST
  if min(config.data.size) < smallest:
    raise errors.ConfigError(
      f'data.size={tuple(config.data.size)}: {name} needs at least {smallest} '
      'of height and width'
    )
  target = config.data.target
  return MODELS[name](
    **_fields(config),
    targets=((target, schema.TARGETS[target]),),
    width=config.model.width,
    depth=config.model.depth,
    pool=config.model.pool,
    dropout=config.model.dropout,
    dtype=jnp.dtype(config.train.dtype),
    axis_name=axis_name,
    forms=config.model.forms,
  )


def _fields(config: ml_collections.ConfigDict) -> dict:
  """Of the network alone, where they are not left to it.

  Raises:
    errors.ConfigError: the network has no such field.
  """
  given = {}
  for field in ('epsilon', 'input_scale'):
    if config.model[field]:
      given[field] = config.model[field]
  if config.model.pool_padding != 'auto':
    given['pool_padding'] = _PADDINGS[config.model.pool_padding]
  known = MODELS[config.model.name].__dataclass_fields__
  for field in given:
    if field not in known:
      raise errors.ConfigError(
        f'model.{field}={config.model[field]!r}: model.name='
        f'{config.model.name} has no such field; leave it out'
      )
  return given


def init(
  model: nn.Module,
  rng: jax.Array,
  image_size: tuple[int, int],
  meta_width: int,
) -> dict:
  """First parameters and statistics, equal on every host for equal keys.

  The network itself is only traced: what the parameters' own initialisers
  compute is all that runs.

  Args:
    model: what `create` returns.
    rng: PRNG key.
    image_size: (H, W).
    meta_width: M of the metadata.

  Returns:
    {'params': ..., 'batch_stats': ...}; a network without batch
    normalisation has empty statistics.
  """
  made = {}

  def trace(image, meta_BxM):
    with jax.ensure_compile_time_eval():
      made.update(model.init(rng, image, meta_BxM, False))

  jax.eval_shape(
    trace,
    jax.ShapeDtypeStruct((1, *image_size, 1), jnp.float32),
    jax.ShapeDtypeStruct((1, meta_width), jnp.float32),
  )
  return {'params': made['params'], 'batch_stats': made.get('batch_stats', {})}
