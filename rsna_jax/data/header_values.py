"""Values of DICOM elements that nobody vouches for: numbers, texts and LUTs.

What a viewer could not use counts as absent here; what decides how much memory
is taken is asked for with `number`, which raises.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pydicom

from rsna_jax import errors
from rsna_jax.data import mammogram

_ABOUT = {'Rows': 'size', 'Columns': 'size', 'NumberOfFrames': 'frames'}


class HeaderError(errors.Told):
  """A header that no mammogram has."""


def number(
  header: pydicom.Dataset, keyword: str, default: int | None = None
) -> int:
  """The integer of an element that has to be sound.

  Raises:
    HeaderError: it is none, or missing and without a default.
  """
  try:
    value = header.get(keyword)
    return int(default if value in (None, '') else value)
  # pydicom converts a value when it is asked for, with errors of many kinds.
  except Exception as error:
    raise HeaderError(
      f'{keyword} is missing or is no number', about=_ABOUT.get(keyword, 'bits')
    ) from error


def floats(header: pydicom.Dataset, keyword: str) -> list[float]:
  """All numbers of an element, NaN where one is none; empty where absent."""
  try:
    value = header.get(keyword)
  except Exception:
    return []
  if value is None or value == '':
    return []
  if isinstance(value, str | bytes) or not isinstance(value, Iterable):
    value = [value]
  return [_float(item) for item in value]


def numbers(header: pydicom.Dataset, keyword: str) -> list[float]:
  """The finite numbers of an element, up to the first that is none."""
  return list(itertools.takewhile(math.isfinite, floats(header, keyword)))


def text(header: pydicom.Dataset, keyword: str) -> str:
  """The text of an element without its padding; '' where absent or binary."""
  try:
    value = header.get(keyword)
  except Exception:
    return ''
  return clean(value)


def clean(value: Any) -> str:
  """A value as text without padding; '' for none and for bytes."""
  if value is None or isinstance(value, bytes):
    return ''
  return str(value).strip('\0 \t\r\n')


def one_of(
  header: pydicom.Dataset, keyword: str, choices: tuple[str, ...]
) -> str:
  """An enumerated value; the first choice where it is none of them."""
  found = text(header, keyword).upper()
  return found if found in choices else choices[0]


def luts(
  header: pydicom.Dataset, keyword: str, negative: bool
) -> tuple[mammogram.Lut, ...]:
  """The usable items of a modality or VOI LUT sequence (PS3.3 C.11.1.1.1).

  Args:
    header: that holds the sequence.
    keyword: of the sequence.
    negative: whether the LUT's input can be negative, so that the first input
      value mapped is signed.
  """
  found = []
  for item in header.get(keyword) or ():
    descriptor = [int(v) for v in numbers(item, 'LUTDescriptor')]
    if len(descriptor) != 3:
      continue
    count, first, bits = descriptor
    # A count of 2 ** 16 is written as 0, and any other as unsigned.
    count = (count % (1 << 16)) or 1 << 16
    first %= 1 << 16
    if negative and first > 0x7FFF:
      first -= 1 << 16
    values = lut_values(item, 'LUTData', count)
    if values is not None and 8 <= bits <= 16:
      found.append(
        mammogram.Lut(first=first, values=values.astype(np.float64), bits=bits)
      )
  return tuple(found)


def lut_values(
  item: pydicom.Dataset, keyword: str, count: int
) -> np.ndarray | None:
  """(count,) uint16 entries of a LUT; None where it has not that many.

  Entries of 8 bits may take a byte or a word each, which the length alone
  tells (PS3.3 C.11.2.1.1).
  """
  data = item.get(keyword)
  if data is None:
    return None
  if isinstance(data, bytes | bytearray):
    # pydicom swaps the words of US and SS, and leaves those of OW as they are.
    order = '>' if item.original_encoding[1] is False else '<'
    wide = len(data) >= 2 * count
    values = np.frombuffer(
      data[: len(data) & ~1 if wide else None], f'{order}u2' if wide else 'u1'
    )
  else:
    values = np.atleast_1d(np.asarray(data))
  if values.ndim != 1 or values.dtype.kind not in 'iu' or len(values) < count:
    return None
  return (values[:count].astype(np.int64) % (1 << 16)).astype(np.uint16)


def _float(value: Any) -> float:
  try:
    return float(value)
  except (TypeError, ValueError, OverflowError):
    return math.nan
