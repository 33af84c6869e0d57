"""The networks by name, made from a config and initialised on the host."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from rsna_jax import auxiliary, errors, schema
from rsna_jax.models import (
  cnn,
  convnext,
  density_cnn,
  efficientnetv2,
  forms,
  global_local,
  heads,
  many_view,
  meta,
  xception,
)
from rsna_jax.options import loss as loss_options
from rsna_jax.options import model as model_options

MODELS = types.MappingProxyType(
  {
    'cnn': cnn.CNN,
    'convnext_small': convnext.ConvNeXtSmall,
    'density_cnn': density_cnn.DensityCNN,
    'efficientnetv2_s': efficientnetv2.EfficientNetV2S,
    'global_local': global_local.GlobalLocal,
    'many_view': many_view.ManyView,
    'meta': meta.Meta,
    'xception': xception.Xception,
  }
)

# Networks that are made of another one, `model.trunk`.
_MADE_OF = types.MappingProxyType(
  {'global_local': global_local.of, 'many_view': many_view.of}
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
  trunk = trunk_name(config)
  smallest = MODELS[trunk].SMALLEST
  if name == 'global_local':
    if config.model.patch_size < smallest:
      raise errors.ConfigError(
        f'model.patch_size={config.model.patch_size}: {trunk} needs at least '
        f'{smallest}'
      )
    smallest *= config.model.global_stride
  if min(config.data.size) < smallest:
    raise errors.ConfigError(
      f'data.size={tuple(config.data.size)}: {trunk} needs at least {smallest} '
      'of height and width'
    )
  target = config.data.target
  return _network(config)(
    **_fields(config),
    targets=(
      (target, schema.TARGETS[target]),
      *(
        (name, auxiliary.TARGETS[name]) for name in loss_options.targets(config)
      ),
    ),
    width=config.model.width,
    depth=config.model.depth,
    pool=config.model.pool,
    dropout=config.model.dropout,
    metadata_embedding=config.model.metadata_embedding,
    dtype=jnp.dtype(config.train.dtype),
    axis_name=axis_name,
    forms=_forms(config, axis_name),
  )


def trunk_name(config: ml_collections.ConfigDict) -> str:
  """Whose weights a config's network can take: its own, or its trunk's.

  Raises:
    errors.ConfigError: there is no such trunk.
  """
  if config.model.name not in _MADE_OF:
    return config.model.name
  trunk = config.model.trunk
  if trunk not in model_options.TRUNKS:
    raise errors.ConfigError(
      f'model.trunk={trunk!r}: choose {", ".join(model_options.TRUNKS)}'
    )
  return trunk


def _network(config: ml_collections.ConfigDict) -> type[heads.Classifier]:
  """The class of the network."""
  found = MODELS[trunk_name(config)]
  return _MADE_OF.get(config.model.name, lambda x: x)(found)


def _forms(config: ml_collections.ConfigDict, axis_name: str | None) -> str:
  """Plain where XLA shares out the work: it would gather what kernels read.

  Slices of rows likewise, where devices share images.
  """
  if config.model.forms == 'fused' and not forms.on_nvidia():
    raise errors.ConfigError(
      'model.forms=fused: needs an NVIDIA GPU, here is '
      f'{jax.default_backend()}; choose auto'
    )
  if config.model.forms != 'auto':
    return config.model.forms
  rows = config.parallel.space > 1
  alone = axis_name is not None or jax.device_count() == 1
  return 'plain' if rows or (forms.on_nvidia() and not alone) else 'auto'


def _fields(config: ml_collections.ConfigDict) -> dict:
  """Of the network alone, where they are not left to it.

  Raises:
    errors.ConfigError: the network has no such field.
  """
  given = {}
  for field in ('epsilon', 'input_scale', 'drop_path'):
    if config.model[field]:
      given[field] = config.model[field]
  if config.model.pool_padding != 'auto':
    given['pool_padding'] = _PADDINGS[config.model.pool_padding]
  if config.model.remat != 'none':
    given['remat'] = config.model.remat
  if config.model.name == 'many_view':
    given['compare'] = config.data.group == 'exam'
    given['hide'] = config.model.hide_codes
  if config.model.name == 'global_local':
    for field in model_options.GLOBAL_LOCAL:
      given[field] = config.model[field]
  known = _network(config).__dataclass_fields__
  for field in given:
    if field not in known:
      raise errors.ConfigError(
        f'model.{field}={config.model[field]!r}: model.name='
        f'{trunk_name(config)} has no such field; leave it out'
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
  # Kernels cannot be traced where constants are computed at once.
  plain = model.clone(forms='plain')

  def trace(image, meta_BxM):
    with jax.ensure_compile_time_eval():
      made.update(plain.init(rng, image, meta_BxM, False))

  jax.eval_shape(
    trace,
    jax.ShapeDtypeStruct((1, *image_size, 1), jnp.float32),
    jax.ShapeDtypeStruct((1, meta_width), jnp.float32),
  )
  return {'params': made['params'], 'batch_stats': made.get('batch_stats', {})}
