"""Versions of the model, and what is known of an image, as pages tell them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rsna_jax.serve import words as words_lib


def shown(
  t: words_lib.Words, versions: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """The versions, the latest first, with their scores as pairs of texts.

  Args:
    t: the texts.
    versions: as `Desk.models` gives them.
  """
  return [
    {**one, 'figures': list(_figures(t, one['scores'] or {}))}
    for one in sorted(versions, key=lambda one: -one['number'])
  ]


def facts(answer: Mapping[str, Any]) -> dict[str, str]:
  """What is known of an image, as the fields of a form.

  Args:
    answer: of the image, of `answers.image_answer`.
  """
  return {
    'laterality': answer['laterality'] or '',
    'view': answer['view'] or '',
    'age': '' if answer['age'] is None else f'{answer["age"]:g}',
    'implant': '' if answer['implant'] is None else f'{answer["implant"]:g}',
  }


def _figures(
  t: words_lib.Words, scores: Mapping[str, Any], before: str = ''
) -> Iterator[tuple[str, str]]:
  """Each score with a name, those with an interval in one text."""
  for name, value in scores.items():
    key = f'{before}.{name}' if before else name
    said = t(f'score.{key}') if f'score.{key}' in t else key.replace('_', ' ')
    if isinstance(value, Mapping) and 'value' in value:
      yield said, _interval(value)
    elif isinstance(value, Mapping):
      yield from _figures(t, value, key)
    elif isinstance(value, int | float | str) and not isinstance(value, bool):
      yield said, f'{value:.3f}' if isinstance(value, float) else str(value)


def _interval(value: Mapping[str, Any]) -> str:
  if value['value'] is None:
    return '–'
  text = f'{value["value"]:.3f}'
  if value.get('low') is not None and value.get('high') is not None:
    text += f' ({value["low"]:.3f} to {value["high"]:.3f})'
  return text
