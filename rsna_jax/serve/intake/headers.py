"""What a DICOM header says that a picture cannot: that it is no mammogram.

Headers are often silent, and RSNA's are; so only what names something else
refuses a file, and `gate.py` judges the picture.
"""

import pydicom

from rsna_jax.data import dicom, header_values

_STORAGE = '1.2.840.10008.5.1.4.1.1.'
# Mammography, digital X-ray, computed radiography, secondary capture, breast
# projection (PS3.4 B.5).
_CLASSES = tuple(
  _STORAGE + end
  for end in (
    '1',
    '1.1',
    '1.1.1',
    '1.2',
    '1.2.1',
    '7',
    '7.1',
    '7.2',
    '7.3',
    '7.4',
    '13.1.4',
    '13.1.5',
  )
)
# Of PS3.16 annex L, those that radiographs are made of.
_OTHER_PARTS = (
  ' ABDOMEN ABDOMENPELVIS ANKLE ARM BRAIN CALCANEUS CAROTID CHEST '
  'CHESTABDOMEN CLAVICLE COCCYX CSPINE CTSPINE ELBOW EXTREMITY EYE FACE '
  'FEMUR FINGER FOOT FOREARM HAND HEAD HEADNECK HEART HIP HUMERUS JAW KNEE '
  'LEG LIVER LSPINE LSSPINE LUMBAR MANDIBLE MAXILLA NASALBONE NECK ORBIT '
  'PATELLA PELVIS RIB RIBS SACRUM SCAPULA SHOULDER SINUS SKULL SPINE SSPINE '
  'STERNUM TIBIA TIBIAFIBULA TLSPINE TMJ TOE TOOTH TSPINE WHOLEBODY WRIST '
  'ZYGOMA '
)
_OTHER_IMAGES = ('LOCALIZER', 'SCOUT')


def reason(header: pydicom.Dataset) -> str | None:
  """Why a file is no mammogram by its own words; None where it may be one.

  Args:
    header: the elements of `dicom_header.KEYWORDS`, as far as there are any.
  """
  modality = header_values.text(header, 'Modality').upper()
  if modality and modality not in dicom.MODALITIES:
    return (
      'The DICOM file says that it is of another modality: give a mammogram '
      '(MG, DX or CR).'
    )
  named = header_values.text(header, 'SOPClassUID')
  if named.startswith(_STORAGE) and named not in _CLASSES:
    return (
      'The DICOM file is an object of another kind (SOPClassUID): give a '
      'mammogram.'
    )
  part = header_values.text(header, 'BodyPartExamined').upper()
  part = part.replace(' ', '').replace('_', '')
  if part and f' {part} ' in _OTHER_PARTS:
    return 'The DICOM file says that it shows another part of the body.'
  kinds = header.get('ImageType') or ()
  kinds = [kinds] if isinstance(kinds, str) else list(kinds)
  if any(str(kind).upper() in _OTHER_IMAGES for kind in kinds):
    return 'The DICOM file is a localizer: give a mammogram.'
  return None


def burned_in(header: pydicom.Dataset) -> bool:
  """Whether the file says that its picture has text in it."""
  return header_values.text(header, 'BurnedInAnnotation').upper() == 'YES'
