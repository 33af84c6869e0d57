"""Keras's weight files, layer by layer in their stored order.

A Keras 1 file bears names such as `convolution2d_1`, later ones `conv2d_4`, by
a counter of the process that wrote them: so weights go by the stored order, as
in Keras itself, and the names are held against it.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence

from rsna_jax.models import port

# Names that weights had in Keras 1, and have had since.
_ROLES = {
  'W': 'kernel',
  'b': 'bias',
  'running_mean': 'moving_mean',
  'running_std': 'moving_variance',  # a variance, whatever it is called
}
_KINDS = {
  'convolution2d': 'conv2d',
  'separableconvolution2d': 'separable_conv2d',
  'batchnormalization': 'batch_normalization',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
  """A layer with weights.

  Attributes:
    kind: its class in Keras, in snake case.
    name: in Keras; '' where it is numbered.
    created: its place among the layers of its kind as they were made; None:
      as stored.
    weights: (role, where it goes) in stored order; None: left. A role may be
      '' where it is not checked.
    parts: of a Sequential, (kind, number of weights) of its layers.
  """

  kind: str
  name: str
  weights: Sequence[tuple[str, port.Entry | None]]
  created: int | None = None
  parts: Sequence[tuple[str, int]] = ()

  def paths(self, path: str) -> list[str]:
    """Of its weights in a Keras 3 file that has it at `path`."""
    if not self.parts:
      return [f'{path}/vars/{i}' for i in range(len(self.weights))]
    return [
      f'{path}/layers/{kind}/vars/{i}'
      for kind, count in self.parts
      for i in range(count)
    ]


def conv(name: str, target: str, bias: bool = False, stem: bool = False):
  """A Conv2D whose kernel, and bias, go below `target`."""
  weights = [
    (
      'kernel',
      port.Entry(f'params/{target}/kernel', port.grey if stem else port.same),
    )
  ]
  if bias:
    weights.append(('bias', port.Entry(f'params/{target}/bias')))
  return Layer(kind='conv2d', name=name, weights=weights)


def batch_norm(name: str, target: str, created: int | None = None) -> Layer:
  """A BatchNormalization that goes to a `layers.BatchNorm`."""
  return Layer(
    kind='batch_normalization',
    name=name,
    created=created,
    weights=(
      ('gamma', port.Entry(f'params/{target}/norm/scale')),
      ('beta', port.Entry(f'params/{target}/norm/bias')),
      ('moving_mean', port.Entry(f'batch_stats/{target}/norm/mean')),
      ('moving_variance', port.Entry(f'batch_stats/{target}/norm/var')),
    ),
  )


def top(name: str = 'predictions') -> Layer:
  """The last Dense layer, whose classes are none of ours."""
  return Layer(
    kind='dense', name=name, weights=(('kernel', None), ('bias', None))
  )


def plan(
  layers: Sequence[Layer], stored: port.Stored, fields: dict, what: str
) -> port.Plan:
  """The port of a file.

  Args:
    layers: all of the network, in Keras's order; the last is the top, which a
      file may lack.
    stored: the file.
    fields: of the network, where the file does not tell them.
    what: the network's name, for messages.
  """
  if len(stored.epsilons) == 1:
    (epsilon,) = stored.epsilons
    fields = fields | {'epsilon': epsilon}
  find = _by_order if stored.form == 'layers' else _by_path
  placed, problems = find(list(layers), stored, what)
  problems = problems or _check_names(placed)
  if len(stored.epsilons) > 1:
    several = ', '.join(f'{x:g}' for x in sorted(stored.epsilons))
    problems.append(f'its normalisations have several epsilons: {several}')
  entries, left = {}, {}
  for layer, name, keys in placed:
    if len(keys) != len(layer.weights):
      problems.append(
        f'{name} has {len(keys)} arrays, {layer.name or layer.kind} has '
        f'{len(layer.weights)}'
      )
    for key, (role, entry) in zip(keys, layer.weights, strict=False):
      told = stored.form == 'layers' and role
      if told and _role(key, name) != role:
        problems.append(f'{key} stands where {role} is wanted')
      if entry is None:
        left[key] = port.CLASSES
      else:
        entries[key] = entry
  if problems:
    # What went astray by one cause is not named array by array.
    left |= {key: '' for key in stored.arrays if key not in entries}
  return port.Plan(entries=entries, left=left, fields=fields, problems=problems)


_Placed = list[tuple[Layer, str, list[str]]]  # layer, name in the file, keys


def _by_order(
  layers: list[Layer], stored: port.Stored, what: str
) -> tuple[_Placed, list[str]]:
  groups: dict[str, list[str]] = {}
  for key in stored.arrays:
    groups.setdefault(key.partition('/')[0], []).append(key)
  if len(groups) == len(layers) - 1:
    layers = layers[:-1]
  placed = [
    (layer, name, keys)
    for layer, (name, keys) in zip(layers, groups.items(), strict=False)
  ]
  if len(groups) == len(layers):
    return placed, []
  problem = (
    f'{len(groups)} layers with weights, {what} has {len(layers)}, or '
    f'{len(layers) - 1} without its top'
  )
  return placed, [problem, *_check_names(placed)]


def _by_path(
  layers: list[Layer], stored: port.Stored, what: str
) -> tuple[_Placed, list[str]]:
  """By the numbers that Keras 3 gives the layers of each kind in their order.

  What is missing is found as the arrays are.
  """
  placed, numbers = [], {}
  for layer in layers:
    number = numbers[layer.kind] = numbers.get(layer.kind, -1) + 1
    path = f'layers/{layer.kind}' + f'_{number}' * (number > 0)
    keys = layer.paths(path)
    if layer is layers[-1] and not any(key in stored.arrays for key in keys):
      continue
    placed.append((layer, stored.names.get(path, ''), keys))
  found = sum(key in stored.arrays for _, _, keys in placed for key in keys)
  wanted = sum(len(keys) for _, _, keys in placed)
  if 2 * found < wanted:
    return [], [f'{found} of the {wanted} arrays of {what} are in it']
  return placed, []


def _role(key: str, layer: str) -> str:
  """gamma, of a_layer/a_layer_gamma:0 as of a_layer/gamma."""
  name = key.rpartition('/')[2].partition(':')[0]
  name = name.removeprefix(f'{layer}_')
  return _ROLES.get(name, name)


def _check_names(placed: _Placed) -> list[str]:
  """What contradicts the order: a name, or the numbers of those without."""
  numbered: dict[str, list[tuple[int, int, str]]] = {}
  counts: dict[str, int] = {}
  for place, (layer, name, _) in enumerate(placed, start=1):
    counts[layer.kind] = counts.get(layer.kind, 0) + 1
    if name in ('', layer.name):
      continue
    kind, number = re.fullmatch(r'(.+?)(?:_(\d{1,6}))?', name).groups()
    if _KINDS.get(kind, kind) != layer.kind:
      wanted = layer.name or f'a {layer.kind}'
      return [f'layer {place} is {name}, {wanted} expected']
    created = counts[layer.kind] if layer.created is None else layer.created
    numbered.setdefault(layer.kind, []).append(
      (created, int(number or 0), name)
    )
  for kind, found in numbered.items():
    found.sort()
    for (_, before, _), (_, after, name) in itertools.pairwise(found):
      if after <= before:
        return [f'{name} stands out of order among the layers {kind}']
  return []
