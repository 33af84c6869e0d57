"""The texts of the page: one JSON file a language, English where one lacks.

A translation is a further file in texts/, named by its language (`de.json`);
nothing else has to change.
"""

import functools
import json
import pathlib
from typing import Any

_FOLDER = pathlib.Path(__file__).parent / 'texts'
_ENGLISH = 'en'


class Words:
  """The texts of one language.

  Attributes:
    language: as in an `html lang`.
  """

  def __init__(self, language: str = _ENGLISH):
    """Reads the language's file.

    Args:
      language: one of `languages()`.
    """
    self.language = language
    self._texts = {**_read(_ENGLISH), **_read(language)}

  def __call__(self, key: str, **values: Any) -> str:
    """The text of a key, with its values put in; plain, not HTML.

    Where `n` is 1 and there is a text `<key>.one`, it is taken.

    Raises:
      KeyError: no language has it.
    """
    if values.get('n') == 1 and f'{key}.one' in self._texts:
      key = f'{key}.one'
    text = self._texts[key]
    return text.format(**values) if values else text

  def __contains__(self, key: str) -> bool:
    return key in self._texts


def languages() -> tuple[str, ...]:
  """What there are files for; English first."""
  found = sorted(path.stem for path in _FOLDER.glob('*.json'))
  return (_ENGLISH, *(name for name in found if name != _ENGLISH))


@functools.cache
def of(language: str) -> Words:
  """The texts of a language, read once."""
  return Words(language)


def choose(accepted: str | None) -> Words:
  """The texts in the language that a browser likes best, of those there are.

  Args:
    accepted: the header Accept-Language (RFC 9110, 12.5.4), or None.
  """
  wanted = []
  for i, part in enumerate((accepted or '')[:1000].split(',')):
    name, _, weight = part.partition(';q=')
    try:
      share = float(weight or 1)
    except ValueError:
      share = 0.0
    wanted.append((-share, i, name.strip().lower().split('-')[0]))
  known = languages()
  for share, _, name in sorted(wanted):
    if name in known and share < 0:
      return of(name)
  return of(_ENGLISH)


@functools.cache
def _read(language: str) -> dict[str, str]:
  path = _FOLDER / f'{language}.json'
  return json.loads(path.read_text(encoding='utf-8'))
