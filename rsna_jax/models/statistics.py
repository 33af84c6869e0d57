"""Batch normalisation by moving statistics, in parts of a network."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn

from rsna_jax.models import layers

# Under which a `layers.BatchNorm` keeps its statistics.
_NAME = 'norm'


@contextlib.contextmanager
def fixed(holds: Callable[[Sequence[str]], bool] | None) -> Iterator[None]:
  """Normalisations that are traced inside do as in prediction where it holds.

  They use their moving statistics, which stay as they are.

  Args:
    holds: of the path of a normalisation's statistics, as names; None: it
      holds nowhere.
  """
  if holds is None:
    yield
    return

  def intercept(call, args, kwargs, context):
    module = context.module
    if (
      isinstance(module, layers.BatchNorm)
      and context.method_name == '__call__'
      and holds((*module.path, _NAME))
    ):
      # By position or by name; train is the one that is changed.
      given = dict(zip(('x', 'train', 'defer'), args, strict=False)) | kwargs
      return call(**given | {'train': False})
    return call(*args, **kwargs)

  with nn.intercept_methods(intercept):
    yield
