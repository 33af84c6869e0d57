"""The table of a PyTorch state dict, made name by name."""

from collections.abc import Callable, Mapping

from rsna_jax import errors
from rsna_jax.models import port


def prefix(arrays: Mapping, firsts: tuple[str, ...], what: str) -> str:
  """What stands before all names of a backbone that another model wraps.

  Args:
    arrays: of the file.
    firsts: names of the first kernel, in the styles that are known.
    what: the network's name, for messages.

  Raises:
    errors.DataError: there is no backbone, or more than one.
  """
  found = sorted(
    key.removesuffix(first)
    for key in arrays
    for first in firsts
    if key == first or key.endswith(f'.{first}')
  )
  if len(found) > 1:
    raise errors.DataError(
      f'{what}: {len(found)} backbones are in it, as {found[0]!r} and '
      f'{found[1]!r}; save the one alone'
    )
  return found[0] if found else ''


class Table:
  """The entries of a plan, and what it leaves.

  Args:
    stored: the file.
    before: stands before all names; what does not bear it is left.
    rename: from the names here to those of the file.
  """

  def __init__(
    self,
    stored: port.Stored,
    before: str = '',
    rename: Callable[[str], str] = str,
  ):
    self.entries: dict[str, port.Entry] = {}
    self.left = {
      key: 'no part of the backbone'
      for key in stored.arrays
      if not key.startswith(before)
    }
    self._before, self._rename = before, rename

  def key(self, name: str) -> str:
    """The name in the file."""
    return self._before + self._rename(name)

  def add(self, name: str, target: str, transform=port.same) -> None:
    self.entries[self.key(name)] = port.Entry(target, transform)

  def conv(
    self, source: str, target: str, transform=port.torch_conv, bias=False
  ) -> None:
    self.add(f'{source}.weight', f'params/{target}/kernel', transform)
    if bias:
      self.add(f'{source}.bias', f'params/{target}/bias')

  def dense(self, source: str, target: str) -> None:
    self.conv(source, target, port.torch_dense, bias=True)

  def layer_norm(self, source: str, target: str) -> None:
    """`target` is the module that has scale and bias."""
    self.add(f'{source}.weight', f'params/{target}/scale')
    self.add(f'{source}.bias', f'params/{target}/bias')

  def batch_norm(self, source: str, target: str) -> None:
    """`target` is a `layers.BatchNorm`."""
    self.layer_norm(source, f'{target}/norm')
    for theirs, ours in (('running_mean', 'mean'), ('running_var', 'var')):
      self.add(f'{source}.{theirs}', f'batch_stats/{target}/norm/{ours}')
    self.left[self.key(f'{source}.num_batches_tracked')] = 'a count of batches'

  def classes(self, source: str) -> None:
    """The last layer, whose classes are none of ours."""
    for last in ('weight', 'bias'):
      self.left[self.key(f'{source}.{last}')] = port.CLASSES

  def plan(self, fields: Mapping, **more) -> port.Plan:
    return port.Plan(
      entries=self.entries, left=self.left, fields=fields, **more
    )
