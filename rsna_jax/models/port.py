"""A port of weights: a table from source keys to targets, and its strict use.

Shapes prove little, as many arrays of a network have the same one: so a table
names every source, and each target is filled exactly once.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rsna_jax import errors

CLASSES = 'the classes of its last layer are not ours'
_SHOWN = 8  # problems that a message names


class PortError(errors.DataError):
  """A file does not hold the weights that it has to.

  Attributes:
    problems: all that is wrong, a line each.
  """

  def __init__(self, where: str, problems: Sequence[str]):
    shown = '; '.join(problems[:_SHOWN])
    more = len(problems) - _SHOWN
    super().__init__(f'{where}: {shown}' + f'; and {more} more' * (more > 0))
    self.problems = tuple(problems)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
  """What a file of weights holds.

  Attributes:
    form: 'layers' (Keras, by order), 'paths' (Keras 3) or 'names' (PyTorch).
    arrays: by key, in the order of the file; of 'layers' a key is the name of
      a layer, a stroke, and that of the weight.
    names: of 'paths', the names of layers by path, as far as they are told.
    epsilons: of normalisation, as a stored model description has them.
  """

  form: str
  arrays: Mapping[str, np.ndarray]
  names: Mapping[str, str] = dataclasses.field(default_factory=dict)
  epsilons: frozenset[float] = frozenset()


def same(x: np.ndarray) -> np.ndarray:
  return x


def keras_depthwise(x: np.ndarray) -> np.ndarray:
  """(h, w, C, 1) -> (h, w, 1, C)."""
  return np.transpose(x, (0, 1, 3, 2))


def torch_conv(x: np.ndarray) -> np.ndarray:
  """(out, in, h, w), of depthwise ones (C, 1, h, w), -> (h, w, in, out)."""
  return np.transpose(x, (2, 3, 1, 0))


def torch_dense(x: np.ndarray) -> np.ndarray:
  """(out, in) -> (in, out)."""
  return np.transpose(x, (1, 0))


def grey(x: np.ndarray) -> np.ndarray:
  """A first kernel (h, w, 3, D) for a grey image in place of three equal ones.

  The sum of what each channel would have given is the same number, as far as
  all three are scaled alike.
  """
  if x.ndim != 4 or x.shape[2] not in (1, 3):
    raise ValueError('1 or 3 input channels wanted')
  return x.sum(axis=2, keepdims=True, dtype=np.float64)


def torch_grey(x: np.ndarray) -> np.ndarray:
  """`grey` of (D, 3, h, w)."""
  return grey(torch_conv(x))


@dataclasses.dataclass(frozen=True)
class Entry:
  """Where an array goes, and what has to become of it."""

  target: str
  transform: Callable[[np.ndarray], np.ndarray] = same


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """The port of one file.

  Attributes:
    entries: by source key.
    left: why a source key is not loaded.
    fields: of the network, that these weights were trained with.
    problems: found while the plan was made.
    added: to a target, from the arrays of the file.
  """

  entries: Mapping[str, Entry]
  left: Mapping[str, str]
  fields: Mapping[str, Any]
  problems: Sequence[str] = ()
  added: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = (
    dataclasses.field(default_factory=dict)
  )


def fill(
  plan: Plan,
  arrays: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  where: str,
) -> dict[str, np.ndarray]:
  """The targets' arrays in float32, each filled exactly once.

  Args:
    plan: of the file.
    arrays: of the file, by source key.
    shapes: of all targets.
    where: the file, for messages.

  Raises:
    PortError: an array is missing, additional, misshapen, not of finite
      floats, or a target is filled twice or not at all.
  """
  there = sum(key in arrays for key in plan.entries)
  if 2 * there < len(plan.entries):
    text = f'{there} of the {len(plan.entries)} arrays of the network are in it'
    raise PortError(where, [f'{text}: it is of another; choose its --model'])
  problems = list(plan.problems)
  found = {}
  for key, entry in plan.entries.items():
    if key not in arrays:
      problems.append(f'{key} is missing')
      continue
    shape = shapes.get(entry.target)
    if shape is None:
      problems.append(f'{key} has no place in the network')
      continue
    if entry.target in found:
      problems.append(f'{key} comes after another for {entry.target}')
      continue
    value, problem = _convert(arrays[key], entry, shape)
    if problem:
      problems.append(f'{key} {problem}')
    else:
      found[entry.target] = value
  for key in arrays:
    if key not in plan.entries and key not in plan.left:
      problems.append(f'{key} is additional')
  planned = collections.Counter(e.target for e in plan.entries.values())
  if not plan.problems:
    problems += [f'nothing fills {t}' for t in shapes if not planned[t]]
  if problems:
    raise PortError(where, problems)
  for target, more in plan.added.items():
    found[target] = (found[target] + more(arrays)).astype(np.float32)
  return found


def _convert(x: np.ndarray, entry: Entry, shape) -> tuple[Any, str]:
  """(the array, '') or (None, what is wrong with it)."""
  if x.dtype.kind != 'f':
    return None, f'is {x.dtype}, floats wanted'
  try:
    value = entry.transform(x)
  except ValueError:
    value = None
  if value is None or value.shape != tuple(shape):
    return None, f'has the shape {_text(x.shape)}, for {_text(shape)}'
  with np.errstate(over='ignore'):
    value = np.ascontiguousarray(value, np.float32)
  if not np.isfinite(value).all():
    return None, 'has values that are not finite'
  if entry.target.endswith('/var') and (value < 0).any():
    return None, 'has negative variances'
  return value, ''


def _text(shape) -> str:
  return 'x'.join(map(str, shape)) or 'a number'
