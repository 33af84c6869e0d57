"""One cell of train.csv or test.csv as a typed value, and back.

Kept from `data/table.py` so that what a column may hold stands in one place.
"""

import re
from collections.abc import Callable

import numpy as np

from rsna_jax import schema

MAX_ID = 2**31
MAX_AGE_YEARS = 120
# Of the table itself or of its folder layout, or the row says nothing.
REQUIRED = ('patient_id', 'image_id', 'laterality')

_MISSING_TEXTS = frozenset({'', 'nan', 'na', 'none', 'null', '<na>'})
# pandas writes an integer column that has gaps as 0.0.
_INTEGER = re.compile(r'(0|[1-9][0-9]{0,18})(\.0*)?')
_NUMBER = re.compile(r'[0-9]{1,6}(\.[0-9]{0,12})?')
_FLAGS = {'True': 1, 'False': 0, 'true': 1, 'false': 0, 'TRUE': 1, 'FALSE': 0}


class CellError(ValueError):
  """What a cell has to hold instead, without its name and value."""


def parse(column: str, text: str):
  """Value of a cell.

  Args:
    column: a key of `schema.COLUMNS`.
    text: what stands in the file, spaces around it allowed.

  Returns:
    int, float or str as the column's dtype wants; where the cell is empty
    the missing value of that dtype.

  Raises:
    CellError: the text is not what the column holds.
  """
  text = text.strip()
  if text.lower() in _MISSING_TEXTS:
    if column in REQUIRED:
      raise CellError('missing: give one, every row needs it')
    return missing(column)
  return _PARSERS[column](text)


def missing(column: str):
  """The missing value of a column: -1, NaN or the empty string."""
  kind = schema.COLUMNS[column].kind
  return {'i': schema.MISSING, 'f': float('nan'), 'U': ''}[kind]


def text_of(column: str, value) -> str:
  """The cell that `parse` reads back as `value`, written as RSNA writes it."""
  if value == schema.MISSING or value != value:
    return ''
  if column == 'age':
    # The shortest decimal that is the same float32: 61, not 61.0.
    return np.format_float_positional(np.float32(value), trim='-')
  if column == 'density':
    return schema.DENSITIES[value - 1]
  if column == 'difficult_negative_case':
    return str(bool(value))
  return str(value)


def _integer(low: int, high: int, remedy: str) -> Callable[[str], int]:
  def parse_integer(text: str) -> int:
    found = _INTEGER.fullmatch(text)
    if not found or not low <= int(found[1]) <= high:
      raise CellError(remedy)
    return int(found[1])

  return parse_integer


def _choice(choices: tuple[str, ...]) -> Callable[[str], str]:
  def parse_choice(text: str) -> str:
    if text not in choices:
      raise CellError('choose ' + ', '.join(choices))
    return text

  return parse_choice


def _flag(text: str) -> int:
  if text in _FLAGS:
    return _FLAGS[text]
  return _integer(0, 1, 'write 0 or 1 (or True, False)')(text)


def _age(text: str) -> float:
  if not _NUMBER.fullmatch(text) or not float(text) <= MAX_AGE_YEARS:
    raise CellError(f'a number of years from 0 to {MAX_AGE_YEARS}, or nothing')
  return float(text)


def _density(text: str) -> int:
  if text in schema.DENSITIES:
    return schema.DENSITIES.index(text) + 1
  return _integer(1, 4, 'choose A, B, C, D (or 1 to 4), or nothing')(text)


_id = _integer(
  0,
  MAX_ID,
  f'a whole number from 0 to {MAX_ID} without leading zeros; a file or folder '
  'is named after it, so no letters, dots or slashes',
)
_code = _integer(0, MAX_ID, f'a whole number from 0 to {MAX_ID}, or nothing')

_PARSERS = {
  'site_id': _code,
  'patient_id': _id,
  'image_id': _id,
  'laterality': _choice(schema.LATERALITIES),
  'view': _choice(schema.VIEWS),
  'age': _age,
  'cancer': _flag,
  'biopsy': _flag,
  'invasive': _flag,
  'BIRADS': _integer(0, 6, 'a BI-RADS category from 0 to 6, or nothing'),
  'implant': _flag,
  'density': _density,
  'machine_id': _code,
  'difficult_negative_case': _flag,
  # Compared with patient_id and laterality by the table, which has both.
  'prediction_id': str,
}
