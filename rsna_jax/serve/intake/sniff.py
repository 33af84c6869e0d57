"""What a file is, by its first bytes and before anything decodes it.

It runs in the server itself, so it reads a few fields at fixed places and
follows nothing that the file says further than its own end.
"""

import pathlib
import re
import struct

from pydicom import uid

from rsna_jax.data import dicom, raster
from rsna_jax.serve import problems, settings

KINDS = ('dicom', 'png', 'jpeg', 'pgm')
# Deflated files are left to `rsna-jax prepare`: two megabytes hold two
# gigabytes, and nobody's scanner sends them.
TRANSFER_SYNTAXES = tuple(
  name
  for name in dicom.TRANSFER_SYNTAXES
  if name != uid.DeflatedExplicitVRLittleEndian
)
_SUFFIXES = {
  '.dcm': 'dicom',
  '.png': 'png',
  '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
  '.pgm': 'pgm',
}
_LEAST = 16  # bytes; nothing that is shorter has a picture in it
_PREAMBLE = 128
_META = 132
_META_BYTES = 1 << 16  # of the file meta information; it has some 200
# Explicit VRs whose length takes 4 bytes, after 2 of nothing (PS3.5 7.1.2).
_LONG = (b'OB', b'OD', b'OF', b'OL', b'OV', b'OW', b'SQ', b'UC', b'UN', b'UR')


def kind_of(data: bytes, limits: settings.Settings) -> str:
  """One of `KINDS`.

  Args:
    data: the whole file.
    limits: whose `file_bytes` count.

  Raises:
    problems.Problem: empty, too big, of another type, or a DICOM file that is
      not taken: with a preamble that is not empty, or in a transfer syntax
      outside `TRANSFER_SYNTAXES`.
  """
  if not data:
    raise problems.Problem('E_EMPTY', 'The file is empty: choose it again.')
  if len(data) > limits.file_bytes:
    raise problems.Problem(
      'E_SIZE',
      f'The file has {len(data) / 2**20:.1f} MiB, at most '
      f'{limits.file_bytes / 2**20:g} are taken: export it smaller.',
    )
  if len(data) < _LEAST:
    raise problems.Problem(
      'E_DAMAGED',
      f'The file has {len(data)} bytes, no picture is that small: copy it '
      'again.',
    )
  if data[_PREAMBLE:_META] == b'DICM':
    _check_dicom(data)
    return 'dicom'
  if not raster.is_raster(data[:16]):
    raise problems.Problem(
      'E_TYPE',
      'The content of the file is not that of a DICOM, PNG, JPEG or PGM image: '
      'export it as one of these.',
    )
  return {0x89: 'png', 0xFF: 'jpeg', 0x50: 'pgm'}[data[0]]


def shown_name(name: str) -> str:
  """A file's name for display alone: its last part, printable and short."""
  last = re.split(r'[/\\]', name)[-1]
  plain = ''.join(c if c.isalnum() or c in '._- ' else '_' for c in last)
  plain = ''.join(c for c in plain if c.isprintable()).strip(' .')
  return plain[-64:] or 'image'


def check_name(name: str, kind: str) -> str | None:
  """Compares a file's suffix with its content.

  Args:
    name: as the client gave it.
    kind: one of `KINDS`.

  Returns:
    A warning where the suffix is that of no image known here, else None.

  Raises:
    problems.Problem: the suffix is that of another kind of image.
  """
  suffix = pathlib.PurePath(shown_name(name)).suffix.lower()
  named = _SUFFIXES.get(suffix)
  if named == kind:
    return None
  if named is not None:
    raise problems.Problem(
      'E_UNUSABLE',
      f'The name of the file ends like that of a {_said(named)} image, and its '
      f'content is {_said(kind)}: rename it, or choose the one that was meant.',
    )
  # An UID, or a number, is how archives name their files.
  if not suffix or kind == 'dicom' or suffix[1:].isdigit():
    return None
  return f'The content is {_said(kind)}, whatever the name of the file says.'


def _said(kind: str) -> str:
  return kind.upper()


def _check_dicom(data: bytes) -> None:
  if len(data) == _META:
    raise problems.Problem(
      'E_DAMAGED', 'The DICOM file ends after its first bytes: copy it again.'
    )
  # A preamble may make one file two: a program, a page or a TIFF as well.
  if any(data[:_PREAMBLE]):
    raise problems.Problem(
      'E_PREAMBLE',
      'The first 128 bytes of the DICOM file are not empty: export it without '
      'a preamble.',
    )
  name = _transfer_syntax(data)
  if name is None:
    raise problems.Problem(
      'E_DAMAGED',
      'The file meta information of the DICOM file is damaged: export it '
      'again.',
    )
  if name not in TRANSFER_SYNTAXES:
    known = uid.UID(name).name if name in uid.UID_dictionary else 'unknown'
    raise problems.Problem(
      'E_TS',
      f'The transfer syntax of the DICOM file ({known}) is not read here: '
      'convert it to JPEG 2000, JPEG lossless, JPEG-LS, RLE or uncompressed.',
    )


def _transfer_syntax(data: bytes) -> str | None:
  """The UID of (0002,0010); '' where absent, None where the group is damaged.

  The group is in explicit VR and little-endian (PS3.10 7.1).
  """
  position, last = _META, 0
  while position + 8 <= min(len(data), _META_BYTES):
    group, element = struct.unpack_from('<HH', data, position)
    if group != 2:
      return '' if position > _META else None
    if element < last:
      return None
    last = element
    vr = data[position + 4 : position + 6]
    if vr in _LONG:
      if position + 12 > len(data):
        return None
      (length,) = struct.unpack_from('<L', data, position + 8)
      start = position + 12
    else:
      (length,) = struct.unpack_from('<H', data, position + 6)
      start = position + 8
    if start + length > len(data):
      return None
    if element == 0x10:
      value = data[start : start + min(length, 65)]
      return value.rstrip(b'\0 ').decode('ascii', 'replace')
    position = start + length
  return None
