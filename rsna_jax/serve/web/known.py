"""What a person says of the images that they upload."""

import math
from typing import Any

from rsna_jax import schema
from rsna_jax.serve import problems
from rsna_jax.serve.web import forms

MOST_YEARS = 120
_YES_NO = {'0': 0, 'no': 0, 'false': 0, '1': 1, 'yes': 1, 'true': 1}


def of_files(form: forms.Form) -> list[dict[str, Any]]:
  """The metadata of each file of a form.

  Each of age, implant, view and laterality may be given not at all, once for
  all files, or once for each, in their order; empty is not known.

  Raises:
    problems.Problem: E_FIELD, naming the field.
  """
  found: list[dict[str, Any]] = [{} for _ in form.files]
  for name, parse in _PARSERS.items():
    texts = form.fields.get(name, [])
    if len(texts) == 1:
      texts = texts * len(found)
    if texts and len(texts) != len(found):
      raise problems.Problem(
        'E_FIELD',
        f'{name}: {len(texts)} values for {len(found)} files; give one for all '
        'or one for each.',
      )
    for one, text in zip(found, texts, strict=False):
      if text.strip():
        one[name] = parse(text.strip())
  return found


def value(name: str, given: Any) -> Any:
  """One value, checked; None where it is not known.

  Args:
    name: age | implant | view | laterality.
    given: a text or a number; None and the empty text are not known.

  Raises:
    problems.Problem: E_FIELD, naming the field.
  """
  if given is None or given == '':
    return None
  return _PARSERS[name](str(given).strip()[:32])


def _age(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 < value <= MOST_YEARS:
    raise _bad('age', f'years, more than 0 and at most {MOST_YEARS}')
  return value


def _implant(text: str) -> int:
  if text.lower() not in _YES_NO:
    raise _bad('implant', '1 or 0, yes or no')
  return _YES_NO[text.lower()]


def _view(text: str) -> str:
  if text.upper() not in schema.VIEWS:
    raise _bad('view', ', '.join(schema.VIEWS))
  return text.upper()


def _laterality(text: str) -> str:
  if text.upper() not in schema.LATERALITIES:
    raise _bad('laterality', ' or '.join(schema.LATERALITIES))
  return text.upper()


_PARSERS = {
  'age': _age,
  'implant': _implant,
  'view': _view,
  'laterality': _laterality,
}


def _bad(name: str, how: str) -> problems.Problem:
  return problems.Problem(
    'E_FIELD', f'{name}: give {how}, or leave it out where it is not known.'
  )
