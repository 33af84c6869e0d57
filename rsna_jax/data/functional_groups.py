"""What multi-frame objects say frame by frame (PS3.3 C.7.6.16).

Of a thousand frames one item is parsed, so a volume may be read frame by frame
at a cost that does not grow with it; and what is parsed is bounded.
"""

import io
import struct

import pydicom
from pydicom import dataelem, filereader, tag

from rsna_jax.data import header_values

MAX_ELEMENTS = 2_000  # of one item; a frame of a mammogram has some 50
MACROS = (
  'FrameVOILUTSequence',
  'PixelValueTransformationSequence',
  'PixelMeasuresSequence',
  'FrameAnatomySequence',
  'ViewCodeSequence',
)
_ITEM = (0xFFFE, 0xE000)
_UNDEFINED = 0xFFFFFFFF


def of(header: pydicom.Dataset, frame: int) -> tuple[pydicom.Dataset, ...]:
  """The functional groups of a frame: its own ones, then those it shares.

  Args:
    header: with the elements PerFrame- and SharedFunctionalGroupsSequence, or
      without them: then there are none.
    frame: number of the frame, from 0.

  Raises:
    HeaderError: absurdly many elements.
  """
  found = (
    item(header, 'PerFrameFunctionalGroupsSequence', frame, MACROS),
    item(header, 'SharedFunctionalGroupsSequence', 0, MACROS),
  )
  return tuple(groups for groups in found if groups is not None)


def macro(
  groups: tuple[pydicom.Dataset, ...], keyword: str
) -> pydicom.Dataset | None:
  """The first item of the first functional group of that name that has one."""
  for group in groups:
    found = item(group, keyword)
    if found is not None and len(found):
      return found
  return None


def item(
  dataset: pydicom.Dataset,
  keyword: str,
  index: int = 0,
  keywords: tuple[str, ...] = (),
) -> pydicom.Dataset | None:
  """One item of a sequence, the others unparsed where their lengths allow.

  Args:
    dataset: that holds the sequence.
    keyword: of the sequence.
    index: of the item, from 0.
    keywords: of the only elements to keep of it; none: all.

  Raises:
    HeaderError: absurdly many elements.
  """
  if keyword not in dataset:
    return None
  element = dataset.get_item(keyword)
  if isinstance(element, dataelem.RawDataElement) and element.value is not None:
    found = _raw_item(element, index, keywords)
    if found is not _UNDEFINED:
      return found
  # Lengths are left open: pydicom has parsed, or has to parse, all of it.
  items = dataset.get(keyword)
  if not isinstance(items, pydicom.Sequence) or index >= len(items):
    return None
  return items[index]


def _raw_item(
  element: dataelem.RawDataElement, index: int, keywords: tuple[str, ...]
) -> pydicom.Dataset | int | None:
  order = '<' if element.is_little_endian else '>'
  data, position = element.value, 0
  for _ in range(index + 1):
    if position + 8 > len(data):
      return None
    group, number, length = struct.unpack_from(f'{order}HHL', data, position)
    if (group, number) != _ITEM:
      return None
    if length == _UNDEFINED:
      return _UNDEFINED
    start, position = position + 8, position + 8 + length
  count = 0

  def too_many(*_) -> bool:
    nonlocal count
    count += 1
    if count > MAX_ELEMENTS:
      raise header_values.HeaderError(
        f'more than {MAX_ELEMENTS} elements in an item of a sequence',
        about='elements',
      )
    return False

  return filereader.read_dataset(
    io.BytesIO(data[start:position]),
    # What has no known type is written in implicit VR (PS3.5 6.2.2).
    element.is_implicit_VR or element.VR == 'UN',
    element.is_little_endian,
    stop_when=too_many,
    specific_tags=[tag.Tag(word) for word in keywords] or None,
    at_top_level=False,
  )
