"""Which axes of the devices a value varies along, inside shard_map."""

import jax
from jax import lax


def axes(x: jax.Array) -> frozenset[str]:
  """The names of the axes along which devices may hold different values."""
  aval = jax.typeof(x)
  if hasattr(aval, 'vma'):
    return aval.vma
  return aval.manual_axis_type.varying


def like(x: jax.Array, value: jax.Array) -> jax.Array:
  """`value`, allowed to vary wherever `x` does.

  A rule of differentiation of our own gives a parameter that all devices share
  a gradient of one device's examples. Made varying outside the rule, it is
  summed over the devices by the rules of JAX.
  """
  missing = axes(x) - axes(value)
  return lax.pcast(value, tuple(missing), to='varying') if missing else value


def struct(
  shape: tuple[int, ...], dtype: jax.typing.DTypeLike, like: jax.Array
) -> jax.ShapeDtypeStruct:
  """Of what a kernel makes that varies wherever `like` does."""
  if hasattr(jax.typeof(like), 'vma'):
    return jax.ShapeDtypeStruct(shape, dtype, vma=axes(like))
  return jax.ShapeDtypeStruct(
    shape, dtype, manual_axis_type=jax.typeof(like).manual_axis_type
  )
