"""Learning rates that fall with the depth below the head.

Each network's table says in which order its parts see the image; a part is
what shares one rate, such as a residual block or the stem. What is in no part
and not of the trunk is the head, whose rate is the whole one.
"""

import re
import types
from typing import Any

import jax
import optax

from rsna_jax import errors

# Patterns of each network's parts, first to last; groups order what one pattern
# stands for: numbers as numbers, letters as letters, what is missing first.
PARTS = types.MappingProxyType(
  {
    'cnn': (r'trunk/(?:Conv3x3|BatchNorm)_0/', r'trunk/Block_(\d+)/'),
    'convnext_small': (
      r'trunk/stem',
      r'trunk/(?:downsample|stage)(\d+)(?:_block(\d+))?',
    ),
    'density_cnn': (
      r'trunk/Conv3x3_0/',
      r'trunk/(?:Conv3x3_1|BatchNorm_0)/',
      r'trunk/(?:Conv3x3_2|BatchNorm_1)/',
      r'head/(?:Dense_0|BatchNorm_0)/',
      r'head/(?:Dense_1|BatchNorm_1)/',
    ),
    'efficientnetv2_s': (
      r'trunk/stem_',
      r'trunk/block(\d+)([a-z])/',
      r'trunk/top_',
    ),
    'meta': (),
    'xception': (r'trunk/block(\d+)_',),
  }
)


def name_of(path: tuple) -> str:
  """The path of a leaf as names with slashes between them."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def parts(names: list[str], network: str) -> list[int]:
  """The part of each parameter of a network, 0 seeing the image first.

  Args:
    names: paths of all parameters, such as `trunk/block1_conv1/kernel`.
    network: a key of `models.MODELS`.

  Returns:
    A number for each name; the head's is the number of the other parts.

  Raises:
    errors.ConfigError: the network has no table, or it misses a parameter.
  """
  if network not in PARTS:
    raise errors.ConfigError(
      f'optim.layer_decay: no order of layers is known for model.name='
      f'{network}; set optim.layer_decay=1.0, or choose '
      + ', '.join(sorted(PARTS))
    )
  keys = [_key(name, network) for name in names]
  order = {key: i for i, key in enumerate(sorted(set(keys) - {None}))}
  return [len(order) if key is None else order[key] for key in keys]


def scale(decay: float, network: str) -> optax.GradientTransformation:
  """Multiplies each update by decay ** (parts between it and the head).

  Args:
    decay: 1 leaves all as it is; 0.6 to 0.9 are usual.
    network: a key of `models.MODELS`.

  Source: Clark et al. 2020, arXiv:2003.10555; BEiT, ConvNeXt.
  """

  def init(params):
    factors(params, decay, network)  # refuses what has no order
    return optax.EmptyState()

  def update(updates, state, params=None):
    del params
    return jax.tree.map(
      lambda u, factor: u * factor, updates, factors(updates, decay, network)
    ), state

  return optax.GradientTransformation(init, update)


def factors(params: Any, decay: float, network: str) -> Any:
  """The factor of each parameter's learning rate, as a tree of floats."""
  found, structure = jax.tree_util.tree_flatten_with_path(params)
  depths = parts([name_of(path) for path, _ in found], network)
  head = max(depths) if _has_head(found, network) else max(depths) + 1
  return jax.tree.unflatten(structure, [decay ** (head - d) for d in depths])


def _has_head(found, network: str) -> bool:
  return any(_key(name_of(path), network) is None for path, _ in found)


def _key(name: str, network: str) -> tuple | None:
  """Where a parameter stands; None: in the head.

  Raises:
    errors.ConfigError: it is of the trunk, and the table has no part for it.
  """
  for number, pattern in enumerate(PARTS[network]):
    match = re.search(r'(?:^|/)' + pattern, name)
    if match:
      return number, *(_ordered(group) for group in match.groups())
  if 'trunk' in name.split('/'):
    raise errors.ConfigError(
      f'optim.layer_decay: {name} of {network} is in no part of '
      'optim.depth.PARTS; add a pattern for it'
    )
  return None


def _ordered(group: str | None) -> int:
  if group is None:
    return -1
  return int(group) if group.isdigit() else ord(group)
