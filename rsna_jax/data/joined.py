"""Several prepared data sets as one, so that a batch can hold rows of each."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from rsna_jax import errors
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import table as table_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Joined(dataset_lib.Dataset):
  """The rows of several data sets, in order.

  The fingerprint is of the first alone, so that figures on its rows are told
  to be of it.

  Attributes:
    sets: that are joined.
  """

  sets: tuple[dataset_lib.Dataset, ...] = ()

  @property
  def has_images(self) -> bool:
    """Whether `read` can be called."""
    return all(one.has_images for one in self.sets)

  def read(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
    """As `Dataset.read`, of the set that each row is of."""
    indices = np.asarray(indices, np.int64)
    starts = np.cumsum([0, *map(len, self.sets)])
    which = np.searchsorted(starts, indices, 'right') - 1
    found: list[bytes] = [b''] * len(indices)
    for one in np.unique(which).tolist():
      places = np.flatnonzero(which == one)
      images = self.sets[one].read(indices[places] - starts[one])
      for place, image in zip(places.tolist(), images, strict=True):
        found[place] = image
    return found


def join(sets: Sequence[dataset_lib.Dataset]) -> Joined:
  """One data set of the rows of several.

  Raises:
    errors.DataError: their specs differ.
  """
  first = sets[0]
  for other in sets[1:]:
    if other.spec != first.spec:
      raise errors.DataError(
        f'{other.name}: was not prepared as {first.name} was: prepare both '
        'with one spec'
      )
  return Joined(
    table=table_lib.concatenate([one.table for one in sets]),
    split=np.concatenate([one.split for one in sets]),
    spec=first.spec,
    fingerprint=first.fingerprint,
    name=' and '.join(one.name for one in sets),
    sets=tuple(sets),
  )


def open_extra(config) -> list[dataset_lib.Dataset]:
  """The data sets of `data.extra`, which have the spec of `data.dir`.

  A folder may hold another builder's data set than `data.name`: labels and
  columns have one meaning in all.

  Raises:
    errors.DataError: as `dataset.open_dataset`, of one of them.
  """
  found = []
  for folder in config.data.extra:
    c = config.copy_and_resolve_references()
    c.data.dir = folder
    if c.data.name != 'csv':
      names = (c.data.name, 'rsna_mammography', 'mammography_folders')
      there = [x for x in names if (pathlib.Path(folder) / x).is_dir()]
      c.data.name = (*there, c.data.name)[0]
    try:
      found.append(dataset_lib.open_dataset(c))
    except errors.DataError as error:
      raise errors.DataError(f'data.extra: {error}') from error
  return found
