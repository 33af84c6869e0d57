"""Feature maps whose rows lie on several devices.

The compiler hands the sharing of an image's rows on from layer to layer, but
stops where the devices do not divide them: the 512 rows of an image are 255
behind a convolution of Xception. So what each layer returns is laid out
explicitly; what the rows at the edges need of a neighbour is exchanged.
"""

import contextlib
from collections.abc import Iterator

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@contextlib.contextmanager
def shared(mesh: Mesh, rows: str) -> Iterator[None]:
  """Feature maps of modules that are traced inside are shared by rows.

  Args:
    mesh: of an axis for examples, the first, and of `rows`.
    rows: the axis of the devices that share an image.
  """
  sharding = NamedSharding(mesh, P(mesh.axis_names[0], rows))
  least = mesh.shape[rows]

  def intercept(call, args, kwargs, context):
    del context
    result = call(*args, **kwargs)
    # Maps with fewer rows than devices are small, and left to the compiler.
    if not hasattr(result, 'ndim') or result.ndim != 4:
      return result
    if result.shape[1] < least:
      return result
    return jax.lax.with_sharding_constraint(result, sharding)

  with nn.intercept_methods(intercept):
    yield
