"""Versions of the model, and what is known of an image, as pages tell them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rsna_jax.serve.pages import words as words_lib

_SETS = ('original', 'submissions')
_FIGURES = ('roc_auc', 'average_precision', 'brier', 'log_loss')


def shown(
  t: words_lib.Words, versions: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """The versions, the latest first, with the rows of their comparisons.

  Args:
    t: the texts.
    versions: as `Desk.models` gives them.
  """
  return [
    {**one, 'rows': _rows(t, one['scores'] or {})}
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


def interval(value: Mapping[str, Any], sign: str = '') -> str:
  """A figure with its interval, where it has one.

  Args:
    value: value, low and high; any may be None.
    sign: '+' for a difference.
  """
  text = _number(value['value'], sign)
  if value.get('low') is not None and value.get('high') is not None:
    low, high = _number(value['low'], sign), _number(value['high'], sign)
    text += f' ({low} to {high})'
  return text


def _rows(
  t: words_lib.Words, scores: Mapping[str, Any]
) -> list[dict[str, Any]]:
  """A row for each figure of `promotion.Outcome.scores`, with its set first.

  Where a set had no case to judge by, it has no row.
  """
  found = []
  for part in _SETS:
    for reading, one in (scores.get(part) or {}).items():
      for i, name in enumerate(_FIGURES):
        figure = one['figures'].get(name)
        if figure is None:
          continue
        cases = {'n': one['n'], 'positives': one['positives']}
        found.append(
          {
            'set': t(f'score.{part}') if not i else '',
            'cases': t(f'score.{reading}', **cases) if not i else '',
            'figure': t(f'score.{name}'),
            'old': _number(figure['old']),
            'new': _number(figure['new']),
            'difference': interval(figure['difference'], '+'),
          }
        )
  return found


def _number(value: float | None, sign: str = '') -> str:
  return '–' if value is None else f'{value:{sign}.3f}'
