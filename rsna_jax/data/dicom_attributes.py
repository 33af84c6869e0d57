"""The few elements of a DICOM header that are allowed to leave it.

Numbers and words from closed lists only: never a name, a date or free text.
"""

from collections.abc import Iterator
from typing import Any

import pydicom

from rsna_jax.data import functional_groups, header_values

KEYWORDS = (
  'PatientID',
  'PatientAge',
  'InstanceNumber',
  'ImageLaterality',
  'Laterality',
  'ViewPosition',
  'ViewCodeSequence',
  'SliceThickness',
  'BreastImplantPresent',
)
# PS3.16 CID 4014, in SNOMED CT and in the older SNOMED RT, whose designator is
# SRT or SNM3. The short names are those of ACR.
VIEWS = {
  '399260004': 'ML',
  'R-10224': 'ML',
  '399368009': 'MLO',
  'R-10226': 'MLO',
  '399352003': 'LM',
  'R-10228': 'LM',
  '399099002': 'LMO',
  'R-10230': 'LMO',
  '399162004': 'CC',
  'R-10242': 'CC',
  '399196006': 'FB',
  'R-10244': 'FB',
  '399188001': 'SIO',
  'R-102D0': 'SIO',
  '441555000': 'ISO',
  'R-40AAA': 'ISO',
  '399192008': 'XCCL',
  'R-1024A': 'XCCL',
  'Y-X1770': 'XCCL',
  '399101009': 'XCCM',
  'R-1024B': 'XCCM',
  'Y-X1771': 'XCCM',
  '399265009': 'XCC',
  'R-102CF': 'XCC',
}
# Of CID 4015, the modifier that names a view of its own.
_AXILLARY_TAIL = ('399011000', 'R-102D1')
_YEARS = {'Y': 1.0, 'M': 1 / 12, 'W': 7 / 365.25, 'D': 1 / 365.25}


def attributes(
  header: pydicom.Dataset, groups: tuple[pydicom.Dataset, ...] = ()
) -> dict[str, Any]:
  """Plain values, those alone that are there.

  Args:
    header: the elements of `KEYWORDS`, as far as there are any.
    groups: the functional groups of the frame, where the object has frames.

  Returns:
    Any of `patient_id`, `image_id`, `laterality`, `view`, `age` (years),
    `implant` (0 or 1), `slice_thickness` (mm).
  """
  found: dict[str, Any] = {}
  patient = header_values.text(header, 'PatientID')[:64]
  if patient:
    found['patient_id'] = int(patient) if _is_integer(patient) else patient
  image = header_values.text(header, 'InstanceNumber')
  if _is_integer(image):
    found['image_id'] = int(image)
  for side in _sides(header, groups):
    if side in ('L', 'R'):
      found['laterality'] = side
      break
  view = header_values.text(header, 'ViewPosition').upper()
  if not (view.isalnum() and view.isascii() and len(view) <= 8):
    view = _coded_view(header, groups)
  if view:
    found['view'] = view
  age = header_values.text(header, 'PatientAge').upper()
  if age[:-1].isdecimal() and len(age) <= 4 and age[-1] in _YEARS:
    found['age'] = int(age[:-1]) * _YEARS[age[-1]]
  implant = header_values.text(header, 'BreastImplantPresent').upper()
  if implant in ('YES', 'NO'):
    found['implant'] = int(implant == 'YES')
  measures = functional_groups.macro(groups, 'PixelMeasuresSequence')
  thickness = header_values.numbers(
    header if measures is None else measures, 'SliceThickness'
  )
  if thickness and 0 < thickness[0] < 1000:
    found['slice_thickness'] = thickness[0]
  return found


def _sides(
  header: pydicom.Dataset, groups: tuple[pydicom.Dataset, ...]
) -> Iterator[str]:
  yield header_values.text(header, 'ImageLaterality').upper()
  yield header_values.text(header, 'Laterality').upper()
  anatomy = functional_groups.macro(groups, 'FrameAnatomySequence')
  if anatomy is not None:
    yield header_values.text(anatomy, 'FrameLaterality').upper()


def _coded_view(
  header: pydicom.Dataset, groups: tuple[pydicom.Dataset, ...]
) -> str:
  """The view as a code (PS3.3 C.8.11.7, C.8.21.6); '' for none or another."""
  code = functional_groups.macro((header, *groups), 'ViewCodeSequence')
  if code is None:
    return ''
  modifier = functional_groups.item(code, 'ViewModifierCodeSequence')
  if (
    modifier is not None
    and header_values.text(modifier, 'CodeValue') in _AXILLARY_TAIL
  ):
    return 'AT'
  return VIEWS.get(header_values.text(code, 'CodeValue'), '')


def _is_integer(text: str) -> bool:
  return text.isascii() and text.isdecimal() and len(text) <= 18
