"""Which form the layers of a network take: fast, fused, or plain ones.

All give the same values and gradients, up to rounding. A network's field
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
    name: 'fast' for what XLA runs fast on CPUs, 'fused' for kernels for NVIDIA
      GPUs, 'plain' for the operations of Flax and lax, 'auto' for fast on CPUs,
      fused on NVIDIA GPUs and plain elsewhere.

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


def fused() -> bool:
  """Whether a layer that is traced now takes its fused form."""
  name = _chosen.get()
  return name == 'fused' or (name == 'auto' and on_nvidia())


def on_nvidia() -> bool:
  """Whether the kernels run as such; elsewhere they are interpreted."""
  return (
    jax.default_backend() == 'gpu'
    and 'cuda' in jax.devices()[0].client.platform_version.lower()
  )
