"""Which of two forms the layers of a network take: fast ones, or plain ones.

Both give the same values and gradients, up to rounding. A network's field
`forms` holds while the network is traced, so that no layer has to be given it
and a network made of others' layers cannot forget one.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

from rsna_jax import errors
from rsna_jax.options import model

NAMES = model.FORMS
_chosen = contextvars.ContextVar('forms', default='auto')


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
  """Layers that are traced inside take the forms `name`.

  Args:
    name: 'fast' for what XLA runs fast on CPUs, 'plain' for the operations of
      Flax and lax, 'auto' for fast on CPUs and plain elsewhere.

  Raises:
    errors.ConfigError: there are no such forms.
  """
  if name not in NAMES:
    raise errors.ConfigError(f'model.forms={name!r}: choose {", ".join(NAMES)}')
  token = _chosen.set(name)
  try:
    yield
  finally:
    _chosen.reset(token)


def fast() -> bool:
  """Whether a layer that is traced now takes its fast form."""
  name = _chosen.get()
  return name == 'fast' or (name == 'auto' and jax.default_backend() == 'cpu')
