"""Reporting checklists, answered from a run: CLAIM, TRIPOD+AI and STARD-AI.

What a program knows it answers, with a pointer; what it cannot know it leaves
to the authors by name. The items are in our own words: the checklists
themselves are to be read at their publishers.
"""

import functools
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

KINDS = ('report', 'config', 'not applicable', 'authors')
_TEXTS = pathlib.Path(__file__).with_name('checklists.json')


@functools.cache
def lists() -> tuple[dict, ...]:
  """The checklists as they stand beside this file, not yet answered."""
  return tuple(json.loads(_TEXTS.read_text(encoding='utf-8')))


def answer(
  sections: Mapping[str, str], config: Mapping[str, str]
) -> list[dict[str, Any]]:
  """Answers every item.

  Args:
    sections: id -> title of the sections that the page has.
    config: name of a field, as in 'data.size' -> its value as text.

  Returns:
    {'name', 'about', 'counts' (kind -> items), 'items'} for each checklist; an
    item is {'id', 'asks', 'answer' (one of `KINDS`), 'section' (the id, with
    'report' alone, else None), 'text'}.
  """
  found = []
  for one in lists():
    items = [_answered(item, sections, config) for item in one['items']]
    found.append(
      {
        'name': one['name'],
        'about': one['about'],
        'counts': {
          kind: sum(item['answer'] == kind for item in items) for kind in KINDS
        },
        'items': items,
      }
    )
  return found


def missing(
  present: Collection[str], wanted: Sequence[str], titles: Mapping[str, str]
) -> list[str]:
  """Titles of the sections that a full report has and this one lacks."""
  return [titles[name] for name in wanted if name not in present]


def _answered(item: Mapping, sections: Mapping, config: Mapping) -> dict:
  kind, section = item['answer'], None
  if kind == 'report':
    wanted = (item['section'], item.get('otherwise_section'))
    section = next((name for name in wanted if name in sections), None)
    note = item.get('note', '')
    if section is None:
      kind, text = 'authors', 'this evaluation did not compute it'
      if note:
        text += f' ({note})'
    else:
      text = note or f'see {sections[section]}'
  elif kind == 'config':
    known = [name for name in item['fields'] if name in config]
    text = '; '.join(f'{name} = {config[name]}' for name in known)
    if not known:
      kind, text = 'authors', 'the config of the run is not at hand'
  else:
    text = item['because' if kind == 'not applicable' else 'note']
  return {
    'id': item['id'],
    'asks': item['asks'],
    'answer': kind,
    'section': section,
    'text': text,
  }
