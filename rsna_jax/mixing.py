"""The rows that a run trains on: of its data set, and of those mixed in.

Evaluation knows the data set alone; what is mixed in is for training, and no
patient or picture that the data set holds out comes back through it.
"""

import dataclasses

import numpy as np

from rsna_jax import division, errors, schema
from rsna_jax.data import dataset as dataset_lib
from rsna_jax.data import groups as groups_lib
from rsna_jax.data import joined, order
from rsna_jax.options import data as data_options
from rsna_jax.report import leaks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """What batches are made of.

  Attributes:
    data: the data set, with what is mixed in behind it.
    rows: (N,) row numbers of `data` to train on, the data set's own first.
    own: how many of them are the data set's own.
    plan: the order of `rows`, or of `groups`.
    groups: of `rows`, where an example is a breast; None where it is an image.
    fingerprints: of the sets mixed in.
  """

  data: dataset_lib.Dataset
  rows: np.ndarray
  own: int
  plan: order.TrainOrder | order.MixedOrder
  groups: groups_lib.Groups | None = None
  fingerprints: tuple[str, ...] = ()


def gather(c, data: dataset_lib.Dataset) -> Training:
  """The training rows of a run and their order.

  Args:
    c: the config.
    data: of `data.dir`, opened.

  Raises:
    errors.DataError: no rows to train on, a set that is not usable, or a kind
      of example that batches need is not there.
  """
  parts = division.divide(c, data)
  labelled = np.flatnonzero(data.split == 'train')
  rows = labelled[(parts == 'train') & _known(c, data)[labelled]]
  if not len(rows):
    raise errors.DataError(
      f'{c.data.dir}: no image to train on: use more patients or fewer '
      'data.folds'
    )
  if not c.data.extra:
    groups = _groups(c, data, rows)
    return Training(
      data=data,
      rows=rows,
      own=len(rows),
      plan=order.TrainOrder(
        _of_examples(_positive(data, rows), groups),
        c.train.batch_size,
        _positives(c),
        c.seed,
        hard=_of_examples(_hard(c, data, rows), groups),
        hard_weight=c.data.hard_weight,
      ),
      groups=groups,
    )
  held_out = labelled[parts != 'train']
  extra = joined.open_extra(c)
  chosen = []
  for one in extra:
    allowed = _allowed(c, one, data, held_out)
    chosen.append(allowed[_known(c, one)[allowed]])
    if not len(chosen[-1]):
      raise errors.DataError(
        f'{one.name}: data.extra: no row of it can be drawn: its rows have no '
        f'{c.data.target}, or their patients are held out in {c.data.dir}: '
        'leave it out'
      )
  starts = np.cumsum([len(data), *map(len, extra[:-1])])
  behind = [start + of for start, of in zip(starts, chosen, strict=True)]
  all_data = joined.join([data, *extra])
  all_rows = np.concatenate([rows, *behind])
  groups = _groups(c, all_data, all_rows)
  labels = _of_examples(_positive(all_data, all_rows), groups)
  hard = _of_examples(_hard(c, all_data, all_rows), groups)
  # People of joined sets stay apart, so that no breast is of two.
  own = len(rows) if groups is None else groups.of_image[len(rows)]
  plan = order.MixedOrder(
    labels[:own],
    labels[own:],
    c.train.batch_size,
    data_options.extra_examples(c),
    _positives(c),
    c.seed,
    hard=hard[:own],
    extra_hard=hard[own:],
    hard_weight=c.data.hard_weight,
  )
  return Training(
    data=all_data,
    rows=all_rows,
    own=len(rows),
    plan=plan,
    groups=groups,
    fingerprints=tuple(one.fingerprint for one in extra),
  )


def _groups(c, data, rows: np.ndarray) -> groups_lib.Groups | None:
  if c.data.group == 'image':
    return None
  return groups_lib.of_rows(
    data,
    rows,
    views=c.data.views,
    compare=c.data.group == 'exam',
    seed=c.seed,
  )


def _of_examples(
  labels: np.ndarray, groups: groups_lib.Groups | None
) -> np.ndarray:
  """Labels of images as those of what an example is."""
  return labels if groups is None else labels[groups.first]


def _allowed(c, extra, data, held_out: np.ndarray) -> np.ndarray:
  """Rows of a set mixed in that may be drawn.

  Not of a patient that the data set holds out, nor with the pixels of one of
  its pictures, where `prepare` noted them.
  """
  labelled = np.flatnonzero(extra.split == 'train')
  if c.data.extra_rows == 'train':
    labelled = labelled[division.divide_extra(c, extra) == 'train']
  ids = extra.table['patient_id'][labelled]
  allowed = ~np.isin(ids, data.table['patient_id'][held_out])
  hashes, own = leaks.read_hashes(extra.name), leaks.read_hashes(data.name)
  if hashes and own:
    images = data.table['image_id'][held_out].tolist()
    secret = {own[x] for x in images if x in own}
    allowed &= [
      hashes.get(x) not in secret
      for x in extra.table['image_id'][labelled].tolist()
    ]
  return labelled[allowed]


def _known(c, data: dataset_lib.Dataset) -> np.ndarray:
  """(len(data),) bool: rows with a label of the target."""
  labels = schema.target_labels(data.table.columns, c.data.target)
  return labels != schema.MISSING


def _positives(c) -> int | np.ndarray:
  """Positives of a batch: one number, or one for each step of a schedule."""
  if c.data.positives_final == -1:
    return c.data.positives_per_batch
  return order.linear(
    c.data.positives_per_batch,
    c.data.positives_final,
    c.data.positives_until,
  )


def _hard(c, data: dataset_lib.Dataset, rows: np.ndarray) -> np.ndarray:
  """(len(rows),) bool: without cancer, and hard to tell so.

  Raises:
    errors.DataError: `data.hard_weight` is of rows that are not there.
  """
  found = np.zeros(len(rows), bool)
  if 'difficult_negative_case' in c.data.hard_negatives:
    found |= data.table['difficult_negative_case'][rows] == 1
  if 'birads_0' in c.data.hard_negatives:
    found |= data.table['BIRADS'][rows] == 0
  # A cancer that is not known to be absent may be there.
  found &= data.table['cancer'][rows] == 0
  if c.data.hard_weight != 1 and not found.any():
    raise errors.DataError(
      f'data.hard_weight={c.data.hard_weight}: no row to train on is '
      + ' or '.join(c.data.hard_negatives)
      + ' without cancer: set it to 1'
    )
  return found


def _positive(data: dataset_lib.Dataset, rows: np.ndarray) -> np.ndarray:
  """(len(rows),) int64: 1 for cancer."""
  return (data.table['cancer'][rows] == 1).astype(np.int64)
