"""What a person says of a picture; a field that is wrong is named."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from rsna_jax import schema
from rsna_jax.data import cells
from rsna_jax.serve import problems
from rsna_jax.serve.store import tables

_PATIENT = re.compile(r'[A-Za-z0-9._-]{0,64}')
_CONTROL = re.compile(
  r'[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]'
)
_DENSITIES = {
  text: value
  for value, letter in enumerate(schema.DENSITIES, 1)
  for text in (letter, letter.lower(), str(value))
}
_CANCERS = {'0': 0, '1': 1, 'benign': 0, 'malignant': 1}
_YES = {'true': True, 'on': True, 'yes': True, '1': True}
_NO = {'false': False, 'off': False, 'no': False, '0': False, '': False}
_REQUIRED = object()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
  """Labels of a picture, as its contributor gave them.

  Attributes:
    density: 1 to 4; None: not known.
    cancer: 0 or 1; None: not known. One of the two is.
    evidence: biopsy | opinion.
    confidence: 1 (a guess) to 5 (certain).
    patient: a name of the contributor's own choice that says nothing of the
      person; pictures of one patient have to have the same. '': each its own.
    text_checked: a person has looked, and there is no text in the picture.
    note: up to 500 characters.
  """

  density: int | None
  cancer: int | None
  evidence: str
  confidence: int
  patient: str = ''
  text_checked: bool = False
  note: str = ''

  @classmethod
  def parse(cls, fields: Mapping[str, Any]) -> 'Labels':
    """Labels from the fields of a form or of a JSON object.

    Args:
      fields: texts, or values of JSON; density may be A to D, cancer benign or
        malignant. An empty text is as good as no field.

    Raises:
      problems.Problem: E_FIELD, the first field that is wrong.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    for name in fields:
      if name not in known:
        raise _problem(
          'labels',
          f'there is no field {str(name)[:40]!r}; give '
          + ', '.join(sorted(known)),
        )
    found = cls(
      density=_choice(fields, 'density', _DENSITIES, 'A to D, or 1 to 4', None),
      cancer=_choice(fields, 'cancer', _CANCERS, 'benign or malignant', None),
      evidence=_choice(
        fields, 'evidence', {e: e for e in tables.EVIDENCE}, 'biopsy or opinion'
      ),
      confidence=_choice(
        fields, 'confidence', {str(n): n for n in range(1, 6)}, '1 to 5'
      ),
      patient=_patient(fields),
      text_checked=_choice(
        fields, 'text_checked', _YES | _NO, 'true or false', False
      ),
      note=_note(fields),
    )
    if found.density is None and found.cancer is None:
      raise _problem('density', 'give it, or cancer, or both')
    if not found.text_checked:
      raise _problem(
        'text_checked', 'look at the image, and confirm that it holds no text'
      )
    return found


def parse_attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
  """laterality, view, age and implant, checked; '' or None where not known.

  Args:
    fields: texts, numbers, or None; other attributes are passed over.

  Raises:
    problems.Problem: E_FIELD, the first one that is wrong.
  """
  found: dict[str, Any] = {}
  for name in ('laterality', 'view', 'age', 'implant'):
    value = fields.get(name)
    missing = '' if name in ('laterality', 'view') else None
    if value in (None, '', schema.MISSING) or value != value:
      found[name] = missing
      continue
    if not isinstance(value, str | int | float):
      raise _problem(name, 'a text or a number')
    try:
      if name == 'laterality' and str(value).strip() not in schema.LATERALITIES:
        raise cells.CellError('choose L or R, or nothing')
      value = cells.parse(name, str(value))
    except cells.CellError as error:
      raise _problem(name, str(error)) from error
    known = value != schema.MISSING and value == value
    found[name] = value if known else missing
  return found


def _choice(
  fields: Mapping[str, Any],
  name: str,
  choices: Mapping[str, Any],
  said: str,
  default: Any = _REQUIRED,
) -> Any:
  value = fields.get(name)
  if value is None or value == '':
    if default is _REQUIRED:
      raise _problem(name, f'missing: choose {said}')
    return default
  if isinstance(value, bool):
    # As a number true is 1, but it is no density.
    text = str(value).lower() if 'true' in choices else None
  elif isinstance(value, int | str):
    text = str(value).strip()[:16]
  else:
    text = None
  if text is None or text not in choices:
    raise _problem(name, f'choose {said}')
  return choices[text]


def _patient(fields: Mapping[str, Any]) -> str:
  value = fields.get('patient')
  value = '' if value is None else value
  if isinstance(value, int) and not isinstance(value, bool):
    value = str(value)
  if not isinstance(value, str) or not _PATIENT.fullmatch(value):
    raise _problem(
      'patient',
      'up to 64 letters, digits, dots, underscores and hyphens: a name that '
      'you made up, nothing of the person',
    )
  return value


def _note(fields: Mapping[str, Any]) -> str:
  value = fields.get('note')
  value = '' if value is None else value
  if not isinstance(value, str) or len(value) > tables.NOTE_LENGTH:
    raise _problem('note', f'a text of up to {tables.NOTE_LENGTH} characters')
  try:
    value.encode('utf-8')
  except UnicodeEncodeError as error:
    raise _problem('note', 'a text without broken characters') from error
  return _CONTROL.sub(' ', value).strip()


def _problem(name: str, remedy: str) -> problems.Problem:
  return problems.Problem('E_FIELD', f'{name}: {remedy}.')
