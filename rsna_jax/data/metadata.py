"""Columns of a test row as the numbers that a model takes beside the pixels.

Fitted on training rows alone and stored with the run, so that training,
prediction and serving encode alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsna_jax import errors, schema

# Knots of the age at these quantiles of the training rows, one hat function
# each: a linear model can bend there, and cancer does not grow linearly
# with age.
AGE_QUANTILES = (0.05, 0.5, 0.95)


class Encoder:
  """Columns -> (N, M) float32.

  `age` takes a standardised value (0 where missing), hat functions over knots
  (0 where missing), and a flag of missing ages. Every other column takes one
  slot for each category of the training rows, one for any other category, and
  one for a missing value; one of them is 1.

  Attributes:
    columns: the encoded columns, in order.
    names: name of each of the M slots, such as `age`, `age_hat_45`,
      `age_missing`, `view_MLO`, `view_unknown`, `view_missing`.
  """

  def __init__(
    self,
    columns: Sequence[str],
    *,
    age_mean: float = 0.0,
    age_sd: float = 1.0,
    age_knots: Sequence[float] = (),
    categories: Mapping[str, Sequence[int | str]] | None = None,
  ):
    """Takes what `fit` found.

    Raises:
      errors.ConfigError: a column that a test row does not have.
    """
    for name in columns:
      if name not in schema.METADATA_COLUMNS:
        raise errors.ConfigError(
          f'model.metadata={name!r}: choose from '
          + ', '.join(schema.METADATA_COLUMNS)
        )
    self.columns = tuple(columns)
    self.age_mean = age_mean
    self.age_sd = age_sd
    self.age_knots = tuple(age_knots)
    self.categories = {k: tuple(v) for k, v in (categories or {}).items()}
    names = []
    for name in self.columns:
      if name == 'age':
        hats = [f'age_hat_{knot:g}' for knot in self.age_knots]
        names += ['age', *hats, 'age_missing']
      else:
        slots = (*self.categories[name], 'unknown', 'missing')
        names += [f'{name}_{slot}' for slot in slots]
    self.names = tuple(names)

  @classmethod
  def fit(
    cls, table: Mapping[str, np.ndarray], columns: Sequence[str]
  ) -> 'Encoder':
    """Encoder of the ages and categories of training rows.

    Args:
      table: a Table, or a mapping of column names to (N,) arrays.
      columns: from `schema.METADATA_COLUMNS`; none is a width of 0.

    Raises:
      errors.ConfigError: a column that a test row does not have.
    """
    fitted: dict[str, Any] = {'categories': {}}
    for name in columns:
      if name not in schema.METADATA_COLUMNS:
        continue  # the constructor says which there are
      values = table[name]
      if name == 'age':
        ages = values[~np.isnan(values)].astype(np.float64)
        if ages.size:
          # Where all ages are equal, they say nothing, whatever the scale.
          fitted['age_mean'] = float(ages.mean())
          fitted['age_sd'] = float(ages.std()) or 1.0
          knots = np.unique(np.quantile(ages, AGE_QUANTILES))
          fitted['age_knots'] = knots.tolist() if len(knots) > 1 else []
      else:
        known = np.unique(values[values != _missing(name)])
        fitted['categories'][name] = known.tolist()
    return cls(columns, **fitted)

  @property
  def width(self) -> int:
    """M, the number of slots."""
    return len(self.names)

  def encode(self, table: Mapping[str, np.ndarray]) -> np.ndarray:
    """Encodes rows.

    Args:
      table: a Table, or a mapping of column names to (N,) arrays.

    Returns:
      (N, M) float32, M being `width`, finite throughout.
    """
    blocks = [np.zeros((len(table['image_id']), 0), np.float32)]
    for name in self.columns:
      encode = self._encode_age if name == 'age' else self._encode_categories
      blocks.append(encode(name, table[name]))
    return np.concatenate(blocks, axis=1)

  def to_json(self) -> dict[str, Any]:
    """A dict that JSON holds exactly and `from_json` reads."""
    return {
      'columns': list(self.columns),
      'age_mean': self.age_mean,
      'age_sd': self.age_sd,
      'age_knots': list(self.age_knots),
      'categories': {k: list(v) for k, v in self.categories.items()},
    }

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> 'Encoder':
    """The encoder that `to_json` wrote.

    Raises:
      errors.RunError: a field is missing or unknown.
    """
    try:
      return cls(**value)
    except (TypeError, KeyError) as error:
      raise errors.RunError(
        f'encoder of the metadata: {error}: it is not of this version; train '
        'again'
      ) from error

  def _encode_age(self, name: str, ages: np.ndarray) -> np.ndarray:
    missing = np.isnan(ages)
    known = np.where(missing, self.age_mean, ages).astype(np.float64)
    out = [np.where(missing, 0, (known - self.age_mean) / self.age_sd)]
    knots = np.array(self.age_knots)
    for hat in np.eye(len(knots)):
      # Constant beyond the outer knots, so that odd ages do not extrapolate.
      out.append(np.where(missing, 0, np.interp(known, knots, hat)))
    out.append(missing)
    return np.stack(out, axis=1).astype(np.float32)

  def _encode_categories(self, name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    known = [values == category for category in self.categories[name]]
    missing = values == _missing(name)
    seen = np.any([missing, *known], axis=0)
    return np.stack([*known, ~seen, missing], axis=1).astype(np.float32)


def _missing(name: str) -> int | str:
  return '' if schema.COLUMNS[name].kind == 'U' else schema.MISSING
