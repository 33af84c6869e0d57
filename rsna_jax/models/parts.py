"""Which examples of a batch a network is looking at, where it sees a part.

Dropout and its kin draw by an example's place in the whole batch. Where a batch
goes through the network in parts, what is traced inside `of` knows the places,
so parts draw what the whole would have.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class _Part(NamedTuple):
  number: jax.Array | int
  count: int
  rows: int


_current = contextvars.ContextVar('part', default=None)


@contextlib.contextmanager
def of(number: jax.Array | int, count: int, rows: int) -> Iterator[None]:
  """What is traced inside sees the rows number, number + count, and so on.

  Args:
    number: of the part, from 0; it may be traced.
    count: of the parts.
    rows: of a part, on one device.
  """
  token = _current.set(_Part(number, count, rows))
  try:
    yield
  finally:
    _current.reset(token)


def places(count: int, axis_name: str | None) -> jax.Array:
  """(count,) places in the whole batch of what a device has before it.

  Args:
    count: rows of the device's part, or images of these rows, equally many of
      each.
    axis_name: of the devices that share the batch; None under plain jit.
  """
  index, total, part = jnp.arange(count), count, _current.get()
  if part is not None:
    each = count // part.rows
    row = index // each * part.count + part.number
    index, total = row * each + index % each, count * part.count
  if axis_name is not None:
    index = index + lax.axis_index(axis_name) * total
  return index
